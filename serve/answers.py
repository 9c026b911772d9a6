"""Questions to answers over one generation: what the calls say, without any HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pinsage.cluster.run_config import ServeConfig
from pinsage.graph.schema import ITEM_KEY, ITEMS_FILE
from pinsage.retrieval import Index
from pinsage.retrieval.exact import ExactIndex
from serve.embedding import Embedder
from serve.filters import FilterError, Filters
from serve.generation import Generation
from serve.homefeed import feed, recent_items
from serve.maps import map_text
from serve.metrics import Metrics
from serve.problems import invalid, unknown_items
from serve.related import EVERYTHING, PINSAGE, ByEmbedding, Method, Related, Wanted, methods_of
from serve.replies import ItemTexts, similar_text
from serve.schemas import GenerationInfo, Item, MethodInfo
from serve.schemas_embed import EmbedNeighbor, EmbedReply, EmbedRequest
from serve.schemas_feed import (
    CommonNeighborInfo,
    FeedItem,
    HomefeedReply,
    HomefeedRequest,
    InterestInfo,
    NeighborInfo,
    SharedContextInfo,
    WhyReply,
)
from serve.search import TitleSearch
from serve.watched import WatchedIndex
from serve.why import Evidence, Neighbor

_LONGEST_SEARCHED = 200
"""Longer texts, such as descriptions, aren't what an item is looked up by."""


_WARMING_SEARCHES = 32

_QUICK_BYTES = 8 * 2**20
"""Vectors that one core compares a query with in about a millisecond."""


class Answers:
    """Everything the API can say about one generation."""

    def __init__(
        self, generation: Generation, config: ServeConfig, metrics: Metrics | None = None
    ) -> None:
        """Prepare to answer.

        Args:
            generation: what is served.
            config: limits and wording.
            metrics: where searches are counted; None counts them nowhere.
        """
        self._generation = generation
        self._config = config
        self._catalog = generation.catalog
        self._texts = ItemTexts(self._item)
        self._filters = Filters(self._catalog.table)
        self._evidence = Evidence(generation.graph, generation.neighborhoods)
        self._embedder = Embedder(generation)
        self._is_quick = _is_quick(generation.index)
        self._methods = methods_of(generation, max_feature_bytes=config.max_feature_bytes)
        self._watched: WatchedIndex | None = None
        if metrics is not None:
            every = config.boundary.recheck_every
            self._watched = WatchedIndex(generation.index, metrics, recheck_every=every)
            self._methods[PINSAGE] = ByEmbedding(self._watched)
        degrees = generation.graph.adjacency().item_degrees
        self._by_degree = np.argsort(-degrees, kind="stable")
        self._num_connected = int((degrees > 0).sum())
        self._titles = TitleSearch(self._catalog.titles, _further_words(generation), degrees)
        if len(self._by_degree):
            # What is compiled or mapped on first use is so now, not in somebody's first request.
            for method in self.methods:
                method.related([int(self._by_degree[0])], 1)

    @property
    def digest(self) -> str:
        """Names the generation."""
        return self._generation.parts.digest

    def warm_up(self, like: "Answers") -> None:
        """Do what the first requests would wait for.

        Args:
            like: what is served now; the model is opened if it has opened its own.
        """
        for item_id in self._by_degree[:_WARMING_SEARCHES]:
            self._methods[PINSAGE].related([int(item_id)], self.default_k)
        if like._embedder.is_open:
            self._embedder.open()

    def close(self) -> None:
        """End what runs in the background; requests under way are still answered."""
        if self._watched is not None:
            self._watched.close()

    @property
    def num_items(self) -> dict[str, int]:
        """Items, by where they came from."""
        return {"published": len(self._catalog)}

    @property
    def methods(self) -> list[Method]:
        """Ways to find related items, PinSage first."""
        return list(self._methods.values())

    def item(self, key: str) -> Item:
        """Describe one item.

        Raises:
            ProblemError: there is no such item.
        """
        return self._item(self._ids([key])[0])

    def similar(
        self, keys: Sequence[str], k: int | None, method: str, wanted: Wanted = EVERYTHING
    ) -> list[bytes]:
        """Find related items for each key, and write each answer down as a `SimilarReply`.

        Args:
            keys: the items asked about.
            k: related items wanted for each; None takes the configured number.
            method: the name of one of `methods`.
            wanted: which items may be answered.

        Raises:
            ProblemError: a key or the method is unknown, or k or the number of keys too large.
        """
        self._check_counts(keys, k)
        chosen = self._methods.get(method)
        if chosen is None:
            raise invalid("method", f"wanted one of {', '.join(self._methods)}; found {method!r}")
        ids = self._ids(keys)
        answers = chosen.related(ids, k or self.default_k, wanted)
        return [
            self._similar_text(item_id, method, related)
            for item_id, related in zip(ids, answers, strict=True)
        ]

    def wanted(self, filter_: Mapping[str, Any] | None, exclude: Sequence[str] = ()) -> Wanted:
        """Say which items a request lets through.

        Args:
            filter_: conditions on metadata; None sets none. See `serve/filters.py`.
            exclude: keys of items that are left out; unknown ones change nothing.

        Raises:
            ProblemError: the filter can't be used.
        """
        allowed = None
        if filter_:
            try:
                allowed = self._filters.mask(self._filters.parse(filter_))
            except FilterError as error:
                where = f"filter.{error.where}" if error.where else "filter"
                raise invalid(where, error.message) from error
        banned = [found for key in exclude if (found := self._catalog.id_of(key)) is not None]
        return Wanted(allowed, np.unique(np.asarray(banned, dtype=np.int64)))

    def homefeed(self, request: HomefeedRequest) -> HomefeedReply:
        """Recommend for recent items.

        Raises:
            ProblemError: none of the items is known, or the request can't be used.
        """
        self._check_counts([], request.k)
        known = [item for item in request.recent if self._catalog.id_of(item.key) is not None]
        unknown = [item.key for item in request.recent if item not in known]
        if not known:
            raise unknown_items(list(dict.fromkeys(unknown)))
        ids = self._ids([item.key for item in known])
        times = [item.timestamp for item in known if item.timestamp is not None]
        if times and len(times) < len(known):
            raise invalid("body.recent", "wanted a timestamp on every recent item, or on none")
        recent = recent_items(
            ids, [item.weight for item in known], times or None, request.half_life_s
        )
        found = feed(
            self._methods[PINSAGE],
            np.asarray(self._generation.index.vectors[recent.ids], dtype=np.float64),
            recent,
            request.k or self.default_k,
            request.max_interests,
            self.wanted(request.filter, request.exclude),
        )
        keys = [self._catalog.keys[item_id] for item_id in recent.ids]
        return HomefeedReply(
            interests=[
                InterestInfo(
                    key=keys[interest.medoid],
                    weight=min(interest.weight, 1.0),
                    item_keys=[keys[place] for place in interest.members],
                )
                for interest in found.interests
            ],
            items=[
                FeedItem(
                    **self._item(item_id).model_dump(),
                    score=score,
                    interest=keys[found.interests[interest].medoid],
                )
                for item_id, score, interest in zip(
                    found.item_ids, found.scores, found.of_interest, strict=True
                )
            ],
            unknown_keys=list(dict.fromkeys(unknown)),
        )

    def why(self, key: str, other_key: str) -> WhyReply:
        """Say what ties an item to another one.

        Raises:
            ProblemError: a key is unknown, or both are the same.
        """
        item_id, other_id = self._ids([key, other_key])
        if item_id == other_id:
            raise invalid("other_key", "wanted another item than the first")
        ties = self._evidence.ties(item_id, other_id)
        scores = {name: method.between(item_id, other_id) for name, method in self._methods.items()}
        return WhyReply(
            item=self._item(item_id),
            other=self._item(other_id),
            scores={name: score for name, score in scores.items() if score is not None},
            num_shared_contexts=ties.num_shared,
            shared_contexts=[SharedContextInfo(**asdict(shared)) for shared in ties.shared],
            neighbor=_neighbor_info(ties.neighbor),
            reverse=_neighbor_info(ties.reverse),
            overlap=ties.overlap,
            num_common_neighbors=ties.num_common,
            common_neighbors=[
                CommonNeighborInfo(
                    item=self._item(common.item_id),
                    weight=common.weight,
                    other_weight=common.other_weight,
                )
                for common in ties.common
            ],
        )

    def embed(self, request: EmbedRequest) -> EmbedReply:
        """Embed an item that is described, and keep nothing of it.

        Raises:
            ProblemError: there is no model, or the features don't fit it.
        """
        found = self._embedder.embed(request.features, request.contexts)
        weighed = zip(found.neighbor_ids, found.neighbor_weights, strict=True)
        return EmbedReply(
            generation=self.digest,
            embedding=found.embedding,
            neighbors=[
                EmbedNeighbor(key=self._catalog.keys[item_id], weight=weight)
                for item_id, weight in weighed
            ],
            unknown_contexts=found.unknown_contexts,
        )

    def quick_similar(self, key: str, k: int | None) -> bytes | None:
        """Answer `similar` by PinSage for one key, if that takes a moment; None if it may not.

        A search that compares with every item would hold up other requests where this runs.
        """
        item_id = self._catalog.id_of(key)
        if not self._is_quick or item_id is None or not 1 <= (k or 1) <= self._config.max_k:
            return None
        (related,) = self._methods[PINSAGE].related([item_id], k or self.default_k)
        return self._similar_text(item_id, PINSAGE, related)

    @property
    def default_k(self) -> int:
        """Related items an answer holds if a request doesn't say."""
        return min(self._config.default_k, self._config.max_k)

    def search(self, text: str, limit: int) -> list[Item]:
        """Find items by the words of their titles; if there are none, by the exact key."""
        found = self._titles.search(text, limit)
        if not found and (item_id := self._catalog.id_of(text)) is not None:
            found = [item_id]
        return [self._item(item_id) for item_id in found]

    def starting_points(self, limit: int) -> list[Item]:
        """Give items to start from: connected ones, from the best known towards the rarer half."""
        reach = max(self._num_connected // 2, 1) if self._num_connected else len(self._by_degree)
        spread = np.geomspace(1, max(reach, 1), num=min(limit, reach))
        ranks = (np.maximum(np.round(spread), np.arange(1, len(spread) + 1)) - 1).astype(np.int64)
        return [self._item(int(item_id)) for item_id in self._by_degree[ranks]]

    def starting_key(self, draw: float) -> str:
        """Give the key of a connected item, the better known the likelier.

        Args:
            draw: a number in [0, 1), which decides.
        """
        reach = self._num_connected or len(self._by_degree)
        rank = min(int((reach + 1) ** draw), reach) - 1
        return self._catalog.keys[self._by_degree[rank]]

    @cached_property
    def map_text(self) -> bytes:
        """The map of the embeddings, as a `MapReply`.

        Raises:
            ProblemError: the generation's report has none.
        """
        return map_text(self._generation.parts, self._catalog)

    def generation(self) -> GenerationInfo:
        """Describe what is being served."""
        quality = self._generation.quality
        return GenerationInfo(
            generation=self.digest,
            title=self._config.title,
            parts=self._generation.parts.names,
            counts=self._generation.counts,
            methods=[
                MethodInfo(
                    name=method.name,
                    label=method.label,
                    description=method.description,
                    quality=quality.get(method.name, {}),
                )
                for method in self.methods
            ],
            quality=quality,
            default_k=self.default_k,
            max_k=self._config.max_k,
        )

    def _check_counts(self, keys: Sequence[str], k: int | None) -> None:
        if k is not None and not 1 <= k <= self._config.max_k:
            raise invalid("k", f"wanted 1 to {self._config.max_k}, found {k}")
        if len(keys) > self._config.max_item_keys:
            raise invalid(
                "item_keys", f"wanted at most {self._config.max_item_keys}, found {len(keys)}"
            )

    def _ids(self, keys: Sequence[str]) -> list[int]:
        found = [self._catalog.id_of(key) for key in keys]
        unknown = [key for key, item_id in zip(keys, found, strict=True) if item_id is None]
        if unknown:
            raise unknown_items(list(dict.fromkeys(unknown)))
        return [item_id for item_id in found if item_id is not None]

    def _similar_text(self, item_id: int, method: str, related: Related) -> bytes:
        items = self._texts.scored(related.item_ids, related.scores)
        return similar_text(self._texts.text(item_id), method, items)

    def _item(self, item_id: int) -> Item:
        title, image = self._catalog.title(item_id), self._catalog.image(item_id)
        return Item(
            key=self._catalog.keys[item_id],
            title=title,
            image=image,
            # The title and the picture are said already; what is empty says nothing.
            metadata={
                name: value
                for name, value in self._catalog.metadata(item_id).items()
                if value not in (None, "", title, image)
            },
        )


def _neighbor_info(neighbor: Neighbor | None) -> NeighborInfo | None:
    return None if neighbor is None else NeighborInfo(**asdict(neighbor))


def _is_quick(index: Index) -> bool:
    """Say whether a search takes a moment: it looks at few vectors, or there are few."""
    return not isinstance(index, ExactIndex) or index.vectors.nbytes <= _QUICK_BYTES


def _further_words(generation: Generation) -> list[str]:
    """What else an item is looked up by, such as its authors: its short texts of many values.

    A column of few values, such as a language, tells items apart too badly.
    """
    table = pq.read_table(generation.graph.artifact.path / ITEMS_FILE)
    texts = [""] * table.num_rows
    for name in table.column_names:
        column = table[name]
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if name == ITEM_KEY or not is_text or pc.count_distinct(column).as_py() < len(column) / 20:
            continue
        for row, value in enumerate(column.to_pylist()):
            if value and len(value) <= _LONGEST_SEARCHED and "://" not in value:
                texts[row] += f" {value}"
    return texts

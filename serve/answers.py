"""Questions to answers over one generation: what the calls say, without any HTTP."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Bool

from pinsage.cluster.run_config import ServeConfig
from pinsage.retrieval import Index
from pinsage.retrieval.approximate import FaissIndex
from pinsage.retrieval.exact import ExactIndex
from pinsage.retrieval.live import LiveIndex
from serve.describing import description
from serve.embedding import Description, Embedder, needs_model
from serve.filters import Condition, FilterError, Filters
from serve.finding import Finder
from serve.generation import Generation, Parts
from serve.homefeed import feed, recent_items
from serve.live_items import Items, LiveItem, published_item
from serve.live_making import Maker
from serve.maps import map_text
from serve.metrics import Metrics
from serve.problems import invalid, unknown_items
from serve.related import EVERYTHING, PINSAGE, ByEmbedding, Method, Related, Wanted, methods_of
from serve.replies import ItemTexts, scored_text, similar_text
from serve.schemas import GenerationInfo, Item, MethodInfo
from serve.schemas_embed import EmbedReply, EmbedRequest
from serve.schemas_feed import HomefeedReply, HomefeedRequest, WhyReply
from serve.schemas_items import DescriptionReply
from serve.starting import StartingPoints
from serve.telling import feed_reply, neighbors_told, why_reply
from serve.watched import WatchedIndex
from serve.why import Evidence

_WARMING_SEARCHES = 32

_QUICK_BYTES = 8 * 2**20
"""Vectors that one core compares a query with in about a millisecond."""


class Answers:
    """Everything the API can say about one generation, and what was written on top of it.

    Never changed: writes give another one (`written`), which shares all that is large.
    """

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
        catalog = generation.catalog
        self.items, self.num_writes = Items(catalog), 0
        self._published: Answers | None = None
        self._texts = ItemTexts(partial(published_item, catalog))
        self._filters = Filters(catalog.table)
        self._evidence = Evidence(generation.graph, generation.neighborhoods, self.items)
        self.embedder = Embedder(generation)
        self.maker = Maker(catalog, self._filters, self.embedder)
        self._is_quick = is_quick(generation.index)
        self._methods = methods_of(generation, max_feature_bytes=config.max_feature_bytes)
        self._watched: WatchedIndex | None = None
        if metrics is not None:
            every = config.boundary.recheck_every
            self._watched = WatchedIndex(generation.index, metrics, recheck_every=every)
            self._methods[PINSAGE] = replace(self._by_embedding, index=self._watched)
        self._starting = StartingPoints(self._evidence.degrees)
        self._finder = Finder(catalog, self._evidence.degrees)
        # What is compiled or mapped on first use is so now, not in somebody's first request.
        for item_id in self._starting.best_known(1, self.items):
            for method in self.methods:
                method.related([item_id], 1)

    def written(
        self, puts: Mapping[str, LiveItem], deleted: Sequence[str], *, num_writes: int
    ) -> "Answers":
        """Give the answers after some writes.

        Args:
            puts: new or changed items of this generation, by key.
            deleted: keys of items to forget, none of them put.
            num_writes: how many writes are in force then.
        """
        items, change = self.items.written(puts, deleted)
        other = copy(self)
        other.__dict__.pop("map_text", None)
        other._published = self.as_published
        other.items, other.num_writes = items, num_writes
        other._evidence = self._evidence.over(items)
        other._methods = {
            name: method.written(items, change) for name, method in self._methods.items()
        }
        index = other._by_embedding.index
        is_long = isinstance(index, LiveIndex) and index.fresh_bytes > _QUICK_BYTES
        other._is_quick = is_quick(self._generation.index) and not is_long
        return other

    @property
    def as_published(self) -> "Answers":
        """The same generation without any write."""
        return self._published or self

    def open_model(self) -> None:
        """Open the model, if there is one, and embed once, before anybody waits for it."""
        if self.embedder.has_model:
            self.embedder.warm_up()

    @property
    def graph_digest(self) -> str:
        """Names the graph, which other generations may share."""
        return self._generation.graph.artifact.manifest.digest

    @cached_property
    def as_of(self) -> float:
        """No later than this is what the graph's tables tell of, in seconds since 1970."""
        return self._generation.graph.as_of

    @property
    def digest(self) -> str:
        """Names the generation."""
        return self._generation.parts.digest

    @property
    def parts(self) -> Parts:
        """The published directories of the generation."""
        return self._generation.parts

    def warm_up(self, like: "Answers") -> None:
        """Do what the first requests would wait for.

        Args:
            like: what is served now; the model is opened if it has opened its own.
        """
        for item_id in self._starting.best_known(_WARMING_SEARCHES, self.items):
            self._methods[PINSAGE].related([item_id], self.default_k)
        if like.embedder.is_open:
            self.open_model()

    def close(self) -> None:
        """End what runs in the background; requests under way are still answered."""
        if self._watched is not None:
            self._watched.close()

    @property
    def num_items(self) -> dict[str, int]:
        """Items, by where they came from."""
        return {"published": self.items.num_published, "live": len(self.items.live)}

    @property
    def methods(self) -> list[Method]:
        """Ways to find related items, PinSage first."""
        return list(self._methods.values())

    def item(self, key: str) -> Item:
        """Describe one item.

        Raises:
            ProblemError: there is no such item.
        """
        return self.items.item(self._ids([key])[0])

    def description(self, key: str) -> DescriptionReply:
        """Say what an item is made from.

        Raises:
            ProblemError: there is no such item.
        """
        item_id, columns = self._ids([key])[0], self._filters.columns
        return description(self._generation, self.items, self._evidence, item_id, columns)

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
                conditions = self._filters.parse(filter_)
            except FilterError as error:
                where = f"filter.{error.where}" if error.where else "filter"
                raise invalid(where, error.message) from error
            allowed = self._mask(conditions)
        banned = [found for key in exclude if (found := self.items.id_of(key)) is not None]
        return Wanted(allowed, np.unique(np.asarray(banned, dtype=np.int64)))

    def homefeed(self, request: HomefeedRequest) -> HomefeedReply:
        """Recommend for recent items.

        Raises:
            ProblemError: none of the items is known, or the request can't be used.
        """
        self._check_counts([], request.k)
        known = [item for item in request.recent if self.items.id_of(item.key) is not None]
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
            np.asarray(self._by_embedding.vectors_of(recent.ids), dtype=np.float64),
            recent,
            request.k or self.default_k,
            request.max_interests,
            self.wanted(request.filter, request.exclude),
        )
        return feed_reply(found, recent, self.items, list(dict.fromkeys(unknown)))

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
        told = {name: score for name, score in scores.items() if score is not None}
        return why_reply(self.items, item_id, other_id, told, ties)

    def embed(self, request: EmbedRequest) -> EmbedReply:
        """Embed an item that is described, and keep nothing of it.

        Raises:
            ProblemError: there is no model, or the features don't fit it.
        """
        with needs_model():
            found = self.embedder.embed_one(Description(request.features, request.contexts))
        return EmbedReply(
            generation=self.digest,
            embedding=found.embedding.astype(float).tolist(),
            neighbors=neighbors_told(self.items, found.neighbor_ids, found.neighbor_weights),
            unknown_contexts=found.unknown_contexts,
            missing_features=self.embedder.missing(request.features),
        )

    def quick_similar(self, key: str, k: int | None) -> bytes | None:
        """Answer `similar` by PinSage for one key, if that takes a moment; None if it may not.

        A search that compares with every item would hold up other requests where this runs.
        """
        item_id = self.items.id_of(key)
        if not self._is_quick or item_id is None or not 1 <= (k or 1) <= self._config.max_k:
            return None
        (related,) = self._methods[PINSAGE].related([item_id], k or self.default_k)
        return self._similar_text(item_id, PINSAGE, related)

    @property
    def default_k(self) -> int:
        """Related items an answer holds if a request doesn't say."""
        return min(self._config.default_k, self._config.max_k)

    def search(self, text: str, limit: int) -> list[Item]:
        """Find items by the words of their titles, and the item of that very key."""
        found = self._finder.find(text, limit, self.items)
        return [self.items.item(item_id) for item_id in found]

    def starting_points(self, limit: int) -> list[Item]:
        """Give items to start from: connected ones, from the best known towards the rarer half."""
        return [self.items.item(item_id) for item_id in self._starting.spread(limit, self.items)]

    def starting_key(self, draw: float) -> str | None:
        """Give the key of a connected item, the better known the likelier; None if all are gone.

        Args:
            draw: a number in [0, 1), which decides.
        """
        item_id = self._starting.drawn(draw, self.items)
        return None if item_id is None else self.items.key(item_id)

    @cached_property
    def map_text(self) -> bytes:
        """The map of the embeddings, as a `MapReply`.

        Raises:
            ProblemError: the generation's report has none.
        """
        return map_text(self._generation.parts, self.items)

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
        found = [self.items.id_of(key) for key in keys]
        unknown = [key for key, item_id in zip(keys, found, strict=True) if item_id is None]
        if unknown:
            raise unknown_items(list(dict.fromkeys(unknown)))
        return [item_id for item_id in found if item_id is not None]

    @property
    def _by_embedding(self) -> ByEmbedding:
        method = self._methods[PINSAGE]
        assert isinstance(method, ByEmbedding)
        return method

    def _mask(self, conditions: tuple[Condition, ...]) -> Bool[np.ndarray, " ids"]:
        """Tell which items pass a filter, written ones included."""
        published = self._filters.mask(conditions)
        live = self.items.live
        if not live:
            return published
        mask = np.zeros(self.items.next_id, bool)
        mask[: len(published)] = published
        rows = [found.values for found in live.values()]
        mask[list(live)] = self._filters.mask_of(rows, conditions)
        return mask

    def _text(self, item_id: int) -> bytes:
        """An item's JSON object."""
        live = self.items.live.get(item_id)
        return self._texts.text(item_id) if live is None else live.text

    def _similar_text(self, item_id: int, method: str, related: Related) -> bytes:
        items = scored_text([self._text(other) for other in related.item_ids], related.scores)
        return similar_text(self._text(item_id), method, items)


def is_quick(index: Index) -> bool:
    """Say whether a search takes a moment: it looks at few vectors, or there are few."""
    if isinstance(index, FaissIndex):
        # A GPU may be searching already, and does one search at a time.
        return not index.on_gpu and index.share_read * index.vectors.nbytes <= _QUICK_BYTES
    return not isinstance(index, ExactIndex) or index.vectors.nbytes <= _QUICK_BYTES

"""Which items are related to an item, by each of the methods on offer."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, Integer

from pinsage.graph.features import FeatureStore
from pinsage.graph.schema import LOG_DEGREE, STRUCTURE
from pinsage.kernels.unit_rows import unit_rows
from pinsage.retrieval import Index
from pinsage.retrieval.exact import ExactIndex
from pinsage.retrieval.live import LiveIndex
from serve.generation import Generation
from serve.live_items import Change, Items, LiveItem, LiveNeighborhoods

logger = logging.getLogger("pinsage.serve")

PINSAGE = "pinsage"
"""The method that a request means if it names none."""

_CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class Related:
    """The items related to one item, best first; never the item itself."""

    item_ids: list[int]
    scores: list[float]


@dataclass(frozen=True)
class Wanted:
    """Which items may be answered, besides never the one asked about.

    Attributes:
        allowed: which items pass a filter, by id, written ones included; None lets all pass.
        banned: ids that are left out.
    """

    allowed: Bool[np.ndarray, " items"] | None = None
    banned: Int64[np.ndarray, " banned"] = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self.allowed is None and not len(self.banned)


EVERYTHING = Wanted()


class Method(Protocol):
    """One way to find related items."""

    @property
    def name(self) -> str:
        """What a request says to get it."""

    @property
    def label(self) -> str:
        """What a person reads."""

    @property
    def description(self) -> str:
        """What it does, in one sentence."""

    def related(
        self, item_ids: Sequence[int], k: int, wanted: Wanted = EVERYTHING
    ) -> list[Related]:
        """Answer for each item: at most k related items of those wanted."""

    def between(self, item_id: int, other_id: int) -> float | None:
        """Say how closely two items are related; None if the method can't."""

    def written(self, items: Items, change: Change) -> "Method":
        """Give the same method after some writes.

        Args:
            items: all items there are then.
            change: what that changes.
        """


@dataclass(frozen=True)
class ByEmbedding:
    """The nearest embeddings, by inner product (paper, section 3.5)."""

    index: Index
    """A `LiveIndex` once anything was written, and not before: that is the quicker way."""
    has_unknown: bool = False
    """Whether there are embeddings of zeros: items of which nothing is known. They are related to
    nothing, rather than to everything at 0."""
    name: str = PINSAGE
    label: str = "PinSage"
    description: str = "Nearest embeddings of the trained graph convolutional network."

    def related(
        self, item_ids: Sequence[int], k: int, wanted: Wanted = EVERYTHING
    ) -> list[Related]:
        """Search the index for each item's own embedding."""
        if wanted.is_everything and len(item_ids) == 1:
            found = [_alone(self.index, item_ids[0], self._vector_of(item_ids[0]), k)]
        else:
            ids = np.asarray(item_ids, dtype=np.int64)
            found = _searched(self.index, ids, self.vectors_of(ids), k, wanted)
        return list(map(_without_zeros, found)) if self.has_unknown else found

    def between(self, item_id: int, other_id: int) -> float:
        """Multiply the embeddings."""
        one, other = self.vectors_of(np.array([item_id, other_id]))
        return float(one @ other)

    def vectors_of(
        self, item_ids: Integer[np.ndarray, " wanted"]
    ) -> Float32[np.ndarray, "wanted width"]:
        """Give the embeddings of some items that are there."""
        if isinstance(self.index, LiveIndex):
            return self.index.vectors_of(item_ids)
        return self.index.vectors[item_ids]

    def _vector_of(self, item_id: int) -> Float32[np.ndarray, "1 width"]:
        """Give one item's embedding: a slice costs a fraction of what picking rows does."""
        if isinstance(self.index, LiveIndex):
            return self.index.vectors_of(np.array([item_id]))
        return self.index.vectors[item_id : item_id + 1]

    def written(self, items: Items, change: Change) -> "ByEmbedding":
        """Take in the embeddings of written items."""
        index = self.index.forked() if isinstance(self.index, LiveIndex) else LiveIndex(self.index)
        rows = {item_id: live.embedding for item_id, live in change.added.items()}
        _write(index, rows, change.gone)
        has_unknown = self.has_unknown or not all(row.any() for row in rows.values())
        return replace(self, index=index, has_unknown=has_unknown)


@dataclass(frozen=True)
class ByWalk:
    """The items that random walks from the item meet most often (paper, section 3.2)."""

    neighborhoods: LiveNeighborhoods
    name: str = "walk"
    label: str = "Walks"
    description: str = (
        "Items most visited by short random walks over the graph; nothing is learned."
    )

    def related(
        self, item_ids: Sequence[int], k: int, wanted: Wanted = EVERYTHING
    ) -> list[Related]:
        """Read the neighborhood table; it may hold fewer than k neighbors that are wanted."""
        return [self._related_to(item_id, k, wanted) for item_id in item_ids]

    def between(self, item_id: int, other_id: int) -> float:
        """Read the importance weight; 0 outside the neighborhood."""
        ids, weights = self.neighborhoods.row(item_id)
        return float(weights @ (ids == other_id))

    def written(self, items: Items, change: Change) -> "ByWalk":
        """Know where neighbors have gone; walks from published items meet no written ones yet."""
        return replace(self, neighborhoods=self.neighborhoods.over(items))

    def _related_to(self, item_id: int, k: int, wanted: Wanted) -> Related:
        ids, weights = self.neighborhoods.row(item_id)
        keep = np.ones(len(ids), bool) if wanted.allowed is None else wanted.allowed[ids]
        if len(wanted.banned):
            keep = keep & ~np.isin(ids, wanted.banned)
        return Related(ids[keep][:k].tolist(), weights[keep][:k].astype(float).tolist())


@dataclass(frozen=True)
class ByFeatures:
    """The items whose features of one group point the same way (cosine)."""

    name: str
    columns: slice
    """Where the group stands in a feature row."""
    index: LiveIndex = field(repr=False)
    """Unit rows. An item without such features is not in it: it is related to nothing, rather than
    orthogonal to everything."""

    @property
    def label(self) -> str:
        """What a person reads."""
        return f"{self.name.replace('_', ' ').capitalize()} only"

    @property
    def description(self) -> str:
        """What it does, in one sentence."""
        if self.name == STRUCTURE:
            return "Cosine of the graph's singular vectors; content isn't used, nothing is learned."
        return f"Cosine of the items' {self.name.replace('_', ' ')} features; the graph isn't used."

    def related(
        self, item_ids: Sequence[int], k: int, wanted: Wanted = EVERYTHING
    ) -> list[Related]:
        """Compare with the whole catalog, one item at a time to bound memory."""
        return [self._related_to(item_id, k, wanted) for item_id in item_ids]

    def between(self, item_id: int, other_id: int) -> float | None:
        """Give the cosine, if both have such features."""
        if not (self.index.has(item_id) and self.index.has(other_id)):
            return None
        one, other = self.index.vectors_of(np.array([item_id, other_id]))
        return float(one @ other)

    def written(self, items: Items, change: Change) -> "ByFeatures":
        """Take in the features of written items."""
        index = self.index.forked()
        rows = {item_id: self._unit_row(live) for item_id, live in change.added.items()}
        bare = [item_id for item_id, row in rows.items() if not row.any()]
        _write(index, rows, [*change.gone, *bare])
        return replace(self, index=index)

    def _related_to(self, item_id: int, k: int, wanted: Wanted) -> Related:
        if not self.index.has(item_id):
            return Related([], [])
        ids = np.array([item_id])
        (found,) = _searched(self.index, ids, self.index.vectors_of(ids), k, wanted)
        return found

    def _unit_row(self, live: LiveItem) -> Float32[np.ndarray, " width"]:
        return unit_rows(live.features[None, self.columns])[0]


def methods_of(generation: Generation, *, max_feature_bytes: int) -> dict[str, Method]:
    """Give every method a generation can answer by, PinSage first.

    Args:
        generation: what is served.
        max_feature_bytes: feature groups that take more memory than this are left out.
    """
    has_unknown = not np.any(generation.index.vectors, axis=1).all()
    found: dict[str, Method] = {PINSAGE: ByEmbedding(generation.index, has_unknown)}
    graph = generation.graph
    features = graph.features_at_inference()
    for group, columns in graph.feature_columns.items():
        size_bytes = 4 * graph.num_items * (columns.stop - columns.start)
        if group == LOG_DEGREE or group in found:
            continue
        if size_bytes > max_feature_bytes:
            logger.warning(
                "features of group %s take %d bytes, over max_feature_bytes = %d: not offered as "
                "a method",
                group,
                size_bytes,
                max_feature_bytes,
            )
            continue
        vectors = _unit_rows(features, columns)
        index = LiveIndex(ExactIndex(vectors))
        index.delete(np.flatnonzero(~np.any(vectors != 0, axis=1)))
        found[group] = ByFeatures(group, columns, index)
    neighborhoods = LiveNeighborhoods(generation.neighborhoods, Items(generation.catalog))
    found["walk"] = ByWalk(neighborhoods)
    return found


def _unit_rows(store: FeatureStore, columns: slice) -> Float32[np.ndarray, "items width"]:
    """Read one feature group in chunks, scaled to unit rows; zeros stay zeros."""
    rows = np.empty((store.num_items, columns.stop - columns.start), dtype=np.float32)
    for start in range(0, store.num_items, _CHUNK_ROWS):
        stop = min(start + _CHUNK_ROWS, store.num_items)
        item_ids = np.arange(start, stop, dtype=np.int64)
        rows[start:stop] = unit_rows(store.gather(item_ids)[:, columns])
    return rows


def _write(
    index: LiveIndex, rows: Mapping[int, Float32[np.ndarray, " width"]], gone: Sequence[int]
) -> None:
    """Put rows into an index, and take out what is gone."""
    if rows:
        index.upsert(np.array(list(rows)), np.stack(list(rows.values())))
    index.delete(np.array(gone, dtype=np.int64))


def _alone(index: Index, item_id: int, query: Float32[np.ndarray, "1 width"], k: int) -> Related:
    """Ask for one more, and leave out the item itself here: the most frequent question."""
    found, scores = index.search(query, k + 1)
    pairs = [
        (other, score)
        for other, score in zip(found[0].tolist(), scores[0].tolist(), strict=True)
        if other >= 0 and other != item_id
    ][:k]
    return Related([other for other, _ in pairs], [score for _, score in pairs])


def _without_zeros(related: Related) -> Related:
    """Leave out what is at exactly 0: one of the two has no embedding."""
    kept = [pair for pair in zip(related.item_ids, related.scores, strict=True) if pair[1] != 0.0]
    return Related([other for other, _ in kept], [score for _, score in kept])


def _searched(
    index: Index,
    item_ids: Int64[np.ndarray, " queries"],
    queries: Float32[np.ndarray, "queries width"],
    k: int,
    wanted: Wanted,
) -> list[Related]:
    """Search for several items' vectors, each without the item itself."""
    found, scores = index.search(
        queries,
        k,
        exclude=[np.append(wanted.banned, item_id) for item_id in item_ids],
        allowed=wanted.allowed,
    )
    return _answers(found, scores)


def _answers(
    found: Int32[np.ndarray, "queries k"], scores: Float32[np.ndarray, "queries k"]
) -> list[Related]:
    """Drop the padding."""
    answers = []
    for ids_row, scores_row in zip(found, scores, strict=True):
        real = (ids_row >= 0) & np.isfinite(scores_row)
        answers.append(Related(ids_row[real].tolist(), scores_row[real].astype(float).tolist()))
    return answers

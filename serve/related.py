"""Which items are related to an item, by each of the methods on offer."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from pinsage.graph import Graph
from pinsage.graph.schema import LOG_DEGREE, STRUCTURE
from pinsage.kernels.topk import top_k
from pinsage.retrieval import Index
from pinsage.sampling.neighborhood import Neighborhoods
from serve.generation import Generation

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
        allowed: which items pass a filter, by id; None lets all pass.
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


@dataclass(frozen=True)
class ByEmbedding:
    """The nearest embeddings, by inner product (paper, section 3.5)."""

    index: Index
    name: str = PINSAGE
    label: str = "PinSage"
    description: str = "Nearest embeddings of the trained graph convolutional network."

    def related(
        self, item_ids: Sequence[int], k: int, wanted: Wanted = EVERYTHING
    ) -> list[Related]:
        """Search the index for each item's own embedding."""
        ids = np.asarray(item_ids, dtype=np.int64)
        found, scores = self.index.search(
            self.index.vectors[ids],
            k,
            exclude=[np.append(wanted.banned, item_id) for item_id in ids],
            allowed=wanted.allowed,
        )
        return _answers(found, scores)

    def between(self, item_id: int, other_id: int) -> float:
        """Multiply the embeddings."""
        return float(self.index.vectors[item_id] @ self.index.vectors[other_id])


@dataclass(frozen=True)
class ByWalk:
    """The items that random walks from the item meet most often (paper, section 3.2)."""

    neighborhoods: Neighborhoods
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
        found = self.neighborhoods.ids[item_id] == other_id
        return float(self.neighborhoods.weights[item_id] @ found)

    def _related_to(self, item_id: int, k: int, wanted: Wanted) -> Related:
        ids, weights = self.neighborhoods.ids[item_id], self.neighborhoods.weights[item_id]
        keep = ids >= 0
        if wanted.allowed is not None:
            keep &= wanted.allowed[ids]
        if len(wanted.banned):
            keep &= ~np.isin(ids, wanted.banned)
        return Related(ids[keep][:k].tolist(), weights[keep][:k].astype(float).tolist())


@dataclass(frozen=True)
class ByFeatures:
    """The items whose features of one group point the same way (cosine)."""

    name: str
    vectors: Float32[np.ndarray, "items width"] = field(repr=False)
    """Unit rows; an item without such features has zeros."""
    described: Bool[np.ndarray, " items"] = field(repr=False)
    """Which items have such features."""

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
        if not (self.described[item_id] and self.described[other_id]):
            return None
        return float(self.vectors[item_id] @ self.vectors[other_id])

    def _related_to(self, item_id: int, k: int, wanted: Wanted) -> Related:
        if not self.described[item_id]:
            return Related([], [])
        scores = self.vectors @ self.vectors[item_id]
        # What has no features is related to nothing, rather than orthogonal to everything.
        scores[~self.described] = -np.inf
        scores[item_id] = -np.inf
        scores[wanted.banned] = -np.inf
        if wanted.allowed is not None:
            scores[~wanted.allowed] = -np.inf
        found, best = top_k(scores[None, :], min(k, len(scores)))
        return _answers(found, best)[0]


def methods_of(generation: Generation, *, max_feature_bytes: int) -> dict[str, Method]:
    """Give every method a generation can answer by, PinSage first.

    Args:
        generation: what is served.
        max_feature_bytes: feature groups that take more memory than this are left out.
    """
    found: dict[str, Method] = {PINSAGE: ByEmbedding(generation.index)}
    graph = generation.graph
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
        vectors = _unit_rows(graph, columns)
        found[group] = ByFeatures(group, vectors, np.any(vectors != 0, axis=1))
    found["walk"] = ByWalk(generation.neighborhoods)
    return found


def _unit_rows(graph: Graph, columns: slice) -> Float32[np.ndarray, "items width"]:
    """Read one feature group in chunks, scaled to unit rows; zeros stay zeros."""
    store = graph.features()
    rows = np.empty((graph.num_items, columns.stop - columns.start), dtype=np.float32)
    for start in range(0, graph.num_items, _CHUNK_ROWS):
        stop = min(start + _CHUNK_ROWS, graph.num_items)
        chunk = store.gather(np.arange(start, stop, dtype=np.int64))[:, columns]
        lengths = np.linalg.norm(chunk, axis=1, keepdims=True)
        rows[start:stop] = chunk / np.where(lengths > 0, lengths, 1)
    return rows


def _answers(
    found: Int32[np.ndarray, "queries k"], scores: Float32[np.ndarray, "queries k"]
) -> list[Related]:
    """Drop the padding."""
    answers = []
    for ids_row, scores_row in zip(found, scores, strict=True):
        real = (ids_row >= 0) & np.isfinite(scores_row)
        answers.append(Related(ids_row[real].tolist(), scores_row[real].astype(float).tolist()))
    return answers

"""Which items are related to an item, by each of the methods on offer."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float32, Int32

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

    def related(self, item_ids: Sequence[int], k: int) -> list[Related]:
        """Answer for each item: at most k related items."""


@dataclass(frozen=True)
class ByEmbedding:
    """The nearest embeddings, by inner product (paper, section 3.5)."""

    index: Index
    name: str = PINSAGE
    label: str = "PinSage"
    description: str = "Nearest embeddings of the trained graph convolutional network."

    def related(self, item_ids: Sequence[int], k: int) -> list[Related]:
        """Search the index for each item's own embedding."""
        wanted = np.asarray(item_ids, dtype=np.int32)
        found, scores = self.index.search(
            self.index.vectors[wanted],
            k,
            exclude=[wanted[row : row + 1] for row in range(len(wanted))],
        )
        return _answers(found, scores)


@dataclass(frozen=True)
class ByWalk:
    """The items that random walks from the item meet most often (paper, section 3.2)."""

    neighborhoods: Neighborhoods
    name: str = "walk"
    label: str = "Walks"
    description: str = (
        "Items most visited by short random walks over the graph; nothing is learned."
    )

    def related(self, item_ids: Sequence[int], k: int) -> list[Related]:
        """Read the neighborhood table; it may hold fewer than k neighbors."""
        wanted = np.asarray(item_ids, dtype=np.int64)
        return _answers(self.neighborhoods.ids[wanted, :k], self.neighborhoods.weights[wanted, :k])


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

    def related(self, item_ids: Sequence[int], k: int) -> list[Related]:
        """Compare with the whole catalog, one item at a time to bound memory."""
        return [self._related_to(item_id, k) for item_id in item_ids]

    def _related_to(self, item_id: int, k: int) -> Related:
        if not self.described[item_id]:
            return Related([], [])
        scores = self.vectors @ self.vectors[item_id]
        # What has no features is related to nothing, rather than orthogonal to everything.
        scores[~self.described] = -np.inf
        scores[item_id] = -np.inf
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

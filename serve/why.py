"""What ties one item to another: the graph's evidence behind a recommendation."""

from copy import copy
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from pinsage.graph import Graph
from pinsage.graph.schema import CONTEXT_KEY, CONTEXTS_FILE
from pinsage.sampling.neighborhood import Neighborhoods
from serve.live_items import Items, LiveNeighborhoods

MOST_SHOWN = 10
"""Shared contexts and common neighbors that are listed."""


@dataclass(frozen=True)
class SharedContext:
    """A context that holds both items.

    Attributes:
        key: its key, as ingested.
        num_items: how many items are in it; the fewer, the more it says.
    """

    key: str
    num_items: int


@dataclass(frozen=True)
class Neighbor:
    """One item's place in another one's neighborhood (paper, 3.2).

    Attributes:
        rank: counted from 1, most visited first.
        weight: its importance weight, the share it has in what is pooled.
    """

    rank: int
    weight: float


@dataclass(frozen=True)
class CommonNeighbor:
    """An item in both neighborhoods, with its importance weight in each."""

    item_id: int
    weight: float
    other_weight: float


@dataclass(frozen=True)
class Ties:
    """What ties two items together.

    Attributes:
        num_shared: how many contexts hold both.
        shared: those with the fewest items, at most `MOST_SHOWN`.
        neighbor: where the second is in the first one's neighborhood; None if it isn't.
        reverse: where the first is in the second one's.
        num_common: how many items are in both neighborhoods.
        common: those with the most weight in both, at most `MOST_SHOWN`.
        overlap: how much of what is pooled is the same, 0 to 1: the sum, over common neighbors, of
            the smaller weight.
    """

    num_shared: int
    shared: list[SharedContext]
    neighbor: Neighbor | None
    reverse: Neighbor | None
    num_common: int
    common: list[CommonNeighbor]
    overlap: float


class Evidence:
    """The graph and the neighborhoods, asked about pairs of items."""

    def __init__(self, graph: Graph, neighborhoods: Neighborhoods, items: Items) -> None:
        """Hold them; the edges of a graph in one shard stay on disk, if no items were made cold."""
        self._adjacency = graph.adjacency_at_inference()
        self._contexts = ContextKeys(graph)
        self._items = items
        self._neighborhoods = LiveNeighborhoods(neighborhoods, items)

    def over(self, items: Items) -> "Evidence":
        """Give the same evidence over other items."""
        other = copy(self)
        other._items = items
        other._neighborhoods = self._neighborhoods.over(items)
        return other

    @property
    def degrees(self) -> Int64[np.ndarray, " items"]:
        """In how many contexts each published item is."""
        return self._adjacency.item_degrees

    def ties(self, item_id: int, other_id: int) -> Ties:
        """Find what ties an item to another one."""
        shared = np.intersect1d(self.contexts_of(item_id), self.contexts_of(other_id))
        starts = self._adjacency.context_starts
        sizes = np.asarray(starts[shared + 1] - starts[shared])
        first = np.argsort(sizes, kind="stable")[:MOST_SHOWN]
        keys = self._contexts.keys(shared[first])
        ids, weights = self._neighborhoods.row(item_id)
        other_ids, other_weights = self._neighborhoods.row(other_id)
        common, places, other_places = np.intersect1d(ids, other_ids, return_indices=True)
        lesser = np.minimum(weights[places], other_weights[other_places])
        best = np.argsort(-lesser, kind="stable")[:MOST_SHOWN]
        return Ties(
            num_shared=len(shared),
            shared=[
                SharedContext(key, int(size)) for key, size in zip(keys, sizes[first], strict=True)
            ],
            neighbor=_neighbor(ids, weights, other_id),
            reverse=_neighbor(other_ids, other_weights, item_id),
            num_common=len(common),
            common=[
                CommonNeighbor(
                    int(common[at]),
                    float(weights[places[at]]),
                    float(other_weights[other_places[at]]),
                )
                for at in best
            ],
            overlap=min(float(lesser.sum()), 1.0),
        )

    def contexts_of(self, item_id: int) -> Int64[np.ndarray, " contexts"]:
        """Give the ids of the contexts of the graph that an item is in."""
        live = self._items.live.get(item_id)
        if live is not None:
            return live.context_ids
        start, stop = self._adjacency.item_starts[item_id : item_id + 2]
        return np.asarray(self._adjacency.item_contexts[start:stop], dtype=np.int64)


class ContextKeys:
    """The keys of contexts, read from the file piece by piece: there may be very many."""

    def __init__(self, graph: Graph) -> None:
        """Look at where the file's pieces begin."""
        self._path = graph.artifact.path / CONTEXTS_FILE
        metadata = pq.read_metadata(self._path)
        sizes = [metadata.row_group(piece).num_rows for piece in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        # Not of a method: what an object holds must not hold the object.
        self._piece = lru_cache(maxsize=2)(partial(_read_piece, self._path))

    def keys(self, context_ids: Int64[np.ndarray, " contexts"]) -> list[str]:
        """Give the keys of some contexts."""
        pieces = np.searchsorted(self._starts, context_ids, side="right") - 1
        return [
            str(self._piece(int(piece))[int(context_id - self._starts[piece])].as_py())
            for context_id, piece in zip(context_ids, pieces, strict=True)
        ]


def _read_piece(path: Path, piece: int) -> pa.ChunkedArray:
    with pq.ParquetFile(path) as file:
        return file.read_row_group(piece, columns=[CONTEXT_KEY])[CONTEXT_KEY]


def _neighbor(ids: np.ndarray, weights: np.ndarray, wanted: int) -> Neighbor | None:
    found = np.flatnonzero(ids == wanted)
    return Neighbor(int(found[0]) + 1, float(weights[found[0]])) if len(found) else None

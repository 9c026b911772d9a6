"""Large graphs for benchmarks: power-law degrees, topics, ids in no particular order."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from pinsage.graph.adjacency import ARRAYS, BipartiteAdjacency
from pinsage.graph.ordering import locality_order
from pinsage.kernels.csr import build_csr, transpose

_ITEMS_PER_TOPIC = 500
_WITHIN_TOPIC = 0.8
_SEED = 1

Ids = Int64[np.ndarray, " n"]


class GraphSize(NamedTuple):
    """How large a graph is."""

    num_items: int
    num_contexts: int
    num_edges: int


SIZES = {
    "S": GraphSize(100_000, 30_000, 1_000_000),
    "M": GraphSize(1_000_000, 300_000, 10_000_000),
    "L": GraphSize(4_000_000, 1_000_000, 60_000_000),
}


class _Side:
    """One side's nodes by topic: how many edges each draws falls as a power of its hidden rank."""

    def __init__(self, rng: np.random.Generator, num_nodes: int, num_topics: int) -> None:
        pull = (np.arange(num_nodes) + 10.0) ** -0.75
        rng.shuffle(pull)
        self.topics = rng.integers(0, num_topics, num_nodes)
        self.by_topic = np.argsort(self.topics, kind="stable")
        self.pull = np.concatenate([[0.0], np.cumsum(pull[self.by_topic])])
        sizes = np.bincount(self.topics, minlength=num_topics)
        self.starts = np.concatenate([[0], np.cumsum(sizes)])

    def draw(self, fractions: Float64[np.ndarray, " n"]) -> Ids:
        """Draw nodes of the whole side, by their pull."""
        return self._at(fractions * self.pull[-1], 0, len(self.by_topic))

    def draw_of_topic(self, topics: Ids, fractions: Float64[np.ndarray, " n"]) -> Ids:
        """Draw a node of each topic, by their pull; an empty topic lends its neighbor's node."""
        low = np.minimum(self.starts[topics], len(self.by_topic) - 1)
        high = np.maximum(self.starts[topics + 1], low + 1)
        reach = self.pull[high] - self.pull[low]
        return self._at(self.pull[low] + fractions * reach, low, high)

    def _at(self, pulls: Float64[np.ndarray, " n"], low: Ids | int, high: Ids | int) -> Ids:
        # Searching in ascending order stays in the cache.
        order = np.argsort(pulls)
        places = np.empty(len(pulls), np.int64)
        places[order] = np.searchsorted(self.pull, pulls[order], side="right") - 1
        return self.by_topic[np.clip(places, low, np.asarray(high) - 1)]


def make_graph(size: GraphSize) -> BipartiteAdjacency:
    """Make a graph: the same one for the same size.

    Every item has an edge; four of five edges join an item and a context of one topic (some 500
    items); no edge comes twice. On M a uniformly chosen edge's context has 171 items.
    """
    rng = np.random.default_rng(_SEED)
    num_topics = max(1, size.num_items // _ITEMS_PER_TOPIC)
    items = _Side(rng, size.num_items, num_topics)
    contexts = _Side(rng, size.num_contexts, num_topics)
    first = contexts.draw_of_topic(items.topics, rng.random(size.num_items))
    firsts = np.arange(size.num_items) * size.num_contexts + first
    edges = firsts
    while len(edges) < size.num_edges:
        wanted = int((size.num_edges - len(edges)) * 1.3) + 1_000
        context = contexts.draw(rng.random(wanted))
        local = rng.random(wanted) < _WITHIN_TOPIC
        fractions = rng.random(wanted)
        item = items.draw(fractions)
        item[local] = items.draw_of_topic(contexts.topics[context[local]], fractions[local])
        edges = _unique(np.concatenate([edges, item * size.num_contexts + context]))
    surplus = np.setdiff1d(edges, firsts, assume_unique=True)
    dropped = rng.choice(surplus, len(edges) - size.num_edges, replace=False)
    edges = np.setdiff1d(edges, dropped, assume_unique=True)
    starts, columns = build_csr(
        edges // size.num_contexts, edges % size.num_contexts, size.num_items
    )
    return BipartiteAdjacency(starts, columns, *transpose(starts, columns, size.num_contexts))


def cached_graph(folder: Path, name: str) -> BipartiteAdjacency:
    """Read the graph of that name from a folder, or make it and keep it there."""
    files = {array: folder / f"{name}-{array}.npy" for array in ARRAYS}
    if not all(path.exists() for path in files.values()):
        graph = make_graph(SIZES[name])
        folder.mkdir(parents=True, exist_ok=True)
        for array, path in files.items():
            np.save(path, getattr(graph, array), allow_pickle=False)
    return BipartiteAdjacency(**{
        array: np.load(path, allow_pickle=False) for array, path in files.items()
    })


def in_locality_order(graph: BipartiteAdjacency) -> BipartiteAdjacency:
    """Renumber a graph as `graph.order: locality` does at ingest."""
    item_places, context_places = locality_order(graph)
    items = np.repeat(np.arange(graph.num_items), graph.item_degrees)
    starts, columns = build_csr(
        item_places[items], context_places[graph.item_contexts], graph.num_items
    )
    return BipartiteAdjacency(starts, columns, *transpose(starts, columns, graph.num_contexts))


def _unique(edges: Ids) -> Ids:
    edges.sort()
    return edges[np.r_[True, edges[1:] != edges[:-1]]]

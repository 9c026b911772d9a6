"""Small bipartite graphs for the kernel tests."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from pinsage.kernels import PackedAdjacency, build_csr, pack, transpose
from tests import reference


@dataclass(frozen=True)
class SmallGraph:
    """One graph in both forms: arrays for the kernels, lists for the reference."""

    item_starts: np.ndarray
    item_contexts: np.ndarray
    context_starts: np.ndarray
    context_items: np.ndarray

    @property
    def num_items(self) -> int:
        return len(self.item_starts) - 1

    @property
    def num_contexts(self) -> int:
        return len(self.context_starts) - 1

    @property
    def packed(self) -> PackedAdjacency:
        return pack(self.item_starts, self.item_contexts, self.context_starts, self.context_items)

    @property
    def lists(self) -> tuple[list[list[int]], list[list[int]]]:
        return (
            reference.edge_lists(self.item_starts, self.item_contexts),
            reference.edge_lists(self.context_starts, self.context_items),
        )


def graph_of(edges: list[tuple[int, int]], num_items: int, num_contexts: int) -> SmallGraph:
    """Build a graph from (item, context) edges."""
    items, contexts = np.array(edges, np.int32).reshape(-1, 2).T
    item_starts, item_contexts = build_csr(items, contexts, num_items)
    return SmallGraph(
        item_starts, item_contexts, *transpose(item_starts, item_contexts, num_contexts)
    )


@st.composite
def small_graphs(draw: st.DrawFn) -> SmallGraph:
    """Any graph of up to 12 items and 6 contexts, isolated ones included, no edge twice."""
    num_items = draw(st.integers(1, 12))
    num_contexts = draw(st.integers(1, 6))
    edge = st.tuples(st.integers(0, num_items - 1), st.integers(0, num_contexts - 1))
    edges = draw(st.lists(edge, max_size=40, unique=True))
    return graph_of(edges, num_items, num_contexts)


def power_law_graph(num_items: int, num_contexts: int, num_edges: int, seed: int) -> SmallGraph:
    """A larger graph in which few items take most of the edges."""
    rng = np.random.default_rng(seed)
    items = (num_items * rng.random(num_edges) ** 2).astype(np.int64)
    contexts = rng.integers(0, num_contexts, num_edges)
    edges = np.unique(items * num_contexts + contexts)
    item_starts, item_contexts = build_csr(edges // num_contexts, edges % num_contexts, num_items)
    return SmallGraph(
        item_starts, item_contexts, *transpose(item_starts, item_contexts, num_contexts)
    )

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import get_num_threads, set_num_threads

from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.graph.ordering import locality_order
from pinsage.graph.powerlaw import PowerLaw
from pinsage.kernels import build_csr, transpose

SHAPE = PowerLaw(
    num_items=8_000, num_contexts=3_000, num_edges=90_000, num_communities=40, stray_share=0.1
)


def adjacency_of(
    items: np.ndarray, contexts: np.ndarray, num_items: int, num_contexts: int
) -> BipartiteAdjacency:
    by_item = build_csr(items, contexts, num_items)
    return BipartiteAdjacency(*by_item, *transpose(*by_item, num_contexts))


@pytest.fixture(scope="module")
def adjacency() -> BipartiteAdjacency:
    return adjacency_of(*SHAPE.edges_of_part(0, 1), SHAPE.num_items, SHAPE.num_contexts)


@settings(deadline=None)
@given(
    edges=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=30, unique=True),
)
def test_an_order_is_a_permutation_with_bare_nodes_last(edges: list[tuple[int, int]]) -> None:
    items, contexts = np.array(edges, np.int32).reshape(-1, 2).T
    adjacency = adjacency_of(items, contexts, 10, 6)
    for places, degrees in zip(
        locality_order(adjacency),
        (adjacency.item_degrees, adjacency.context_degrees),
        strict=True,
    ):
        assert sorted(places) == list(range(len(degrees)))
        assert set(places[degrees == 0]) == set(range(np.count_nonzero(degrees), len(degrees)))


def test_items_of_a_community_stand_together(adjacency: BipartiteAdjacency) -> None:
    places, _ = locality_order(adjacency)
    communities = np.empty(SHAPE.num_items, np.int64)
    communities[places] = SHAPE.item_communities(np.arange(SHAPE.num_items))
    beside = communities[:-1] == communities[1:]
    assert beside.mean() > 0.7


def test_threads_change_no_place(adjacency: BipartiteAdjacency) -> None:
    many, threads = locality_order(adjacency), get_num_threads()
    set_num_threads(1)
    one = locality_order(adjacency)
    set_num_threads(threads)
    for first, second in zip(many, one, strict=True):
        np.testing.assert_array_equal(first, second)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinsage.kernels.powerlaw import context_sizes, ids_of, ranks_of


@given(num_nodes=st.integers(1, 300), key=st.integers(0, 2**64 - 1))
def test_ids_are_a_permutation_of_ranks_that_can_be_undone(num_nodes, key):
    ids = ids_of(np.arange(num_nodes), num_nodes, key)
    assert sorted(ids) == list(range(num_nodes))
    assert ranks_of(ids, num_nodes, key).tolist() == list(range(num_nodes))


def test_another_key_is_another_permutation():
    orders = {tuple(ids_of(np.arange(100), 100, key)) for key in range(20)}
    assert len(orders) == 20


@given(
    num_contexts=st.integers(1, 200),
    num_edges=st.integers(1, 5_000),
    exponent=st.floats(0, 3),
)
def test_context_sizes_add_up_and_fall_with_the_rank(num_contexts, num_edges, exponent):
    sizes = context_sizes(
        np.arange(num_contexts), num_contexts=num_contexts, num_edges=num_edges, exponent=exponent
    )
    assert sizes.sum() == num_edges
    # Rounding to whole edges moves a size by less than one either way.
    assert (np.diff(sizes) <= 1).all()


@pytest.mark.parametrize("rank", [-1, 4])
def test_a_rank_of_no_node_is_refused(rank):
    with pytest.raises(ValueError, match=rf"ranks must lie in 0\.\.3; found {rank}"):
        ids_of(np.array([rank]), 4, 0)
    with pytest.raises(ValueError, match=rf"ranks must lie in 0\.\.3; found {rank}"):
        context_sizes(np.array([rank]), num_contexts=4, num_edges=9, exponent=1.0)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsage.kernels import weighted_cooccurrence
from tests import reference
from tests.kernels.graphs import graph_of, small_graphs


@settings(deadline=None)
@given(data=st.data(), graph=small_graphs())
def test_cooccurrence_equals_adding_shared_contexts_one_by_one(data, graph):
    seeds = data.draw(st.lists(st.integers(0, graph.num_items - 1), max_size=6))
    weights = np.array(
        data.draw(
            st.lists(
                st.floats(0, 10, width=32),
                min_size=graph.num_contexts,
                max_size=graph.num_contexts,
            )
        ),
        np.float32,
    )
    scores = weighted_cooccurrence(
        graph.item_starts,
        graph.item_contexts,
        graph.context_starts,
        graph.context_items,
        weights,
        np.array(seeds, np.int64),
    )
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(
        scores, reference.weighted_cooccurrence(*graph.lists, weights, seeds)
    )


def test_a_cold_seed_scores_zero_everywhere():
    graph = graph_of([(0, 0), (1, 0)], num_items=3, num_contexts=1)
    scores = weighted_cooccurrence(
        graph.item_starts,
        graph.item_contexts,
        graph.context_starts,
        graph.context_items,
        np.ones(1, np.float32),
        np.array([2]),
    )
    assert scores.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [2]}, r"seeds must lie in 0\.\.1; found 2 at place 0"),
        ({"context_weights": np.ones(2, np.float32)}, r"must be 1 float32, .* shape \(2,\)"),
        ({"context_weights": np.ones(1)}, "must be 1 float32, one a context; .* float64"),
        ({"item_starts": [0, 1, 3]}, "item_starts must run from 0 to the 2 edges"),
        ({"item_contexts": [0, 1]}, r"item_contexts must lie in 0\.\.0; found 1 at place 1"),
        ({"context_items": [0, 2]}, r"context_items must lie in 0\.\.1; found 2 at place 1"),
    ],
)
def test_cooccurrence_refuses(changed, message):
    arguments = {
        "item_starts": [0, 1, 2],
        "item_contexts": [0, 0],
        "context_starts": [0, 2],
        "context_items": [0, 1],
        "context_weights": np.ones(1, np.float32),
        "seeds": [0],
    } | changed
    with pytest.raises(ValueError, match=message):
        weighted_cooccurrence(**{name: np.asarray(value) for name, value in arguments.items()})

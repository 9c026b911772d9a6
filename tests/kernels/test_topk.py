import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pinsage.kernels import rank_bounds, top_k
from pinsage.kernels.topk import exact_scores
from tests import reference

# Few distinct values, so that ties are the rule; both zeros and both infinities among them.
tied_scores = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 3.0, np.inf])
any_scores = st.floats(width=32, allow_nan=False)
score_arrays = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 4), st.integers(1, 20)),
    elements=tied_scores | any_scores,
)


@settings(deadline=None, max_examples=200)
@given(scores=score_arrays, k=st.integers(1, 25))
def test_top_k_equals_sorting_each_row(scores, k):
    ids, best = top_k(scores, k)
    expected_ids, expected_best = reference.top_k(scores, k)
    assert ids.dtype == np.int32
    assert best.dtype == np.float32
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(best, expected_best)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), scores=score_arrays.filter(len))
def test_rank_bounds_equal_counting_rivals_one_by_one(data, scores):
    num_rows, num_candidates = scores.shape
    pair = st.tuples(
        st.integers(0, num_rows - 1),
        st.integers(-1, num_candidates - 1),
        st.integers(0, num_candidates - 1),
    )
    pairs = np.array(data.draw(st.lists(pair, max_size=8)), np.int64).reshape(-1, 3).T
    better, tied = rank_bounds(scores, *pairs)
    expected_better, expected_tied = reference.rank_bounds(scores, *pairs)
    assert better.dtype == tied.dtype == np.int64
    assert better.tolist() == expected_better
    assert tied.tolist() == expected_tied


@settings(deadline=None, max_examples=50)
@given(data=st.data(), scores=score_arrays.filter(len))
def test_a_target_that_is_no_candidate_is_counted_against_by_its_bar(data, scores):
    bar = data.draw(tied_scores)
    row = np.array([data.draw(st.integers(0, len(scores) - 1))])
    nobody = np.array([-1])
    better, tied = rank_bounds(scores, row, nobody, nobody, np.array([bar], np.float32))
    assert better.tolist() == [np.count_nonzero(scores[row] > bar)]
    assert tied.tolist() == [np.count_nonzero(scores[row] == bar)]


def test_exact_scores_do_not_depend_on_the_side_or_the_row_that_a_vector_is_in():
    vectors = np.random.default_rng(4).normal(size=(50, 31)).astype(np.float32)
    more = np.concatenate([vectors[::-1], vectors])
    left, right = np.divmod(np.arange(2_500), 50)
    found = exact_scores(vectors, vectors, left, right)
    np.testing.assert_array_equal(exact_scores(vectors, vectors, right, left), found)
    np.testing.assert_array_equal(exact_scores(more, more, 49 - left, 50 + right), found)
    np.testing.assert_allclose(found, (vectors @ vectors.T).ravel(), rtol=1e-4, atol=1e-5)


def test_rank_bounds_agree_with_top_k():
    scores = np.random.default_rng(2).integers(0, 30, (1, 200)).astype(np.float32)
    ids, _ = top_k(scores, 200)
    rank_of = {int(item): rank for rank, item in enumerate(ids[0], start=1)}
    targets = np.arange(200)
    better, tied = rank_bounds(scores, np.zeros(200, np.int64), np.full(200, -1), targets)
    for target in targets.tolist():
        assert better[target] + 1 <= rank_of[target] <= better[target] + tied[target] + 1


def test_all_scores_equal_come_in_id_order():
    ids, best = top_k(np.zeros((1, 6), np.float32), 4)
    assert ids.tolist() == [[0, 1, 2, 3]]
    assert best.tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_a_view_of_every_other_column_is_read_as_it_looks():
    scores = np.array([[1.0, 9.0, 2.0, 9.0, 3.0]], np.float32)[:, ::2]
    ids, best = top_k(scores, 2)
    assert ids.tolist() == [[2, 1]]
    assert best.tolist() == [[3.0, 2.0]]


@pytest.mark.parametrize(
    ("scores", "k", "message"),
    [
        (np.zeros((1, 3), np.float32), 0, "k must be at least 1; found 0"),
        (np.zeros(3, np.float32), 1, r"two-dimensional float32 array; found shape \(3,\)"),
        (np.zeros((1, 3)), 1, "two-dimensional float32 array; .* float64"),
        (np.array([[0, 1], [0, np.nan]], np.float32), 1, "found NaN at row 1, candidate 1"),
    ],
)
def test_top_k_refuses(scores, k, message):
    with pytest.raises(ValueError, match=message):
        top_k(scores, k)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scores": np.array([[0, np.nan, 1]], np.float32)}, "found NaN at row 0, candidate 1"),
        ({"query_rows": [1]}, r"query_rows must lie in 0\.\.0; found 1 at place 0"),
        ({"query_ids": [3]}, r"query_ids must lie in -1\.\.2; found 3 at place 0"),
        ({"targets": [3]}, r"targets must lie in 0\.\.2; found 3 at place 0"),
        ({"targets": [-1]}, r"targets must lie in 0\.\.2; found -1 at place 0"),
        ({"bars": np.array([np.nan], np.float32)}, "bars must be 1 float32 numbers"),
        ({"targets": [0, 1]}, "must pair up; found 1, 1 and 2"),
        ({"targets": [0.5]}, "targets must be a one-dimensional integer array"),
    ],
)
def test_rank_bounds_refuses(changed, message):
    arguments = {
        "scores": np.zeros((1, 3), np.float32),
        "query_rows": [0],
        "query_ids": [0],
        "targets": [1],
    } | changed
    with pytest.raises(ValueError, match=message):
        rank_bounds(**{name: np.asarray(value) for name, value in arguments.items()})

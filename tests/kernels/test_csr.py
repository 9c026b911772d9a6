import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsage.kernels import build_csr, transpose
from tests import reference

edge_lists = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 20)), max_size=40)
id_types = st.sampled_from([np.int32, np.int64])


@settings(deadline=None)
@given(edges=edge_lists, spare_rows=st.integers(0, 3), dtype=id_types)
def test_build_csr_equals_sorting_the_edges(edges, spare_rows, dtype):
    rows, cols = np.array(edges, dtype).reshape(-1, 2).T
    starts, built = build_csr(rows, cols, 8 + spare_rows)
    expected_starts, expected = reference.build_csr(rows.tolist(), cols.tolist(), 8 + spare_rows)
    assert starts.dtype == np.int64
    assert built.dtype == np.int32
    np.testing.assert_array_equal(starts, expected_starts)
    np.testing.assert_array_equal(built, expected)


@settings(deadline=None)
@given(edges=edge_lists, spare_cols=st.integers(0, 3))
def test_transpose_equals_building_from_swapped_edges(edges, spare_cols):
    rows, cols = np.array(edges, np.int32).reshape(-1, 2).T
    turned = transpose(*build_csr(rows, cols, 8), 21 + spare_cols)
    expected = reference.build_csr(cols.tolist(), rows.tolist(), 21 + spare_cols)
    np.testing.assert_array_equal(turned[0], expected[0])
    np.testing.assert_array_equal(turned[1], expected[1])


@settings(deadline=None)
@given(edges=edge_lists)
def test_transposing_twice_changes_nothing(edges):
    rows, cols = np.array(edges, np.int32).reshape(-1, 2).T
    starts, built = build_csr(rows, cols, 8)
    again = transpose(*transpose(starts, built, 21), 8)
    np.testing.assert_array_equal(again[0], starts)
    np.testing.assert_array_equal(again[1], built)


def test_build_csr_leaves_its_input_alone():
    rows, cols = np.array([1, 0], np.int32), np.array([0, 1], np.int32)
    rows.flags.writeable = cols.flags.writeable = False
    build_csr(rows, cols, 2)
    assert rows.tolist() == [1, 0]
    assert cols.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("rows", "cols", "num_rows", "message"),
    [
        ([0, 1], [0], 2, "rows and cols must pair up; found 2 and 1"),
        ([0, 2], [0, 0], 2, r"rows must lie in 0\.\.1; found 2 at place 1"),
        ([-1], [0], 2, r"rows must lie in 0\.\.1; found -1 at place 0"),
        ([0], [-5], 1, "cols must lie in .* found -5 at place 0"),
        ([0], [0], -1, "num_rows must be at least 0; found -1"),
        ([0.5], [0], 1, "rows must be a one-dimensional integer array; .* float64"),
        ([[0]], [0], 1, r"rows must be a one-dimensional integer array; found shape \(1, 1\)"),
    ],
)
def test_build_csr_refuses(rows, cols, num_rows, message):
    with pytest.raises(ValueError, match=message):
        build_csr(np.array(rows), np.array(cols), num_rows)


@pytest.mark.parametrize(
    ("starts", "cols", "message"),
    [
        ([0, 1], [0, 1], r"starts must run from 0 to the 2 edges; found 0\.\.1"),
        ([1, 2], [0, 1], r"starts must run from 0 to the 2 edges; found 1\.\.2"),
        ([], [0], "starts must run from 0 to the 1 edges; found nothing"),
        ([0, 2, 1, 2], [0, 1], "starts must never fall; it does after place 1"),
        ([0, 2], [0, 4], r"cols must lie in 0\.\.3; found 4 at place 1"),
    ],
)
def test_transpose_refuses(starts, cols, message):
    with pytest.raises(ValueError, match=message):
        transpose(np.array(starts, np.int64), np.array(cols, np.int32), 4)

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pinsage.kernels import gather, gather_rows

NUM_ROWS = 30


@settings(deadline=None)
@given(
    width=st.integers(0, 70),
    rows=hnp.arrays(
        st.sampled_from([np.int32, np.int64]),
        st.integers(0, 40),
        elements=st.integers(0, NUM_ROWS - 1),
    ),
    offset=st.integers(0, 16),
    large_bytes=st.sampled_from([0, gather._LARGE_BYTES]),
    data=st.data(),
)
def test_gathering_equals_indexing(width, rows, offset, large_bytes, data):
    values = np.arange(NUM_ROWS * width, dtype=np.float32).reshape(NUM_ROWS, width)
    values.flags.writeable = False
    around = np.full(offset + rows.size * width + 16, -2, np.float32)
    out = around[offset : offset + rows.size * width].reshape(rows.size, width)
    places = np.array(data.draw(st.permutations(range(rows.size))), np.int64)[: rows.size // 2]
    with mock.patch.object(gather, "_LARGE_BYTES", large_bytes):
        gather_rows(values, rows, out)
        np.testing.assert_array_equal(out, values[rows])
        out[:] = -1
        expected = out.copy()
        expected[places] = values[rows[: places.size]]
        gather_rows(values, rows[: places.size], out, places)
    np.testing.assert_array_equal(out, expected)
    assert (around[:offset] == -2).all()
    assert (around[offset + out.size :] == -2).all()


@pytest.mark.parametrize("shape", [(1, 1), (7, 897), (100, 64)])
def test_empty_rows_begin_a_cache_line(shape):
    rows = gather.empty_rows(*shape)
    assert rows.shape == shape
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    assert rows.ctypes.data % 64 == 0


VALUES = np.zeros((5, 4), np.float32)


@pytest.mark.parametrize(
    ("values", "rows", "out", "places", "message"),
    [
        (VALUES, [5], (1, 4), None, r"rows must lie in 0\.\.4; found 5 at place 0"),
        (VALUES, [0, -1], (2, 4), None, r"rows must lie in 0\.\.4; found -1 at place 1"),
        (VALUES, [0.5], (1, 4), None, "rows must be a one-dimensional integer array"),
        (VALUES, [0], (2, 4), None, r"out must have 1 rows of 4 numbers.*found shape \(2, 4\)"),
        (VALUES, [0], (1, 3), None, r"found shape \(1, 3\)"),
        (VALUES, [0, 1], (2, 4), [0], "or a place for each row"),
        (VALUES, [0], (1, 4), [1], r"places must lie in 0\.\.0; found 1"),
        (VALUES.astype(float), [0], (1, 4), None, "values must be float32.*found float64"),
        (VALUES[:, ::2], [0], (1, 2), None, r"row after row in memory; .* strides \(16, 8\)"),
    ],
)
def test_gather_rows_refuses(values, rows, out, places, message):
    places = None if places is None else np.array(places)
    with pytest.raises(ValueError, match=message):
        gather_rows(values, np.array(rows), np.zeros(out, np.float32), places)

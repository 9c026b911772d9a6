"""Compressed adjacency: the edges of row r are `cols[starts[r]:starts[r + 1]]`, ascending."""

import numpy as np
from jaxtyping import Int, Int32, Int64
from numba import njit

from pinsage.kernels.checks import require_ids, require_starts, require_vector

MAX_IDS = 2**31 - 1
"""Ids are int32 inside the kernels."""


def build_csr(
    rows: Int[np.ndarray, " edges"], cols: Int[np.ndarray, " edges"], num_rows: int
) -> tuple[Int64[np.ndarray, " starts"], Int32[np.ndarray, " edges"]]:
    """Sort edges by row, then column, by counting; the input order has no influence.

    An edge given twice is kept twice.

    Args:
        rows: Row of every edge, in 0..num_rows - 1.
        cols: Column of every edge, at least 0.
        num_rows: How many rows there are, empty ones included.

    Returns:
        `starts`, num_rows + 1 long, and the columns, ascending within each row.

    Raises:
        ValueError: Arrays of unequal length or other types, or ids out of range.

    >>> starts, cols = build_csr(np.array([2, 0, 2]), np.array([1, 5, 0]), 3)
    >>> starts.tolist(), cols.tolist()
    ([0, 1, 1, 3], [5, 0, 1])
    """
    require_vector("rows", rows)
    require_vector("cols", cols)
    if rows.shape != cols.shape:
        raise ValueError(f"rows and cols must pair up; found {rows.size} and {cols.size}")
    if not 0 <= num_rows <= MAX_IDS:
        raise ValueError(f"num_rows must lie in 0..{MAX_IDS}; found {num_rows}")
    require_ids("rows", rows, num_rows)
    require_ids("cols", cols, MAX_IDS)
    num_cols = int(cols.max()) + 1 if cols.size else 0
    # Rows come out in any order within a column; the transpose puts both in order.
    col_starts, grouped_rows = _group(
        cols.astype(np.int32, copy=False), rows.astype(np.int32, copy=False), num_cols
    )
    starts, ascending = _transpose(col_starts, grouped_rows, num_rows)
    return starts, ascending


def transpose(
    starts: Int64[np.ndarray, " starts"], cols: Int32[np.ndarray, " edges"], num_cols: int
) -> tuple[Int64[np.ndarray, " transposed_starts"], Int32[np.ndarray, " edges"]]:
    """Turn rows of columns into columns of rows, ascending within each.

    Args:
        starts: Row starts, one more than there are rows.
        cols: Columns of every row, in 0..num_cols - 1.
        num_cols: How many columns there are, empty ones included.

    Returns:
        The column starts, num_cols + 1 long, and the rows of every column.

    Raises:
        ValueError: Starts that don't fit the edges, or columns out of range.

    >>> starts, rows = transpose(np.array([0, 1, 3]), np.array([1, 0, 1], np.int32), 3)
    >>> starts.tolist(), rows.tolist()
    ([0, 1, 3, 3], [1, 0, 1])
    """
    require_vector("cols", cols)
    require_starts("starts", starts, cols.size)
    if not 0 <= num_cols <= MAX_IDS:
        raise ValueError(f"num_cols must lie in 0..{MAX_IDS}; found {num_cols}")
    require_ids("cols", cols, num_cols)
    turned_starts, rows = _transpose(
        starts.astype(np.int64, copy=False), cols.astype(np.int32, copy=False), num_cols
    )
    return turned_starts, rows


@njit(cache=True, nogil=True)
def _starts_of(groups, num_groups):  # type: ignore[no-untyped-def]
    starts = np.zeros(num_groups + 1, np.int64)
    for group in groups:
        starts[group + 1] += 1
    for group in range(num_groups):
        starts[group + 1] += starts[group]
    return starts


@njit(cache=True, nogil=True)
def _group(groups, values, num_groups):  # type: ignore[no-untyped-def]
    starts = _starts_of(groups, num_groups)
    free = starts[:-1].copy()
    grouped = np.empty(values.size, np.int32)
    for edge in range(values.size):
        group = groups[edge]
        grouped[free[group]] = values[edge]
        free[group] += 1
    return starts, grouped


@njit(cache=True, nogil=True)
def _transpose(starts, cols, num_cols):  # type: ignore[no-untyped-def]
    turned_starts = _starts_of(cols, num_cols)
    free = turned_starts[:-1].copy()
    rows = np.empty(cols.size, np.int32)
    for row in range(starts.size - 1):
        for edge in range(starts[row], starts[row + 1]):
            col = cols[edge]
            rows[free[col]] = row
            free[col] += 1
    return turned_starts, rows

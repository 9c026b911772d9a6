"""Compressed adjacency: the edges of row r are `cols[starts[r]:starts[r + 1]]`, ascending.

Everything here is a counting sort or one pass over sorted edges. Weights and times travel with the
edges where there are any.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Int64, Shaped
from numba import njit

from pinsage.kernels.checks import require_ids, require_starts, require_vector

INT32_IDS = 2**31 - 1
"""Up to so many ids are kept as int32. Read at every call, so that a test can lower it."""

_SPARSE_COLS = 2**22
"""Beyond so many columns more than there are edges, sorting is cheaper than counting."""

_NO_WEIGHTS = np.empty(0, np.float64)
_NO_TIMES = np.empty(0, np.int64)


class EdgeRows(NamedTuple):
    """Edges in compressed rows, with what travels with them."""

    starts: Int64[np.ndarray, " rows_and_1"]
    cols: Int[np.ndarray, " edges"]
    weights: Float64[np.ndarray, " edges"] | None = None
    times: Int64[np.ndarray, " edges"] | None = None


class MergedRows(NamedTuple):
    """Edges in compressed rows, each once."""

    starts: Int64[np.ndarray, " rows_and_1"]
    cols: Int[np.ndarray, " edges"]
    weights: Float64[np.ndarray, " edges"] | None
    """The weights of the rows before the cut, added up in their order."""
    firsts: Int64[np.ndarray, " edges"] | None
    """The earliest time of all rows."""
    lasts: Int64[np.ndarray, " edges"] | None
    """The newest time of the rows before the cut; a time after it where there is none."""


def id_dtype(num_ids: int) -> np.dtype:
    """Give the type that ids below `num_ids` are kept in: int32 while it holds them, else int64.

    >>> id_dtype(2**31 - 1), id_dtype(2**31)
    (dtype('int32'), dtype('int64'))
    """
    return np.dtype(np.int32 if num_ids <= INT32_IDS else np.int64)


def build_csr(
    rows: Int[np.ndarray, " edges"], cols: Int[np.ndarray, " edges"], num_rows: int
) -> tuple[Int64[np.ndarray, " starts"], Int[np.ndarray, " edges"]]:
    """Sort edges by row, then column, by counting; the input order has no influence.

    An edge given twice is kept twice.

    Args:
        rows: Row of every edge, in 0..num_rows - 1.
        cols: Column of every edge, at least 0; the sort takes memory for the largest of them.
        num_rows: How many rows there are, empty ones included.

    Returns:
        `starts`, num_rows + 1 long, and the columns, ascending within each row, as the `id_dtype`
        of the largest column.

    Raises:
        ValueError: Arrays of unequal length or other types, or ids out of range.

    >>> starts, cols = build_csr(np.array([2, 0, 2]), np.array([1, 5, 0]), 3)
    >>> starts.tolist(), cols.tolist()
    ([0, 1, 1, 3], [5, 0, 1])
    """
    require_vector("cols", cols)
    num_cols = int(cols.max()) + 1 if cols.size else 0
    edges = sort_edges(rows, cols, num_rows=num_rows, num_cols=num_cols)
    return edges.starts, edges.cols


def transpose(
    starts: Int64[np.ndarray, " starts"], cols: Int[np.ndarray, " edges"], num_cols: int
) -> tuple[Int64[np.ndarray, " transposed_starts"], Int[np.ndarray, " edges"]]:
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
    turned = transpose_rows(EdgeRows(starts, cols), num_cols)
    return turned.starts, turned.cols


def sort_edges(
    rows: Int[np.ndarray, " edges"],
    cols: Int[np.ndarray, " edges"],
    weights: Float64[np.ndarray, " edges"] | None = None,
    times: Int64[np.ndarray, " edges"] | None = None,
    *,
    num_rows: int,
    num_cols: int,
    first_row: int = 0,
) -> EdgeRows:
    """Sort edges by row, then column; equal ones stay in the order given, and all are kept.

    Args:
        rows: Row of every edge, in first_row..first_row + num_rows - 1.
        cols: Column of every edge, in 0..num_cols - 1.
        weights: What travels with the edges, or None.
        times: Likewise.
        num_rows: How many rows there are, empty ones included.
        num_cols: How many columns there are.
        first_row: The row that comes out as row 0.

    Raises:
        ValueError: Arrays of unequal length or other types, or ids out of range.
    """
    # By column first: the stable pass by row then leaves the columns ascending in each row.
    if num_cols > _SPARSE_COLS + 4 * cols.size:
        order = np.argsort(cols, kind="stable")
        return group_edges(
            rows[order],
            cols[order].astype(id_dtype(num_cols)),
            None if weights is None else weights[order],
            None if times is None else times[order],
            num_groups=num_rows,
            first_group=first_row,
        )
    by_col = group_edges(cols, rows, weights, times, num_groups=num_cols)
    return _turn(by_col, num_rows, first_col=first_row, names=("rows", "num_rows"))


def group_edges(
    groups: Int[np.ndarray, " edges"],
    values: Int[np.ndarray, " edges"],
    weights: Float64[np.ndarray, " edges"] | None = None,
    times: Int64[np.ndarray, " edges"] | None = None,
    *,
    num_groups: int,
    first_group: int = 0,
) -> EdgeRows:
    """Group edges by one of their ends, in the order given within each group.

    Args:
        groups: The end to group by, in first_group..first_group + num_groups - 1.
        values: The other end of every edge.
        weights: What travels with the edges, or None.
        times: Likewise.
        num_groups: How many groups there are, empty ones included.
        first_group: The group that comes out as row 0.

    Raises:
        ValueError: Arrays of unequal length or other types, or groups out of range.
    """
    require_vector("rows", values)
    require_vector("cols", groups)
    for name, array in (("rows", values), ("weights", weights), ("times", times)):
        if array is not None and array.shape != groups.shape:
            raise ValueError(f"{name} and cols must pair up; found {array.size} and {groups.size}")
    require_ids("cols", groups, first_group + num_groups, lowest=first_group)
    grouped = _group(
        groups,
        first_group,
        num_groups,
        values,
        _NO_WEIGHTS if weights is None else weights,
        _NO_TIMES if times is None else times,
    )
    return _edge_rows(grouped, weights, times)


def transpose_rows(edges: EdgeRows, num_cols: int) -> EdgeRows:
    """Turn rows of columns into columns of rows, with what travels with them.

    Rows come out ascending; equal edges stay in their order.

    Raises:
        ValueError: Starts that don't fit the edges, or columns out of range.
    """
    return _turn(edges, num_cols, first_col=0, names=("cols", "num_cols"))


def merge_repeats(edges: EdgeRows, cut: int | None = None) -> MergedRows:
    """Make one edge of equal ones: weights are added up, the earliest and newest time kept.

    Args:
        edges: Columns ascending within each row. The arrays are overwritten.
        cut: Rows at or after this time touch neither weights nor newest times; None cuts nothing.
    """
    weights = _NO_WEIGHTS if edges.weights is None else edges.weights
    times = _NO_TIMES if edges.times is None else edges.times
    limit, cuts = (0, False) if cut is None else (cut, True)
    starts, lasts = _merge(edges.starts, edges.cols, weights, times, limit, cuts)
    count = int(starts[-1])
    return MergedRows(
        starts,
        edges.cols[:count],
        None if edges.weights is None else weights[:count],
        None if edges.times is None else times[:count],
        None if edges.times is None else lasts[:count],
    )


def take_every(edges: EdgeRows, first: int, step: int) -> EdgeRows:
    """Copy rows `first`, `first + step`, ... into compressed rows of their own."""
    taken = _take_every(
        edges.starts,
        edges.cols,
        _NO_WEIGHTS if edges.weights is None else edges.weights,
        _NO_TIMES if edges.times is None else edges.times,
        first,
        step,
    )
    return _edge_rows(taken, edges.weights, edges.times)


def order_in_rows(
    starts: Int64[np.ndarray, " rows_and_1"], keys: Shaped[np.ndarray, " edges"]
) -> Int64[np.ndarray, " edges"]:
    """Sort the edges of each row by a key; equal keys stay in their order.

    Returns:
        The places of the edges in their new order; rows stay where they are.

    >>> order_in_rows(np.array([0, 3, 5]), np.array([5, 9, 5, 2, 1])).tolist()
    [0, 2, 1, 4, 3]
    """
    require_starts("starts", starts, keys.size)
    return _order_in_rows(starts, keys)


def _turn(edges: EdgeRows, num_cols: int, *, first_col: int, names: tuple[str, str]) -> EdgeRows:
    require_vector(names[0], edges.cols)
    require_starts("starts", edges.starts, edges.cols.size)
    if num_cols < 0:
        raise ValueError(f"{names[1]} must be at least 0; found {num_cols}")
    require_ids(names[0], edges.cols, first_col + num_cols, lowest=first_col)
    turned = _transpose(
        edges.starts.astype(np.int64, copy=False),
        edges.cols,
        _NO_WEIGHTS if edges.weights is None else edges.weights,
        _NO_TIMES if edges.times is None else edges.times,
        first_col,
        num_cols,
        id_dtype(len(edges.starts) - 1).type(0),
    )
    return _edge_rows(turned, edges.weights, edges.times)


def _edge_rows(
    arrays: tuple[np.ndarray, ...], weights: np.ndarray | None, times: np.ndarray | None
) -> EdgeRows:
    """Give None back where there was None."""
    return EdgeRows(
        arrays[0],
        arrays[1],
        None if weights is None else arrays[2],
        None if times is None else arrays[3],
    )


@njit(cache=True, nogil=True)
def _starts_of(groups, first, num_groups):  # type: ignore[no-untyped-def]
    starts = np.zeros(num_groups + 1, np.int64)
    for group in groups:
        starts[group - first + 1] += 1
    for group in range(num_groups):
        starts[group + 1] += starts[group]
    return starts


@njit(cache=True, nogil=True)
def _group(groups, first, num_groups, values, weights, times):  # type: ignore[no-untyped-def]
    starts = _starts_of(groups, first, num_groups)
    free = starts[:-1].copy()
    grouped = np.empty(values.size, values.dtype)
    grouped_weights = np.empty(weights.size, np.float64)
    grouped_times = np.empty(times.size, np.int64)
    for edge in range(values.size):
        group = groups[edge] - first
        place = free[group]
        free[group] = place + 1
        grouped[place] = values[edge]
        if weights.size:
            grouped_weights[place] = weights[edge]
        if times.size:
            grouped_times[place] = times[edge]
    return starts, grouped, grouped_weights, grouped_times


@njit(cache=True, nogil=True)
def _transpose(starts, cols, weights, times, first, num_cols, zero):  # type: ignore[no-untyped-def]
    turned_starts = _starts_of(cols, first, num_cols)
    free = turned_starts[:-1].copy()
    rows = np.full(cols.size, zero)
    turned_weights = np.empty(weights.size, np.float64)
    turned_times = np.empty(times.size, np.int64)
    for row in range(starts.size - 1):
        for edge in range(starts[row], starts[row + 1]):
            col = cols[edge] - first
            place = free[col]
            free[col] = place + 1
            rows[place] = row
            if weights.size:
                turned_weights[place] = weights[edge]
            if times.size:
                turned_times[place] = times[edge]
    return turned_starts, rows, turned_weights, turned_times


@njit(cache=True, nogil=True)
def _merge(starts, cols, weights, times, cut, cuts):  # type: ignore[no-untyped-def]
    merged_starts = np.zeros(starts.size, np.int64)
    lasts = np.empty(times.size, np.int64)
    place = -1
    for row in range(starts.size - 1):
        previous = -1
        for edge in range(starts[row], starts[row + 1]):
            repeats = cols[edge] == previous
            seen = not cuts or times[edge] < cut
            if not repeats:
                place += 1
                previous = cols[edge]
                cols[place] = previous
            if weights.size:
                weight = weights[edge] if seen else 0.0
                weights[place] = weights[place] + weight if repeats else weight
            if times.size:
                time = times[edge]
                if not repeats:
                    lasts[place] = time
                    times[place] = time
                else:
                    # A time at or after the cut has no say beside one before it.
                    if seen and (time > lasts[place] or (cuts and lasts[place] >= cut)):
                        lasts[place] = time
                    times[place] = min(times[place], time)
        merged_starts[row + 1] = place + 1
    return merged_starts, lasts


@njit(cache=True, nogil=True)
def _take_every(starts, cols, weights, times, first, step):  # type: ignore[no-untyped-def]
    num_rows = max(0, (starts.size - 2 - first) // step + 1)
    taken_starts = np.zeros(num_rows + 1, np.int64)
    for row in range(num_rows):
        source = first + row * step
        taken_starts[row + 1] = taken_starts[row] + starts[source + 1] - starts[source]
    count = taken_starts[num_rows]
    taken = np.empty(count, cols.dtype)
    taken_weights = np.empty(count if weights.size else 0, weights.dtype)
    taken_times = np.empty(count if times.size else 0, times.dtype)
    for row in range(num_rows):
        place = taken_starts[row]
        for edge in range(starts[first + row * step], starts[first + row * step + 1]):
            taken[place] = cols[edge]
            if weights.size:
                taken_weights[place] = weights[edge]
            if times.size:
                taken_times[place] = times[edge]
            place += 1
    return taken_starts, taken, taken_weights, taken_times


@njit(cache=True, nogil=True)
def _order_in_rows(starts, keys):  # type: ignore[no-untyped-def]
    order = np.arange(keys.size)
    for row in range(starts.size - 1):
        first, stop = starts[row], starts[row + 1]
        if stop - first > 40:
            order[first:stop] = first + np.argsort(keys[first:stop], kind="mergesort")
            continue
        for edge in range(first + 1, stop):
            key, place = keys[edge], edge
            while place > first and keys[order[place - 1]] > key:
                order[place] = order[place - 1]
                place -= 1
            order[place] = edge
    return order

"""Copying rows together from all over memory, at the speed of memory."""

import numpy as np
from jaxtyping import Float32, Int
from numba import get_num_threads, njit, prange

from pinsage.kernels.checks import require_ids, require_vector
from pinsage.kernels.intrinsics import (
    copy_line,
    copy_line_past_caches,
    prefetch_far,
    settle,
)

_LINE = 16
_LINE_FLOATS = np.uint64(_LINE)

_FLOATS_AHEAD = 4_096
"""How much is asked for ahead of what is copied: 256 cache lines."""

_SMALL_BYTES = 2**20
"""Below this, threads cost more than they bring."""

_LARGE_BYTES = 2**25
"""From this on, whoever reads the rows later does not find them in a cache anyway."""

_BLOCKS_PER_THREAD = 4
_ALL = np.empty(0, np.int64)


def empty_rows(count: int, width: int) -> Float32[np.ndarray, "count width"]:
    """Make room for rows, from the start of a cache line on, which is filled faster."""
    room = np.empty(count * width + _LINE, np.float32)
    first = _first_of_line(room)
    return room[first : first + count * width].reshape(count, width)


def gather_rows(
    values: Float32[np.ndarray, "rows width"],
    rows: Int[np.ndarray, " wanted"],
    out: Float32[np.ndarray, "places width"],
    places: Int[np.ndarray, " wanted"] | None = None,
) -> None:
    """Copy rows of `values` into `out`, in the order asked for, or to given places of it.

    Args:
        values: Where to read; a memory-mapped file will do.
        rows: Which rows, repeats welcome.
        out: Where to write. It may not share memory with `values`.
        places: Where in `out` each row goes; all different. None writes one row after another.

    Raises:
        ValueError: Arrays that don't fit together, or rows or places out of range.

    >>> values, out = np.eye(3, dtype=np.float32), np.empty((2, 3), np.float32)
    >>> gather_rows(values, np.array([2, 0]), out)
    >>> out.tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    require_vector("rows", rows)
    require_ids("rows", rows, len(values))
    count = rows.size
    if places is not None:
        require_vector("places", places)
        require_ids("places", places, len(out))
        count = len(out) if places.size == rows.size else -1
    if out.shape != (count, values.shape[1]):
        raise ValueError(
            f"out must have {rows.size} rows of {values.shape[1]} numbers, or a place for each row;"
            f" found shape {out.shape}"
        )
    for name, array in (("values", values), ("out", out)):
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be float32, row after row in memory; found {array.dtype} with strides"
                f" {array.strides}"
            )
    places = _ALL if places is None else places
    nbytes = rows.size * values.shape[1] * values.itemsize
    num_blocks = 1
    if nbytes >= _SMALL_BYTES and get_num_threads() > 1:
        num_blocks = min(get_num_threads() * _BLOCKS_PER_THREAD, rows.size)
    copy = _copy_block if num_blocks == 1 else _copy_all
    ahead = np.uint64(max(1, _FLOATS_AHEAD // max(1, values.shape[1])))
    lines = (np.uint64(_first_of_line(out)), nbytes >= _LARGE_BYTES)
    copy(values.reshape(-1), rows, out, places, ahead, lines, 0, num_blocks)


def _first_of_line(array: Float32[np.ndarray, "..."]) -> int:
    """Which of an array's first numbers begins a cache line."""
    return -(array.ctypes.data // array.itemsize) % _LINE


@njit(cache=True, nogil=True)
def _copy_block(values, rows, out, places, ahead, lines, block, num_blocks):  # type: ignore[no-untyped-def]
    """Copy one of the blocks that the rows are cut into, and ask for rows ahead all the while.

    Lines of the row ahead are asked for one by one, between the copies: all at once, more of them
    would have to wait than the processor keeps count of.
    """
    flat, width = out.reshape(-1), np.uint64(out.shape[1])
    first_of_line, past_caches = lines
    first = np.uint64(rows.size * block // num_blocks)
    stop = np.uint64(rows.size * (block + 1) // num_blocks)
    if width == 0:
        return
    for number in range(first, stop):
        later = min(number + ahead, stop - np.uint64(1))
        source_ahead = np.uint64(rows[later]) * width
        target_ahead = (np.uint64(places[later]) if places.size else later) * width
        # Rows written one after another are foreseen by the processor itself.
        asks_for_target = places.size > 0 and not past_caches
        source = np.uint64(rows[number]) * width
        target = (np.uint64(places[number]) if places.size else number) * width
        column = min((first_of_line - target) % _LINE_FLOATS, width)
        if (column | width) % _LINE_FLOATS:
            # What the lines below leave out at either end.
            prefetch_far(values, source_ahead)
            prefetch_far(values, source_ahead + width - np.uint64(1))
        for before in range(column):
            flat[target + before] = values[source + before]
        while column + _LINE_FLOATS <= width:
            prefetch_far(values, source_ahead + column)
            if asks_for_target:
                prefetch_far(flat, target_ahead + column)
            if past_caches:
                copy_line_past_caches(flat, target + column, values, source + column)
            else:
                copy_line(flat, target + column, values, source + column)
            column += _LINE_FLOATS
        for after in range(column, width):
            flat[target + after] = values[source + after]
    if past_caches:
        settle()


@njit(cache=True, nogil=True, parallel=True)
def _copy_all(values, rows, out, places, ahead, lines, first_block, num_blocks):  # type: ignore[no-untyped-def]
    for block in prange(first_block, num_blocks):
        _copy_block(values, rows, out, places, ahead, lines, block, num_blocks)

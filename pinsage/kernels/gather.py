"""Copying rows together from all over memory, at the speed of memory."""

import numpy as np
from jaxtyping import Float32, Int
from numba import get_num_threads, njit, prange

from pinsage.kernels.checks import require_ids, require_vector
from pinsage.kernels.intrinsics import prefetch_far

_FLOATS_PER_LINE = np.uint64(16)

_FLOATS_AHEAD = 3_072
"""How much is asked for ahead of what is copied: some 200 cache lines."""

_SMALL_BYTES = 2**20
"""Below this, threads cost more than they bring."""

_BLOCKS_PER_THREAD = 4
_ALL = np.empty(0, np.int64)


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
    num_blocks = 1
    large = rows.size * values.shape[1] * values.itemsize >= _SMALL_BYTES
    if large and get_num_threads() > 1:
        num_blocks = min(get_num_threads() * _BLOCKS_PER_THREAD, rows.size)
    copy = _copy_block if num_blocks == 1 else _copy_all
    ahead = max(1, _FLOATS_AHEAD // max(1, values.shape[1]))
    copy(values.reshape(-1), rows, out, places, ahead, 0, num_blocks)


@njit(cache=True, nogil=True)
def _copy_block(values, rows, out, places, ahead, block, num_blocks):  # type: ignore[no-untyped-def]
    """Copy one of the blocks that the rows are cut into, and ask for rows ahead all the while."""
    flat, width = out.reshape(-1), np.uint64(out.shape[1])
    first = np.uint64(rows.size * block // num_blocks)
    stop = np.uint64(rows.size * (block + 1) // num_blocks)
    for number in range(first, stop):
        if number + np.uint64(ahead) < stop:
            source = np.uint64(rows[number + np.uint64(ahead)]) * width
            for column in range(np.uint64(0), width, _FLOATS_PER_LINE):
                prefetch_far(values, source + column)
            prefetch_far(values, source + width - np.uint64(1))
            if places.size:
                # Rows written one after another are foreseen by the processor itself.
                target = np.uint64(places[number + np.uint64(ahead)]) * width
                for column in range(np.uint64(0), width, _FLOATS_PER_LINE):
                    prefetch_far(flat, target + column)
                prefetch_far(flat, target + width - np.uint64(1))
        source = np.uint64(rows[number]) * width
        target = (np.uint64(places[number]) if places.size else number) * width
        for column in range(width):
            flat[target + column] = values[source + column]


@njit(cache=True, nogil=True, parallel=True)
def _copy_all(values, rows, out, places, ahead, first_block, num_blocks):  # type: ignore[no-untyped-def]
    for block in prange(first_block, num_blocks):
        _copy_block(values, rows, out, places, ahead, block, num_blocks)

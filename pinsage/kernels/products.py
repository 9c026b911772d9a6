"""Inner products of one vector with many, in the calling thread."""

import numpy as np
from jaxtyping import Float32
from numba import njit


def products_of_one(
    vectors: Float32[np.ndarray, "items width"], query: Float32[np.ndarray, " width"]
) -> Float32[np.ndarray, " items"]:
    """Multiply one vector with many, without waking other threads.

    A library's matrix-vector product spreads over threads, which for one short request at a time
    costs more than it gives, and takes it from the requests beside it.

    Raises:
        ValueError: widths that differ.

    >>> products_of_one(np.eye(2, dtype=np.float32), np.array([3, 4], np.float32)).tolist()
    [3.0, 4.0]
    """
    if query.shape != (vectors.shape[1],):
        raise ValueError(f"query must have width {vectors.shape[1]}; found shape {query.shape}")
    out = np.empty(len(vectors), np.float32)
    _multiply(np.ascontiguousarray(vectors), np.ascontiguousarray(query), out)
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _multiply(vectors, query, out):  # type: ignore[no-untyped-def]
    for row in range(vectors.shape[0]):
        total = np.float32(0)
        for place in range(query.size):
            total += vectors[row, place] * query[place]
        out[row] = total

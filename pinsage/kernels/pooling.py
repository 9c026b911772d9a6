"""Sums over edges, and the small dense algebra between passes of them.

Everything here is added up in an order that no thread count changes, and without BLAS, whose sums
depend on its threads and on the processor.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from numba import njit, prange

from pinsage.kernels.checks import require_ids, require_starts, require_vector

_BLOCKS = 32
"""Pieces of the rows that threads share out; fixed, since Gram matrices add up piece by piece."""

_SWEEPS = 60
"""Jacobi's method takes about ten; more only where rounding keeps it from the last digit."""

_NEGLIGIBLE = 1e-17
"""Off-diagonal entries this far below the largest diagonal entry count as zero."""

_PADDING = 8
"""Zeros after each row of a matrix whose columns are walked along too."""


def pool_rows(
    starts: Int64[np.ndarray, " rows_and_1"],
    cols: Int32[np.ndarray, " edges"],
    values: Float32[np.ndarray, "cols width"],
    col_scales: Float32[np.ndarray, " cols"],
    row_scales: Float32[np.ndarray, " rows"],
    out: Float32[np.ndarray, "rows width"],
) -> None:
    """Write each row's scaled sum of its columns' scaled values into `out`.

    `out[r] = row_scales[r] * sum(col_scales[c] * values[c] for c in row r)`, added in float64 in
    the order of the edges. A row without edges is all zero.

    Args:
        starts: Row starts, one more than there are rows.
        cols: Columns of every row.
        values: One row of numbers a column.
        col_scales: What each column's values are multiplied by.
        row_scales: What each row's sum is multiplied by.
        out: Where the sums go; overwritten. It may not share memory with `values`.

    Raises:
        ValueError: Arrays that don't fit together, or columns out of range.

    >>> out = np.empty((2, 1), np.float32)
    >>> values, scales = np.array([[1], [10]], np.float32), np.ones(2, np.float32)
    >>> pool_rows(np.array([0, 2, 2]), np.array([0, 1], np.int32), values, scales, scales, out)
    >>> out.tolist()
    [[11.0], [0.0]]
    """
    require_vector("cols", cols)
    require_starts("starts", starts, cols.size)
    _require_matrix("values", values)
    _require_matrix("out", out)
    num_rows, num_cols = starts.size - 1, values.shape[0]
    require_ids("cols", cols, num_cols)
    if out.shape != (num_rows, values.shape[1]):
        raise ValueError(f"out must be {num_rows} x {values.shape[1]}; found {out.shape}")
    if np.may_share_memory(out, values):
        raise ValueError("out shares memory with values; give it an array of its own")
    _require_scales("col_scales", col_scales, num_cols)
    _require_scales("row_scales", row_scales, num_rows)
    # Threads get equal shares of the edges: the first ids are often the most popular.
    bounds = np.searchsorted(starts, np.arange(_BLOCKS + 1) * cols.size // _BLOCKS)
    bounds[-1] = num_rows
    _pool(starts, cols, values, col_scales, row_scales, bounds, out)


def gram(values: Float32[np.ndarray, "rows width"]) -> Float64[np.ndarray, "width width"]:
    """Multiply the transpose of `values` with `values`, in float64.

    Args:
        values: Any matrix of float32.

    Returns:
        The inner products of its columns.

    Raises:
        ValueError: Not a C-contiguous matrix of float32.

    >>> gram(np.array([[1, 2], [0, 3]], np.float32)).tolist()
    [[1.0, 2.0], [2.0, 13.0]]
    """
    _require_matrix("values", values)
    rows, width = values.shape
    partial = np.zeros((_BLOCKS, width, width))
    _add_outer_products(values, np.arange(_BLOCKS + 1) * rows // _BLOCKS, partial)
    lower = np.tril(_add_in_order(partial))
    return lower + np.tril(lower, -1).T


def rotate(
    values: Float32[np.ndarray, "rows width"], rotation: Float64[np.ndarray, "width width"]
) -> None:
    """Multiply every row of `values` by a small matrix, in place; added up in float64.

    Args:
        values: Overwritten by `values @ rotation`.
        rotation: Any square matrix of that width.

    Raises:
        ValueError: Arrays of other types, or that don't fit together.

    >>> values = np.array([[1, 2]], np.float32)
    >>> rotate(values, np.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> values.tolist()
    [[2.0, 1.0]]
    """
    _require_matrix("values", values)
    width = values.shape[1]
    if rotation.shape != (width, width) or rotation.dtype != np.float64:
        raise ValueError(
            f"rotation must be {width} x {width} float64; found {rotation.shape} of"
            f" {rotation.dtype}"
        )
    bounds = np.arange(_BLOCKS + 1) * values.shape[0] // _BLOCKS
    _rotate(values, np.ascontiguousarray(rotation), bounds)


def symmetric_eigen(
    matrix: Float64[np.ndarray, "width width"],
) -> tuple[Float64[np.ndarray, " width"], Float64[np.ndarray, "width width"]]:
    """Find the eigenvalues and eigenvectors of a small symmetric matrix by Jacobi's method.

    Args:
        matrix: Symmetric; only looked at, not changed.

    Returns:
        The eigenvalues, largest first, and the eigenvectors, a column each. Eigenvectors of equal
        eigenvalues, and all their signs, are any that fit.

    Raises:
        ValueError: Not a square matrix of finite float64 that equals its transpose.

    >>> values, vectors = symmetric_eigen(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> np.allclose(values, [3, 1]), np.allclose(np.abs(vectors), 2**-0.5)
    (True, True)
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.dtype != np.float64:
        raise ValueError(
            f"matrix must be square and of float64; found shape {matrix.shape} of {matrix.dtype}"
        )
    if not np.isfinite(matrix).all():
        raise ValueError("matrix must be finite; found NaN or infinity")
    if not np.array_equal(matrix, matrix.T):
        raise ValueError("matrix must equal its transpose; found one that does not")
    # Rows of 512 numbers would put a whole column into the same few sets of the cache.
    padded = np.zeros((matrix.shape[0], matrix.shape[0] + _PADDING))
    padded[:, : matrix.shape[0]] = matrix
    diagonal, vectors = _jacobi(padded)
    order = np.argsort(-diagonal, kind="stable")
    return diagonal[order], np.ascontiguousarray(vectors[order].T)


def _require_matrix(name: str, array: np.ndarray) -> None:
    if array.ndim != 2 or array.dtype != np.float32 or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} must be a C-contiguous float32 matrix; found shape {array.shape} of"
            f" {array.dtype}"
        )


def _require_scales(name: str, scales: np.ndarray, size: int) -> None:
    if scales.shape != (size,) or scales.dtype != np.float32:
        raise ValueError(
            f"{name} must be {size} float32; found shape {scales.shape} of {scales.dtype}"
        )


@njit(cache=True, nogil=True, parallel=True)
def _pool(starts, cols, values, col_scales, row_scales, bounds, out):  # type: ignore[no-untyped-def]
    width = values.shape[1]
    for block in prange(bounds.size - 1):
        total = np.empty(width, np.float64)
        for row in range(bounds[block], bounds[block + 1]):
            total[:] = 0.0
            for edge in range(starts[row], starts[row + 1]):
                col = cols[edge]
                scale = np.float64(col_scales[col])
                for place in range(width):
                    total[place] += scale * values[col, place]
            scale = np.float64(row_scales[row])
            for place in range(width):
                out[row, place] = scale * total[place]


@njit(cache=True, nogil=True, parallel=True)
def _add_outer_products(values, bounds, partial):  # type: ignore[no-untyped-def]
    """Add each block's rows into its own lower triangle."""
    width = values.shape[1]
    for block in prange(bounds.size - 1):
        wide = np.empty(width, np.float64)
        total = partial[block]
        for row in range(bounds[block], bounds[block + 1]):
            for place in range(width):
                wide[place] = values[row, place]
            for left in range(width):
                scale = wide[left]
                for right in range(left + 1):
                    total[left, right] += scale * wide[right]


@njit(cache=True, nogil=True)
def _add_in_order(partial):  # type: ignore[no-untyped-def]
    total = np.zeros(partial.shape[1:], np.float64)
    for block in range(partial.shape[0]):
        total += partial[block]
    return total


@njit(cache=True, nogil=True, parallel=True)
def _rotate(values, rotation, bounds):  # type: ignore[no-untyped-def]
    width = values.shape[1]
    for block in prange(bounds.size - 1):
        turned = np.empty(width, np.float64)
        for row in range(bounds[block], bounds[block + 1]):
            turned[:] = 0.0
            for left in range(width):
                scale = np.float64(values[row, left])
                for right in range(width):
                    turned[right] += scale * rotation[left, right]
            for place in range(width):
                values[row, place] = turned[place]


@njit(cache=True, nogil=True)
def _jacobi(matrix):  # type: ignore[no-untyped-def]
    """Rotate pairs of rows and columns until nothing is left beside the diagonal.

    Returns the diagonal, and the eigenvectors as rows. Overwrites `matrix`, whose rows may end in
    zeros beyond the square.
    """
    size = matrix.shape[0]
    vectors = np.eye(size)
    for _ in range(_SWEEPS):
        largest = 0.0
        for place in range(size):
            largest = max(largest, abs(matrix[place, place]))
        rotated = False
        for p in range(size):
            for q in range(p + 1, size):
                between = matrix[p, q]
                if abs(between) <= _NEGLIGIBLE * largest:
                    continue
                rotated = True
                # The smaller of the two angles that make entry (p, q) zero.
                ratio = (matrix[q, q] - matrix[p, p]) / (2.0 * between)
                sign = 1.0 if ratio >= 0.0 else -1.0
                tangent = sign / (abs(ratio) + np.sqrt(1.0 + ratio * ratio))
                cosine = 1.0 / np.sqrt(1.0 + tangent * tangent)
                sine = tangent * cosine
                _turn(matrix[p], matrix[q], cosine, sine)
                _turn(matrix[:, p], matrix[:, q], cosine, sine)
                _turn(vectors[p], vectors[q], cosine, sine)
                matrix[p, q] = 0.0
                matrix[q, p] = 0.0
        if not rotated:
            break
    diagonal = np.empty(size)
    for place in range(size):
        diagonal[place] = matrix[place, place]
    return diagonal, vectors


@njit(cache=True, nogil=True)
def _turn(first, second, cosine, sine):  # type: ignore[no-untyped-def]
    for place in range(first.size):
        a, b = first[place], second[place]
        first[place] = cosine * a - sine * b
        second[place] = sine * a + cosine * b

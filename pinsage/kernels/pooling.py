"""Sums over edges, and the small dense algebra between passes of them.

Everything here is added up in one order, by the thread that calls, and without BLAS, whose sums
depend on its threads and on the processor. Callers share out the rows.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64
from numba import njit

from pinsage.kernels.checks import require_ids, require_starts, require_vector
from pinsage.kernels.intrinsics import prefetch_far

_SWEEPS = 60
"""Jacobi's method takes about ten; more only where rounding keeps it from the last digit."""

_NEGLIGIBLE = 1e-17
"""Off-diagonal entries this far below the largest diagonal entry count as zero."""

_PADDING = 8
"""Zeros after each row of a matrix whose columns are walked along too."""

_AHEAD = 4
"""How many edges early a column's values are asked for."""

_FLOATS_PER_LINE = np.uint64(16)


def pool_rows(
    starts: Int64[np.ndarray, " rows_and_1"],
    cols: Int[np.ndarray, " edges"],
    values: Float32[np.ndarray, "cols width"],
    row_scales: Float32[np.ndarray, " rows"],
    out: Float32[np.ndarray, "rows width"],
) -> None:
    """Write each row's scaled sum of its columns' values into `out`.

    `out[r] = row_scales[r] * sum(values[c] for c in row r)`, added in float64 in the order of the
    edges. A row without edges is all zero.

    Args:
        starts: Row starts, one more than there are rows.
        cols: Columns of every row.
        values: One row of numbers a column.
        row_scales: What each row's sum is multiplied by.
        out: Where the sums go; overwritten. It may not share memory with `values`.

    Raises:
        ValueError: Arrays that don't fit together, or columns out of range.

    >>> out = np.empty((2, 1), np.float32)
    >>> values, scales = np.array([[1], [10]], np.float32), np.ones(2, np.float32)
    >>> pool_rows(np.array([0, 2, 2]), np.array([0, 1], np.int32), values, scales, out)
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
    if row_scales.shape != (num_rows,) or row_scales.dtype != np.float32:
        raise ValueError(
            f"row_scales must be {num_rows} float32; found shape {row_scales.shape} of "
            f"{row_scales.dtype}"
        )
    _pool(starts, cols, values.reshape(-1), row_scales, out)


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
    lower = np.zeros((values.shape[1], values.shape[1]))
    _add_outer_products(values, lower)
    return lower + np.tril(lower, -1).T


def rotate(
    values: Float32[np.ndarray, "rows width"], rotation: Float64[np.ndarray, "width width"]
) -> Float32[np.ndarray, "rows width"]:
    """Multiply every row of `values` by a small matrix; added up in float64.

    Args:
        values: Any matrix of float32.
        rotation: Any square matrix of that width.

    Returns:
        `values @ rotation`.

    Raises:
        ValueError: Arrays of other types, or that don't fit together.

    >>> rotate(np.array([[1, 2]], np.float32), np.array([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [[2.0, 1.0]]
    """
    _require_matrix("values", values)
    width = values.shape[1]
    if rotation.shape != (width, width) or rotation.dtype != np.float64:
        raise ValueError(
            f"rotation must be {width} x {width} float64; found {rotation.shape} of"
            f" {rotation.dtype}"
        )
    turned = np.empty_like(values)
    _rotate(values, np.ascontiguousarray(rotation), turned)
    return turned


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


@njit(cache=True, nogil=True)
def _pool(starts, cols, flat, row_scales, out):  # type: ignore[no-untyped-def]
    num_rows, width = out.shape
    floats = np.uint64(width)
    total = np.empty(width, np.float64)
    for row in range(num_rows):
        total[:] = 0.0
        for edge in range(starts[row], starts[row + 1]):
            # Edges of the rows that follow stand behind this one's.
            if edge + _AHEAD < cols.size:
                ahead = np.uint64(cols[edge + _AHEAD]) * floats
                for place in range(np.uint64(0), floats, _FLOATS_PER_LINE):
                    prefetch_far(flat, ahead + place)
            first = np.int64(cols[edge]) * width
            own = flat[first : first + width]
            for place in range(width):
                total[place] += own[place]
        scale = np.float64(row_scales[row])
        for place in range(width):
            out[row, place] = scale * total[place]


@njit(cache=True, nogil=True)
def _add_outer_products(values, lower):  # type: ignore[no-untyped-def]
    """Add each row's products into the lower triangle."""
    rows, width = values.shape
    wide = np.empty(width, np.float64)
    for row in range(rows):
        for place in range(width):
            wide[place] = values[row, place]
        for left in range(width):
            scale = wide[left]
            for right in range(left + 1):
                lower[left, right] += scale * wide[right]


@njit(cache=True, nogil=True)
def _rotate(values, rotation, turned):  # type: ignore[no-untyped-def]
    rows, width = values.shape
    total = np.empty(width, np.float64)
    for row in range(rows):
        total[:] = 0.0
        for left in range(width):
            scale = np.float64(values[row, left])
            for right in range(width):
                total[right] += scale * rotation[left, right]
        for place in range(width):
            turned[row, place] = total[place]


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

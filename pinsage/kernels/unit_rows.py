"""Rows at unit length, and one pass over rows for what would take many: scaling columns, and ReLU.

Rows are worked on whole, each by one thread, so no number of threads changes a bit.
"""

import numpy as np
from jaxtyping import Float32
from numba import njit, prange

from pinsage.kernels.checks import require_matrix, require_per_column

_PIECES = 32
"""Pieces of the rows that threads share out."""

SHORTEST = np.float32(1e-12)
"""A row is divided by at least so much, and so a row of zeros stays one."""

_SQUARES = (1e-15, 1e15)
"""Lengths between which the squares of a row are well inside float32."""


def unit_rows(rows: Float32[np.ndarray, "rows width"]) -> Float32[np.ndarray, "rows width"]:
    """Scale every row to unit length, whatever its length; a row of zeros stays.

    Works in float32 where that holds the squares. Takes several times the memory of the rows, so
    give many of them a chunk at a time.

    >>> unit_rows(np.array([[3e25, 4e25], [0, 0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units = rows / np.where(lengths > 0, lengths, np.float32(1))
    far = np.flatnonzero(~((lengths > _SQUARES[0]) & (lengths < _SQUARES[1])))
    units[far] = exact_unit_rows(rows[far])
    return units


def exact_unit_rows(rows: Float32[np.ndarray, "rows width"]) -> Float32[np.ndarray, "rows width"]:
    """Scale every row to unit length as `unit_rows` does, every sum in float64.

    The two may differ in a row's last bits, and what is published was made by one of them.
    """
    lengths = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
    return (rows / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def scale_columns(
    rows: Float32[np.ndarray, "rows width"],
    shift: Float32[np.ndarray, " width"],
    scale: Float32[np.ndarray, " width"],
    out: Float32[np.ndarray, "rows width"],
) -> None:
    """Write `(rows - shift) * scale` into `out`.

    Args:
        rows: Any rows.
        shift: Subtracted from every row.
        scale: What every row is multiplied by then.
        out: Overwritten.

    Raises:
        ValueError: Arrays of other types, or that don't fit together.
    """
    require_matrix("rows", rows)
    require_matrix("out", out, rows.shape)
    require_per_column("shift", shift, rows)
    require_per_column("scale", scale, rows)
    _scale(rows, shift, scale, out)


def relu_unit(
    rows: Float32[np.ndarray, "rows width"], bias: Float32[np.ndarray, " width"]
) -> Float32[np.ndarray, " rows"]:
    """Turn every row into `relu(row + bias)`, scaled to unit length, in place.

    A row without anything above 0 becomes zeros. NaN stays NaN.

    Args:
        rows: Overwritten.
        bias: Added to every row.

    Returns:
        The lengths that rows were divided by, `SHORTEST` or more.

    Raises:
        ValueError: Arrays of other types, or that don't fit together.

    >>> rows = np.array([[3, 4, -5], [-1, -1, -1]], np.float32)
    >>> relu_unit(rows, np.zeros(3, np.float32))[0], rows.tolist()
    (np.float32(5.0), [[0.6000000238418579, 0.800000011920929, 0.0], [0.0, 0.0, 0.0]])
    """
    require_matrix("rows", rows)
    require_per_column("bias", bias, rows)
    lengths = np.empty(len(rows), np.float32)
    _relu_unit(rows, bias, lengths)
    return lengths


def relu_unit_back(
    units: Float32[np.ndarray, "rows width"],
    lengths: Float32[np.ndarray, " rows"],
    gradient: Float32[np.ndarray, "rows width"],
    out: Float32[np.ndarray, "rows width"],
) -> None:
    """Write the gradients of what `relu_unit` was given into `out`.

    Args:
        units: What it made of the rows.
        lengths: What it returned.
        gradient: Of the unit rows.
        out: Overwritten.

    Raises:
        ValueError: Arrays of other types, or that don't fit together.
    """
    require_matrix("units", units)
    require_matrix("gradient", gradient, units.shape)
    require_matrix("out", out, units.shape)
    if lengths.shape != units.shape[:1] or lengths.dtype != np.float32:
        raise ValueError(
            f"lengths must be {len(units)} float32; found {lengths.shape} of {lengths.dtype}"
        )
    _relu_unit_back(units, lengths, gradient, out)


@njit(cache=True, nogil=True, parallel=True)
def _scale(rows, shift, scale, out):  # type: ignore[no-untyped-def]
    count, width = rows.shape
    for piece in prange(_PIECES):
        for number in range(count * piece // _PIECES, count * (piece + 1) // _PIECES):
            for column in range(width):
                out[number, column] = (rows[number, column] - shift[column]) * scale[column]


# Sums of a row may be added up in any fixed order: it is the same for every row and thread.
@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "reassoc"})
def _relu_unit(rows, bias, lengths):  # type: ignore[no-untyped-def]
    count, width = rows.shape
    for piece in prange(_PIECES):
        for number in range(count * piece // _PIECES, count * (piece + 1) // _PIECES):
            row, total = rows[number], np.float32(0)
            for column in range(width):
                value = row[column] + bias[column]
                # Not the larger of the two: that would turn NaN into 0.
                value = np.float32(0) if value <= np.float32(0) else value
                row[column] = value
                total += value * value
            length = np.sqrt(total)
            length = SHORTEST if length < SHORTEST else length
            lengths[number] = length
            for column in range(width):
                row[column] /= length


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "reassoc"})
def _relu_unit_back(units, lengths, gradient, out):  # type: ignore[no-untyped-def]
    count, width = units.shape
    for piece in prange(_PIECES):
        for number in range(count * piece // _PIECES, count * (piece + 1) // _PIECES):
            unit, given, target = units[number], gradient[number], out[number]
            along = np.float32(0)
            for column in range(width):
                along += unit[column] * given[column]
            # A row too short to be scaled to unit length was divided by a constant.
            along = np.float32(0) if lengths[number] <= SHORTEST else along
            scale = np.float32(1) / lengths[number]
            for column in range(width):
                passed = (given[column] - unit[column] * along) * scale
                closed = unit[column] <= np.float32(0)
                target[column] = np.float32(0) if closed else passed

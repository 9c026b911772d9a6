"""ReLU and importance pooling of one block in a single pass, and the way back (paper, 3.2).

Forward, each destination adds up its neighbors' rows. Back, each source adds up its destinations'
gradients, by the transposed block: every sum has one owner and a fixed order, so no number of
threads changes a bit of it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64
from numba import njit, prange

from pinsage.kernels.checks import require_ids, require_matrix, require_per_column
from pinsage.kernels.intrinsics import prefetch_far

PIECES = 32
"""Pieces of the rows that threads share out, whatever their number."""

_FLOATS_PER_LINE = np.uint64(16)


class TransposedBlock(NamedTuple):
    """Who each source was pooled by, in ascending order; neighbors of weight 0 are left out."""

    starts: Int64[np.ndarray, " sources_and_1"]
    destinations: Int32[np.ndarray, " edges"]
    weights: Float32[np.ndarray, " edges"]


def relu_pool(
    rows: Float32[np.ndarray, "sources width"],
    bias: Float32[np.ndarray, " width"],
    neighbors: Int32[np.ndarray, "destinations neighbors"],
    weights: Float32[np.ndarray, "destinations neighbors"],
    out: Float32[np.ndarray, "destinations columns"],
    first_column: int = 0,
) -> None:
    """Write the weighted sum of every destination's neighbors, after a ReLU, into `out`.

    `out[d] = sum(weights[d, t] * relu(rows[neighbors[d, t]] + bias) for t in neighbors)`, in that
    order. A neighbor of weight 0 is not read. NaN stays NaN.

    Args:
        rows: A row a source.
        bias: Added to each of them before the ReLU.
        neighbors: Source slots.
        weights: Importance weights; 0 where there is no neighbor.
        out: Where the sums go: as many of its columns as `rows` has are overwritten.
        first_column: The first of these.

    Raises:
        ValueError: Arrays of other types, that don't fit together, or slots out of range.

    >>> rows, out = np.array([[1, -1], [3, 4]], np.float32), np.empty((1, 2), np.float32)
    >>> weights = np.array([[0.5, 0.5]], np.float32)
    >>> relu_pool(rows, np.zeros(2, np.float32), np.array([[0, 1]], np.int32), weights, out)
    >>> out.tolist()
    [[2.0, 2.0]]
    """
    require_matrix("rows", rows)
    _require_block(neighbors, weights, len(rows))
    require_per_column("bias", bias, rows)
    _require_columns("out", out, first_column, (len(neighbors), rows.shape[1]))
    _relu_pool(rows, bias, neighbors, weights, out, first_column)


def transpose_block(
    neighbors: Int32[np.ndarray, "destinations neighbors"],
    weights: Float32[np.ndarray, "destinations neighbors"],
    num_sources: int,
) -> TransposedBlock:
    """Sort a block's edges by source, by counting.

    Args:
        neighbors: Source slots.
        weights: Importance weights; 0 where there is no neighbor.
        num_sources: How many sources there are.

    Raises:
        ValueError: Arrays of other types, that don't fit together, or slots out of range.

    >>> block = np.array([[1, 0], [1, 0]], np.int32), np.array([[1, 0], [0.5, 0.5]], np.float32)
    >>> turned = transpose_block(*block, 2)
    >>> turned.starts.tolist(), turned.destinations.tolist(), turned.weights.tolist()
    ([0, 1, 3], [1, 0, 1], [0.5, 1.0, 0.5])
    """
    _require_block(neighbors, weights, num_sources)
    return TransposedBlock(
        *_transpose(neighbors.reshape(-1), weights.reshape(-1), neighbors.shape[1], num_sources)
    )


def relu_pool_back(
    rows: Float32[np.ndarray, "sources width"],
    bias: Float32[np.ndarray, " width"],
    block: TransposedBlock,
    gradient: Float32[np.ndarray, "destinations columns"],
    first_column: int,
    first: int,
    out: Float32[np.ndarray, "some width"],
    sums: Float32[np.ndarray, "pieces width"],
) -> None:
    """Write the gradients of some sources' rows, `len(out)` of them from `first` on, into `out`.

    Args:
        rows: As given to `relu_pool`; where the ReLU let nothing through, the gradient is 0.
        bias: Likewise.
        block: The transposed block.
        gradient: Of what `relu_pool` wrote, in the same columns.
        first_column: The first of these.
        first: The first source.
        out: Overwritten.
        sums: `PIECES` rows that what is written is added to; all sources done, their sum is the
            gradient of the bias.

    Raises:
        ValueError: Arrays of other types, or that don't fit together.
    """
    require_matrix("rows", rows)
    require_matrix("out", out)
    require_matrix("sums", sums, (PIECES, rows.shape[1]))
    require_per_column("bias", bias, rows)
    if len(block.starts) != len(rows) + 1 or not 0 <= first <= len(rows) - len(out):
        raise ValueError(
            f"sources {first}..{first + len(out) - 1} must be among the block's "
            f"{len(block.starts) - 1}, with a row each; found {len(rows)} rows"
        )
    _require_columns("gradient", gradient, first_column, (len(gradient), rows.shape[1]))
    if out.shape[1] != rows.shape[1]:
        raise ValueError(f"out must have {rows.shape[1]} columns; found {out.shape[1]}")
    _relu_pool_back(rows, bias, *block, gradient, first_column, first, out, sums)


def _require_columns(name: str, array: np.ndarray, first: int, shape: tuple[int, int]) -> None:
    require_matrix(name, array)
    if len(array) != shape[0] or not 0 <= first <= array.shape[1] - shape[1]:
        raise ValueError(
            f"{name} must have {shape[0]} rows, and {shape[1]} columns from column {first} on;"
            f" found shape {array.shape}"
        )


def _require_block(neighbors: np.ndarray, weights: np.ndarray, num_sources: int) -> None:
    if neighbors.ndim != 2 or neighbors.dtype != np.int32 or not neighbors.flags.c_contiguous:
        raise ValueError(
            f"neighbors must be a C-contiguous int32 matrix; found shape {neighbors.shape} of"
            f" {neighbors.dtype}"
        )
    require_matrix("weights", weights)
    if weights.shape != neighbors.shape:
        raise ValueError(
            f"weights and neighbors must pair up; found shapes {weights.shape} and"
            f" {neighbors.shape}"
        )
    require_ids("neighbors", neighbors, num_sources)


# Contraction lets a product and a sum become one instruction: the same one on every thread. Places
# are unsigned, since Numba has a signed one count from the end if negative, and then stays scalar.
@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"})
def _relu_pool(rows, bias, neighbors, weights, out, first_column):  # type: ignore[no-untyped-def]
    num_destinations, num_neighbors = neighbors.shape
    width = np.uint64(rows.shape[1])
    flat, target = rows.reshape(-1), out.reshape(-1)
    for piece in prange(PIECES):
        first = num_destinations * piece // PIECES
        stop = num_destinations * (piece + 1) // PIECES
        starts = np.empty(num_neighbors, np.uint64)
        shares = np.empty(num_neighbors, np.float32)
        for destination in range(first, stop):
            if destination + 1 < stop:
                for place in range(num_neighbors):
                    ahead = np.uint64(neighbors[destination + 1, place]) * width
                    for column in range(np.uint64(0), width, _FLOATS_PER_LINE):
                        prefetch_far(flat, ahead + column)
            count = 0
            for place in range(num_neighbors):
                if weights[destination, place] != 0:
                    starts[count] = np.uint64(neighbors[destination, place]) * width
                    shares[count] = weights[destination, place]
                    count += 1
            at = np.uint64(destination * out.shape[1] + first_column)
            for column in range(width):
                target[at + column] = np.float32(0)
            whole = count // 4 * 4
            for place in range(0, whole, 4):
                _add_four(flat, bias, starts, shares, place, target, at, width)
            for place in range(whole, count):
                _add_one(flat, bias, starts[place], shares[place], target, at, width)


@njit(cache=True, nogil=True, fastmath={"contract"})
def _relu(value):  # type: ignore[no-untyped-def]
    # Not the larger of the two: that would turn NaN into 0.
    return np.float32(0) if value <= np.float32(0) else value


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_one(flat, bias, start, share, target, at, width):  # type: ignore[no-untyped-def]
    for column in range(width):
        target[at + column] += share * _relu(flat[start + column] + bias[column])


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_four(flat, bias, starts, shares, place, target, at, width):  # type: ignore[no-untyped-def]
    """Add four rows in one pass over the sum."""
    a, b, c, d = starts[place], starts[place + 1], starts[place + 2], starts[place + 3]
    of_a, of_b, of_c, of_d = shares[place], shares[place + 1], shares[place + 2], shares[place + 3]
    for column in range(width):
        shift = bias[column]
        total = target[at + column]
        total += of_a * _relu(flat[a + column] + shift)
        total += of_b * _relu(flat[b + column] + shift)
        total += of_c * _relu(flat[c + column] + shift)
        total += of_d * _relu(flat[d + column] + shift)
        target[at + column] = total


@njit(cache=True, nogil=True)
def _transpose(neighbors, weights, num_neighbors, num_sources):  # type: ignore[no-untyped-def]
    starts = np.zeros(num_sources + 1, np.int64)
    for edge in range(neighbors.size):
        starts[neighbors[edge] + 1] += np.int64(weights[edge] != 0)
    for source in range(num_sources):
        starts[source + 1] += starts[source]
    free = starts[:-1].copy()
    destinations = np.empty(starts[num_sources], np.int32)
    turned = np.empty(starts[num_sources], np.float32)
    for edge in range(neighbors.size):
        if weights[edge] != 0:
            place = free[neighbors[edge]]
            free[neighbors[edge]] = place + 1
            destinations[place] = edge // num_neighbors
            turned[place] = weights[edge]
    return starts, destinations, turned


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"})
def _relu_pool_back(  # type: ignore[no-untyped-def]
    rows, bias, starts, destinations, weights, gradient, first_column, first, out, sums
):
    count, width = out.shape[0], np.uint64(out.shape[1])
    step = np.uint64(gradient.shape[1])
    given, flat, target = gradient.reshape(-1), rows.reshape(-1), out.reshape(-1)
    for piece in prange(PIECES):
        for number in range(count * piece // PIECES, count * (piece + 1) // PIECES):
            row, at = np.uint64(first + number) * width, np.uint64(number) * width
            begin, last = starts[first + number], starts[first + number + 1] - 1
            if last < begin:
                for column in range(width):
                    target[at + column] = np.float32(0)
                continue
            for edge in range(begin, last):
                start = np.uint64(destinations[edge]) * step + np.uint64(first_column)
                _add_given(given, start, weights[edge], target, at, width, edge == begin)
            start = np.uint64(destinations[last]) * step + np.uint64(first_column)
            share, alone, total = weights[last], last == begin, sums[piece]
            for column in range(width):
                before = np.float32(0) if alone else target[at + column]
                passed = before + share * given[start + column]
                closed = flat[row + column] + bias[column] <= np.float32(0)
                passed = np.float32(0) if closed else passed
                target[at + column] = passed
                total[column] += passed


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_given(given, start, share, target, at, width, anew):  # type: ignore[no-untyped-def]
    if anew:
        for column in range(width):
            target[at + column] = share * given[start + column]
    else:
        for column in range(width):
            target[at + column] += share * given[start + column]

"""Alias tables: one of many weighted choices in constant time (Walker 1977, Vose 1991).

A row's total weight is cut into as many equal slots as the row has choices. A slot holds at most
two choices: its own, and one other that fills what its own leaves over. So a choice is one slot
drawn uniformly, and one comparison.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, UInt32
from numba import njit, prange

from pinsage.kernels.checks import require_starts

_ALL = np.uint32(0xFFFFFFFF)
_SLOT_PARTS = 2.0**32


def alias_tables(
    starts: Int64[np.ndarray, " starts"], weights: Float64[np.ndarray, " edges"]
) -> tuple[UInt32[np.ndarray, " edges"], Int32[np.ndarray, " edges"]]:
    """Prepare rows of weights for draws in constant time.

    A fraction f, uniform in [0, 2**32), drawn beside the uniform slot j keeps j if
    f < thresholds[j], else takes the row's place others[j]. A row's tables depend on that row
    alone. Chances are exact to about 2**-32 of a slot.

    Args:
        starts: Row starts, one more than there are rows.
        weights: The weight of every choice, positive and finite; only ratios within a row count.

    Returns:
        The threshold of every slot, and its other choice as an offset within the row.

    Raises:
        ValueError: A weight that is not a positive, finite number, or starts that don't fit.

    >>> thresholds, others = alias_tables(np.array([0, 2]), np.array([3.0, 1.0]))
    >>> (thresholds / 2**32).round(3).tolist(), others.tolist()
    ([1.0, 0.5], [0, 0])
    """
    require_starts("starts", starts, weights.size)
    _require_weights(weights)
    thresholds = np.empty(weights.size, np.uint32)
    others = np.empty(weights.size, np.int32)
    _fill_tables(starts.astype(np.int64, copy=False), weights, thresholds, others)
    return thresholds, others


def faded_weights(
    starts: Int64[np.ndarray, " starts"],
    weights: Float32[np.ndarray, " edges"] | None,
    ages: Float32[np.ndarray, " edges"],
    half_life: float,
) -> Float64[np.ndarray, " edges"]:
    """Halve each edge's weight once for every `half_life` of its age.

    Rows are scaled by their newest edge's share, which changes no chance within a row, so that a
    row of old edges alone does not vanish. An edge too faint for float64 keeps the smallest normal
    number.

    Args:
        starts: Row starts, one more than there are rows.
        weights: The edges' weights, positive; None for one each.
        ages: The edges' ages, at least 0, in the unit of `half_life`.
        half_life: The age at which an edge counts half, positive.

    Raises:
        ValueError: An age that is negative or not finite, or a half-life that is not positive.

    >>> ages = np.array([0.0, 10.0, 5.0], np.float32)
    >>> faded_weights(np.array([0, 2, 3]), None, ages, 10.0).tolist()
    [1.0, 0.5, 1.0]
    """
    require_starts("starts", starts, ages.size)
    if not (half_life > 0 and np.isfinite(half_life)):
        raise ValueError(f"half_life must be a positive number; found {half_life}")
    if ages.size and not (float(ages.min()) >= 0 and np.isfinite(ages).all()):
        place = int(np.argmin(np.where(np.isfinite(ages), ages, -1)))
        raise ValueError(
            f"ages must be finite and not negative; found {ages[place]} at place {place}"
        )
    own = np.ones(ages.size, np.float32) if weights is None else weights
    _require_weights(own)
    faded = np.empty(ages.size, np.float64)
    _fade(starts.astype(np.int64, copy=False), own, ages, half_life, faded)
    return faded


def _require_weights(weights: np.ndarray) -> None:
    if weights.size and not (float(weights.min()) > 0 and bool(np.isfinite(weights).all())):
        place = int(np.argmax(~((weights > 0) & np.isfinite(weights))))
        raise ValueError(
            f"weights must be positive, finite numbers; found {weights[place]} at place {place}"
        )


@njit(cache=True, nogil=True, parallel=True)
def _fade(starts, weights, ages, half_life, faded):  # type: ignore[no-untyped-def]
    for row in prange(starts.size - 1):
        newest = np.inf
        for edge in range(starts[row], starts[row + 1]):
            newest = min(newest, np.float64(ages[edge]))
        for edge in range(starts[row], starts[row + 1]):
            share = 2.0 ** (-(np.float64(ages[edge]) - newest) / half_life)
            faded[edge] = max(np.float64(weights[edge]) * share, 2.0**-1022)


@njit(cache=True, nogil=True)
def _fill_row(weights, thresholds, others, queue):  # type: ignore[no-untyped-def]
    """Fill one row. `queue` lists slots under their share from its front, over it from its end."""
    degree = weights.size
    total = 0.0
    for place in range(degree):
        total += weights[place]
    share = np.empty(degree, np.float64)
    under, over = 0, degree
    for place in range(degree):
        share[place] = weights[place] / total * degree
        if share[place] < 1.0:
            queue[under] = place
            under += 1
        else:
            over -= 1
            queue[over] = place
    while under > 0 and over < degree:
        under -= 1
        small, large = queue[under], queue[over]
        thresholds[small] = min(np.int64(share[small] * _SLOT_PARTS), np.int64(_ALL))
        others[small] = large
        share[large] -= 1.0 - share[small]
        if share[large] < 1.0:
            over += 1
            queue[under] = large
            under += 1
    # What is left over is full but for rounding; a full slot's other choice is its own.
    for rest in range(under):
        thresholds[queue[rest]] = _ALL
        others[queue[rest]] = queue[rest]
    for rest in range(over, degree):
        thresholds[queue[rest]] = _ALL
        others[queue[rest]] = queue[rest]


@njit(cache=True, nogil=True, parallel=True)
def _fill_tables(starts, weights, thresholds, others):  # type: ignore[no-untyped-def]
    for row in prange(starts.size - 1):
        first, last = starts[row], starts[row + 1]
        queue = np.empty(last - first, np.int32)
        _fill_row(weights[first:last], thresholds[first:last], others[first:last], queue)

"""Intervals and tests over groups of pairs: how far a figure would move with other groups.

Pairs of one query are not independent, nor are those made from one context, so it is whole groups
that are drawn again, or change sign: all pairs of a query, or of a held-out context, come along.
"""

import numpy as np
from jaxtyping import Float64, Int64

from pinsage.base.seeding import Stream, stream

COVERAGE = 0.95
"""How often an interval should hold the true value."""

# What the draws of `Stream.BOOTSTRAP` are for, beside the samples, which are counted from 0.
_SIGNS = -1

_SIGNS_PER_CHUNK = 2**22
"""Signs held at a time: 32 MiB."""


def resampled_means(
    values: Float64[np.ndarray, "columns pairs"],
    groups: Int64[np.ndarray, " pairs"],
    *,
    samples: int,
    seed: int,
) -> Float64[np.ndarray, "samples columns"]:
    """Draw the groups again, with replacement, and take each column's mean over their pairs.

    All columns see the same draws, so the difference of two columns is a paired comparison.

    Args:
        values: one row for each metric of each method: what each pair contributes to the mean.
        groups: what is drawn together: each pair's query, or its held-out context.
        samples: how many times to draw.
        seed: the run's seed.

    Raises:
        ValueError: there are no pairs, or no samples are asked for.
    """
    if samples < 1 or not len(groups):
        raise ValueError(
            f"wanted at least one sample of at least one pair, found {samples} and {len(groups)}"
        )
    pairs_per_group, sums = _sums_per_group(values, groups)
    num_groups = len(pairs_per_group)
    means = np.empty((samples, len(values)))
    for sample in range(samples):
        draws = stream(seed, Stream.BOOTSTRAP, sample).integers(num_groups, size=num_groups)
        times = np.bincount(draws, minlength=num_groups).astype(np.float64)
        means[sample] = sums @ times / (pairs_per_group @ times)
    return means


def interval(means: Float64[np.ndarray, " samples"]) -> tuple[float, float]:
    """Give the middle 95% of resampled means: (low, high)."""
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def bootstrap_interval(
    values: Float64[np.ndarray, " pairs"],
    groups: Int64[np.ndarray, " pairs"],
    *,
    samples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Give the 95% interval of one metric's mean.

    Raises:
        ValueError: as `resampled_means` does.
    """
    return interval(resampled_means(values[None], groups, samples=samples, seed=seed)[:, 0])


def sign_flip_p_values(
    differences: Float64[np.ndarray, "columns pairs"],
    groups: Int64[np.ndarray, " pairs"],
    *,
    flips: int,
    seed: int,
) -> Float64[np.ndarray, " columns"]:
    """Test, two-sided, whether two methods differ on average: one p value a column.

    If they did not, swapping them for any group would be as likely a result as the one seen. So the
    difference of a whole group, all its pairs together, keeps or changes its sign at random, and p
    is the share of such results, the seen one among them, whose total is at least as far from 0.
    The smallest p that can come out is 1 / (1 + flips).

    Args:
        differences: one row for each metric and rival: what each pair gives ours beyond the rival.
        groups: what is drawn together: each pair's query, or its held-out context.
        flips: how many random results to compare with.
        seed: the run's seed.

    Raises:
        ValueError: there are no pairs, or no flips are asked for.
    """
    if flips < 1 or not len(groups):
        raise ValueError(
            f"wanted at least one flip of at least one pair, found {flips} and {len(groups)}"
        )
    _, sums = _sums_per_group(differences, groups)
    # A total that differs by its rounding alone is as far.
    bar = np.abs(sums.sum(axis=1)) * (1 - 1e-9)
    as_far = np.zeros(len(differences), np.int64)
    num_groups = sums.shape[1]
    step = max(_SIGNS_PER_CHUNK // num_groups, 1)
    for start in range(0, flips, step):
        rng = stream(seed, Stream.BOOTSTRAP, _SIGNS, start)
        rows = min(step, flips - start)
        bits = np.frombuffer(rng.bytes(rows * -(-num_groups // 8)), np.uint8).reshape(rows, -1)
        signs = np.unpackbits(bits, axis=1, count=num_groups) * 2.0 - 1.0
        as_far += np.count_nonzero(np.abs(signs @ sums.T) >= bar, axis=0)
    return (1 + as_far) / (1 + flips)


def _sums_per_group(
    values: np.ndarray, groups: np.ndarray
) -> tuple[Float64[np.ndarray, " groups"], Float64[np.ndarray, "columns groups"]]:
    """Count each group's pairs, and add up each column over them."""
    _, slots, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(slots, row, minlength=len(counts)) for row in values])
    return counts.astype(np.float64), sums

"""Intervals and tests over queries: how far a figure would move with other queries.

Pairs of one query are not independent, so it is queries that are drawn again, or change sign: all
pairs of a query come along.
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
    queries: Int64[np.ndarray, " pairs"],
    *,
    samples: int,
    seed: int,
) -> Float64[np.ndarray, "samples columns"]:
    """Draw the queries again, with replacement, and take each column's mean over their pairs.

    All columns see the same draws, so the difference of two columns is a paired comparison.

    Args:
        values: one row for each metric of each method: what each pair contributes to the mean.
        queries: each pair's query.
        samples: how many times to draw.
        seed: the run's seed.

    Raises:
        ValueError: there are no pairs, or no samples are asked for.
    """
    if samples < 1 or not len(queries):
        raise ValueError(
            f"wanted at least one sample of at least one pair, found {samples} and {len(queries)}"
        )
    pairs_per_query, sums = _sums_per_query(values, queries)
    num_queries = len(pairs_per_query)
    means = np.empty((samples, len(values)))
    for sample in range(samples):
        draws = stream(seed, Stream.BOOTSTRAP, sample).integers(num_queries, size=num_queries)
        times = np.bincount(draws, minlength=num_queries).astype(np.float64)
        means[sample] = sums @ times / (pairs_per_query @ times)
    return means


def interval(means: Float64[np.ndarray, " samples"]) -> tuple[float, float]:
    """Give the middle 95% of resampled means: (low, high)."""
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def bootstrap_interval(
    values: Float64[np.ndarray, " pairs"],
    queries: Int64[np.ndarray, " pairs"],
    *,
    samples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Give the 95% interval of one metric's mean.

    Raises:
        ValueError: as `resampled_means` does.
    """
    return interval(resampled_means(values[None], queries, samples=samples, seed=seed)[:, 0])


def sign_flip_p_values(
    differences: Float64[np.ndarray, "columns pairs"],
    queries: Int64[np.ndarray, " pairs"],
    *,
    flips: int,
    seed: int,
) -> Float64[np.ndarray, " columns"]:
    """Test, two-sided, whether two methods differ on average: one p value a column.

    If they did not, swapping them for any query would be as likely a result as the one seen. So the
    difference of a whole query, all its pairs together, keeps or changes its sign at random, and p
    is the share of such results, the seen one among them, whose total is at least as far from 0.
    The smallest p that can come out is 1 / (1 + flips).

    Args:
        differences: one row for each metric and rival: what each pair gives ours beyond the rival.
        queries: each pair's query.
        flips: how many random results to compare with.
        seed: the run's seed.

    Raises:
        ValueError: there are no pairs, or no flips are asked for.
    """
    if flips < 1 or not len(queries):
        raise ValueError(
            f"wanted at least one flip of at least one pair, found {flips} and {len(queries)}"
        )
    _, sums = _sums_per_query(differences, queries)
    # A total that differs by its rounding alone is as far.
    bar = np.abs(sums.sum(axis=1)) * (1 - 1e-9)
    as_far = np.zeros(len(differences), np.int64)
    num_queries = sums.shape[1]
    step = max(_SIGNS_PER_CHUNK // num_queries, 1)
    for start in range(0, flips, step):
        rng = stream(seed, Stream.BOOTSTRAP, _SIGNS, start)
        rows = min(step, flips - start)
        bits = np.frombuffer(rng.bytes(rows * -(-num_queries // 8)), np.uint8).reshape(rows, -1)
        signs = np.unpackbits(bits, axis=1, count=num_queries) * 2.0 - 1.0
        as_far += np.count_nonzero(np.abs(signs @ sums.T) >= bar, axis=0)
    return (1 + as_far) / (1 + flips)


def _sums_per_query(
    values: np.ndarray, queries: np.ndarray
) -> tuple[Float64[np.ndarray, " queries"], Float64[np.ndarray, "columns queries"]]:
    """Count each query's pairs, and add up each column over them."""
    _, slots, counts = np.unique(queries, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(slots, row, minlength=len(counts)) for row in values])
    return counts.astype(np.float64), sums

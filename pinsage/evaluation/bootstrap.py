"""Bootstrap intervals over queries: how far a metric would move with other queries.

Pairs of one query are not independent, so it is queries that are drawn again: all pairs of a query
come along as often as the query is drawn.
"""

import numpy as np
from jaxtyping import Float64, Int64

from pinsage.base.seeding import Stream, stream

COVERAGE = 0.95
"""How often an interval should hold the true value."""


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
    distinct, slots = np.unique(queries, return_inverse=True)
    num_queries = len(distinct)
    pairs_per_query = np.bincount(slots, minlength=num_queries).astype(np.float64)
    sums = np.stack([np.bincount(slots, row, minlength=num_queries) for row in values])
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


def paired_interval(
    values: Float64[np.ndarray, " pairs"],
    rival_values: Float64[np.ndarray, " pairs"],
    queries: Int64[np.ndarray, " pairs"],
    *,
    samples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Give the 95% interval of how much better one method is than another on the same pairs.

    Raises:
        ValueError: as `resampled_means` does.
    """
    return bootstrap_interval(values - rival_values, queries, samples=samples, seed=seed)

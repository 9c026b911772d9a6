"""Ranking metrics, each the exact expectation over random breaking of ties (paper, section 4.2).

A scorer that cannot tell items apart earns exactly what chance earns, and nothing depends on the
order in which tied items happen to be stored.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from pinsage.evaluation.ranking import Ranks


def hit_values(ranks: Ranks, k: int) -> Float64[np.ndarray, " pairs"]:
    """Give each pair's chance that its positive is among the best `k`.

    >>> hit_values(Ranks(np.array([0, 1, 5]), np.array([0, 3, 0]), 9), 3).tolist()
    [1.0, 0.5, 0.0]

    Raises:
        ValueError: `k` is less than 1.
    """
    _check_at_least_one("k", k)
    return np.clip((k - ranks.better) / (ranks.tied + 1), 0.0, 1.0)


def scaled_reciprocal_values(ranks: Ranks, scale: int = 100) -> Float64[np.ndarray, " pairs"]:
    """Give each pair's expected 1 / ceil(rank / scale): the terms of Equation 2.

    >>> scaled_reciprocal_values(Ranks(np.array([0, 99, 100]), np.array([0, 1, 0]), 200)).tolist()
    [1.0, 0.75, 0.5]

    Raises:
        ValueError: `scale` is less than 1.
    """
    _check_at_least_one("scale", scale)
    # Rank r is worth 1 / ceil(r / scale), so the worth of ranks 1 ... n is `scale` times the
    # harmonic number of the whole steps, and the rest of n at the next step's worth.
    steps = np.arange(1, ranks.num_candidates // scale + 2)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / steps)])
    first, last = ranks.better, ranks.better + ranks.tied + 1

    def worth(n: np.ndarray) -> np.ndarray:
        whole, rest = np.divmod(n, scale)
        return scale * harmonic[whole] + rest / (whole + 1)

    mean = (worth(last) - worth(first)) / (ranks.tied + 1)
    # Without a tie, no difference of sums, and so no rounding.
    return np.where(ranks.tied == 0, 1.0 / (first // scale + 1), mean)


def reciprocal_values(ranks: Ranks) -> Float64[np.ndarray, " pairs"]:
    """Give each pair's expected 1 / rank."""
    return scaled_reciprocal_values(ranks, scale=1)


def discounted_values(ranks: Ranks, k: int) -> Float64[np.ndarray, " pairs"]:
    """Give each pair's expected 1 / log2(1 + rank), or 0 beyond rank `k`: its share of a DCG.

    >>> discounted_values(Ranks(np.array([0, 2, 2]), np.array([0, 0, 1]), 9), 3).round(6).tolist()
    [1.0, 0.5, 0.25]

    Raises:
        ValueError: `k` is less than 1.
    """
    _check_at_least_one("k", k)
    # No rank is beyond the candidates, so that the gains take no memory for a larger k.
    k = min(k, ranks.num_candidates)
    gains = _ideal_gains(k)
    first, last = ranks.better, ranks.better + ranks.tied + 1
    sums = gains[np.minimum(last, k)] - gains[np.minimum(first, k)]
    return sums / (ranks.tied + 1)


class Answers(NamedTuple):
    """The distinct positives of each query: pairs that repeat another one count once."""

    pairs: Int64[np.ndarray, " answers"]
    """The first pair that names each of them."""
    slots: Int64[np.ndarray, " answers"]
    """The place of its query among the distinct queries, ascending."""
    per_query: Int64[np.ndarray, " queries"]
    """How many each query has."""

    @classmethod
    def of(
        cls, queries: Int64[np.ndarray, " pairs"], positives: Int64[np.ndarray, " pairs"]
    ) -> "Answers":
        """Find the distinct pairs."""
        _, first = np.unique(np.stack([queries, positives]), axis=1, return_index=True)
        _, slots, per_query = np.unique(queries[first], return_inverse=True, return_counts=True)
        return cls(first, slots, per_query)

    def sums(self, values: Float64[np.ndarray, " pairs"]) -> Float64[np.ndarray, " queries"]:
        """Add up the values of each query's distinct pairs."""
        return np.bincount(self.slots, values[self.pairs], minlength=len(self.per_query))


def recall_values(ranks: Ranks, answers: Answers, k: int) -> Float64[np.ndarray, " queries"]:
    """Give the expected share of each query's positives that are among its best `k`.

    Each positive is ranked among all candidates, the query's other positives included, so the
    expectation over ties of the share is the mean of the positives' chances.

    Raises:
        ValueError: `k` is less than 1.
    """
    return answers.sums(hit_values(ranks, k)) / answers.per_query


def ndcg_values(ranks: Ranks, answers: Answers, k: int) -> Float64[np.ndarray, " queries"]:
    """Give each query's expected NDCG@k: every positive is worth 1, discounted by log2(1 + rank).

    1 is the best that any ranking of as many positives can reach.

    Raises:
        ValueError: `k` is less than 1.
    """
    sums = answers.sums(discounted_values(ranks, k))
    counted = np.minimum(answers.per_query, k)
    return sums / _ideal_gains(int(counted.max()))[counted]


def hit_rate(ranks: Ranks, k: int) -> float:
    """Share of held-out pairs whose positive is among the best `k` (4.2).

    >>> constant = Ranks(np.array([0]), np.array([199]), 200)
    >>> hit_rate(constant, 10)
    0.05
    """
    return float(hit_values(ranks, k).mean())


def scaled_mrr(ranks: Ranks, scale: int = 100) -> float:
    """Mean of 1 / ceil(rank / scale) over held-out pairs (Equation 2; the paper's scale is 100)."""
    return float(scaled_reciprocal_values(ranks, scale).mean())


def mrr(ranks: Ranks) -> float:
    """Mean of 1 / rank over held-out pairs."""
    return float(reciprocal_values(ranks).mean())


def _ideal_gains(k: int) -> Float64[np.ndarray, " ranks"]:
    """Give the DCG of n positives at the best n ranks, for n = 0 ... k."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])


def _check_at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"wanted {name} >= 1, found {value}")

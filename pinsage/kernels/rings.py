"""Rings of pairs: which pairs were made from one context, told by their order alone."""

import numpy as np
from jaxtyping import Int64
from numba import njit

from pinsage.kernels.checks import require_vector


def ring_numbers(
    queries: Int64[np.ndarray, " pairs"], positives: Int64[np.ndarray, " pairs"]
) -> Int64[np.ndarray, " pairs"] | None:
    """Number the rings that pairs are made of, in order.

    In a ring, each pair's positive is the next pair's query, and the last one's the first's. It has
    no item twice, so it ends at the first pair that leads back to its first query.

    Returns:
        The number of each pair's ring, from 0; None if the pairs are not whole rings in a row.

    Raises:
        ValueError: not vectors of equal length.

    >>> ring_numbers(np.array([4, 1, 4, 2, 7]), np.array([1, 4, 2, 7, 4])).tolist()
    [0, 0, 1, 1, 1]
    >>> ring_numbers(np.array([4, 1]), np.array([1, 2])) is None
    True
    """
    for name, ids in (("queries", queries), ("positives", positives)):
        require_vector(name, ids)
    if len(queries) != len(positives):
        raise ValueError(f"a pair has both: found {len(queries)} queries, {len(positives)} others")
    numbers = np.empty(len(queries), np.int64)
    return numbers if _number(queries, positives, numbers) else None


@njit(cache=True, nogil=True)
def _number(queries, positives, numbers):  # type: ignore[no-untyped-def]
    """Fill in the numbers; tell whether all pairs are in a ring."""
    number, first = 0, 0
    for pair in range(queries.size):
        numbers[pair] = number
        if positives[pair] == queries[first]:
            number, first = number + 1, pair + 1
        elif pair + 1 == queries.size or positives[pair] != queries[pair + 1]:
            return False
    return True

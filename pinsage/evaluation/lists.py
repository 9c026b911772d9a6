"""What is recommended, all lists together: how varied, and how popular.

Lists break ties by smaller id, as a server would.
"""

import numpy as np
from jaxtyping import Float64, Int, Integer

from pinsage.evaluation.item_facts import Content

_LISTS_PER_CHUNK = 1_024


def coverage(lists: Int[np.ndarray, "queries k"], num_candidates: int) -> float:
    """Share of the candidates that are in at least one list.

    >>> coverage(np.array([[0, 1], [0, 2]]), 6)
    0.5
    """
    return len(np.unique(lists)) / num_candidates


def gini(lists: Int[np.ndarray, "queries k"], num_candidates: int) -> float:
    """Gini coefficient of how often each candidate is recommended.

    0 when all are equally often; close to 1 when a few take all places.

    >>> gini(np.array([[0, 1], [2, 3]]), 4), gini(np.array([[0], [0]]), 4)
    (0.0, 0.75)
    """
    _, counts = np.unique(lists, return_counts=True)
    ordered = np.sort(counts)
    # The candidates in no list come first, and add nothing.
    places = np.arange(num_candidates - len(ordered) + 1, num_candidates + 1)
    weights = 2 * places - num_candidates - 1
    return float(weights @ ordered / (num_candidates * ordered.sum()))


def largest_share(lists: Int[np.ndarray, "queries k"]) -> float:
    """Share of the lists that the item recommended most often is in.

    >>> largest_share(np.array([[0, 1], [0, 2], [3, 4], [5, 6]]))
    0.5
    """
    _, counts = np.unique(lists, return_counts=True)
    return float(counts.max() / len(lists))


def popularity_values(
    lists: Int[np.ndarray, "queries k"], degrees: Integer[np.ndarray, " items"]
) -> Float64[np.ndarray, " queries"]:
    """Give each list's mean number of contexts an item."""
    return degrees[lists].mean(axis=1, dtype=np.float64)


def diversity_values(
    lists: Int[np.ndarray, "queries k"], content: Content
) -> Float64[np.ndarray, " queries"]:
    """Give each list's diversity: 1 less the mean cosine of the content of two of its items.

    Items without content are at cosine 0 from everything. A list of one item has diversity 0.

    Args:
        lists: item ids.
        content: gives the content of items.
    """
    length = lists.shape[1]
    if length < 2:
        return np.zeros(len(lists))
    values = np.empty(len(lists))
    for start in range(0, len(lists), _LISTS_PER_CHUNK):
        chunk = lists[start : start + _LISTS_PER_CHUNK]
        rows = content(chunk.reshape(-1)).reshape(*chunk.shape, -1).astype(np.float64)
        lengths = np.linalg.norm(rows, axis=2, keepdims=True)
        rows /= np.where(lengths > 0, lengths, 1.0)
        # All pairs at once: the square of the sum, less each item with itself.
        total = np.square(rows.sum(axis=1)).sum(axis=1) - np.square(rows).sum(axis=(1, 2))
        values[start : start + _LISTS_PER_CHUNK] = 1 - total / (length * (length - 1))
    return values

"""What is recommended, all lists together: how varied, and how popular.

Lists break ties by smaller id, as a server would, and are as short as a server's: where a method
knows of fewer items, -1 fills the places that are left.
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
    return len(np.unique(lists[lists >= 0])) / num_candidates


def gini(lists: Int[np.ndarray, "queries k"], num_candidates: int) -> float:
    """Gini coefficient of how often each candidate is recommended.

    0 when all are equally often, or none ever; close to 1 when a few take all places.

    >>> gini(np.array([[0, 1], [2, 3]]), 4), gini(np.array([[0], [0]]), 4)
    (0.0, 0.75)
    """
    _, counts = np.unique(lists[lists >= 0], return_counts=True)
    if not len(counts):
        return 0.0
    ordered = np.sort(counts)
    # The candidates in no list come first, and add nothing.
    places = np.arange(num_candidates - len(ordered) + 1, num_candidates + 1)
    weights = 2 * places - num_candidates - 1
    return float(weights @ ordered / (num_candidates * ordered.sum()))


def largest_share(lists: Int[np.ndarray, "queries k"]) -> float:
    """Share of the lists, empty ones too, that the item recommended most often is in.

    >>> largest_share(np.array([[0, 1], [0, -1], [3, 4], [-1, -1]]))
    0.5
    """
    _, counts = np.unique(lists[lists >= 0], return_counts=True)
    return float(counts.max(initial=0) / len(lists))


def popularity_values(
    lists: Int[np.ndarray, "queries k"], degrees: Integer[np.ndarray, " items"]
) -> Float64[np.ndarray, " queries"]:
    """Give each list's mean number of contexts an item; NaN where the list is empty."""
    is_filled = lists >= 0
    totals = np.where(is_filled, degrees[lists], 0).sum(axis=1, dtype=np.float64)
    return _divided(totals, is_filled.sum(axis=1))


def diversity_values(
    lists: Int[np.ndarray, "queries k"], content: Content
) -> Float64[np.ndarray, " queries"]:
    """Give each list's diversity: 1 less the mean cosine of the content of two of its items.

    Items without content are at cosine 0 from everything. A list of fewer than two items has no
    diversity: NaN.

    Args:
        lists: item ids.
        content: gives the content of items.
    """
    values = np.empty(len(lists))
    for start in range(0, len(lists), _LISTS_PER_CHUNK):
        chunk = lists[start : start + _LISTS_PER_CHUNK]
        is_filled = chunk >= 0
        # Any item's content does where there is no item, since it is taken out again.
        item_ids = np.where(is_filled, chunk, 0).reshape(-1)
        rows = content(item_ids).reshape(*chunk.shape, -1).astype(np.float64)
        rows[~is_filled] = 0
        lengths = np.linalg.norm(rows, axis=2, keepdims=True)
        rows /= np.where(lengths > 0, lengths, 1.0)
        # All pairs at once: the square of the sum, less each item with itself.
        total = np.square(rows.sum(axis=1)).sum(axis=1) - np.square(rows).sum(axis=(1, 2))
        sizes = is_filled.sum(axis=1)
        values[start : start + _LISTS_PER_CHUNK] = 1 - _divided(total, sizes * (sizes - 1))
    return values


def _divided(
    totals: Float64[np.ndarray, " lists"], counts: Int[np.ndarray, " lists"]
) -> Float64[np.ndarray, " lists"]:
    """Divide; NaN where there is nothing to divide by."""
    return np.divide(totals, counts, out=np.full(len(totals), np.nan), where=counts > 0)

"""An order of ids in which nodes that are met together stand together in memory."""

import numpy as np
from jaxtyping import Int64

from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.kernels.labels import majority_labels

_PASSES = 4
"""Enough for labels to settle on communities: a second of work for ten million edges."""


def locality_order(
    adjacency: BipartiteAdjacency,
) -> tuple[Int64[np.ndarray, " items"], Int64[np.ndarray, " contexts"]]:
    """Number items and contexts community after community, the largest degrees of each first.

    Labels spread between the two sides: every context begins with its own; then items take the
    label that most of their contexts have, and contexts the one that most of their items have.
    A graph with communities is then walked faster, because walks stay where the caches are; one
    without is walked as before (`benchmarks.locality`).

    Returns:
        The new id of every item and of every context: a permutation each, a function of the edges
        alone. Nodes without edges come last.
    """
    labels = np.arange(adjacency.num_contexts)
    item_labels = np.empty(0, np.int64)
    for number in range(_PASSES + 1):
        item_labels = majority_labels(adjacency.item_starts, adjacency.item_contexts, _worn(labels))
        if number < _PASSES:
            labels = majority_labels(
                adjacency.context_starts, adjacency.context_items, _worn(item_labels)
            )
    return (
        _places(_worn(item_labels), adjacency.item_degrees),
        _places(_worn(labels), adjacency.context_degrees),
    )


def _worn(labels: Int64[np.ndarray, " nodes"]) -> Int64[np.ndarray, " nodes"]:
    """Give nodes without a label one behind all others."""
    return np.where(labels < 0, np.iinfo(np.int64).max, labels)


def _places(
    labels: Int64[np.ndarray, " nodes"], degrees: Int64[np.ndarray, " nodes"]
) -> Int64[np.ndarray, " nodes"]:
    """Give every node its place by label, then by degree, largest first, then by id."""
    order = np.lexsort((-degrees, labels))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places

"""The label that most of a node's neighbors wear."""

import numpy as np
from jaxtyping import Int, Int64
from numba import njit, prange

from pinsage.kernels.checks import require_ids, require_starts, require_vector

_SAMPLED = 16
"""Neighbors asked of a node with more of them: every n-th, from the first on."""

_BLOCKS = 64


def majority_labels(
    starts: Int64[np.ndarray, " starts"],
    neighbors: Int[np.ndarray, " edges"],
    labels: Int64[np.ndarray, " other_nodes"],
) -> Int64[np.ndarray, " nodes"]:
    """Find for every node the most frequent label of its neighbors on the other side.

    Up to 16 neighbors are asked, evenly spread over a node's edges; ties go to the smallest label.

    Args:
        starts: Row starts of the nodes' edges.
        neighbors: The other side's node of every edge.
        labels: The label of every node of the other side, not negative.

    Returns:
        Labels; -1 for a node without edges.

    Raises:
        ValueError: Arrays that don't fit together.

    >>> starts, neighbors = np.array([0, 3, 3, 4]), np.array([0, 1, 2, 0])
    >>> majority_labels(starts, neighbors, np.array([7, 5, 5])).tolist()
    [5, -1, 7]
    """
    require_vector("neighbors", neighbors)
    require_vector("labels", labels)
    require_starts("starts", starts, neighbors.size)
    require_ids("neighbors", neighbors, labels.size)
    found = np.empty(starts.size - 1, np.int64)
    _find(starts, neighbors, labels, found, _BLOCKS)
    return found


@njit(cache=True, nogil=True)
def _most_frequent(starts, neighbors, labels, node, sample):  # type: ignore[no-untyped-def]
    first, stop = starts[node], starts[node + 1]
    step = max(1, -(-(stop - first) // sample.size))
    count = 0
    for edge in range(first, stop, step):
        label, place = labels[neighbors[edge]], count
        while place > 0 and sample[place - 1] > label:
            sample[place] = sample[place - 1]
            place -= 1
        sample[place] = label
        count += 1
    best, most, run = np.int64(-1), 0, 0
    for place in range(count):
        run = run + 1 if place and sample[place] == sample[place - 1] else 1
        if run > most:
            best, most = sample[place], run
    return best


@njit(cache=True, nogil=True, parallel=True)
def _find(starts, neighbors, labels, found, num_blocks):  # type: ignore[no-untyped-def]
    for block in prange(num_blocks):
        sample = np.empty(_SAMPLED, np.int64)
        for node in range(found.size * block // num_blocks, found.size * (block + 1) // num_blocks):
            found[node] = _most_frequent(starts, neighbors, labels, node, sample)

"""From several items to one list: interests, and the merging of what each of them finds.

Recent items are clustered by Ward's method and each cluster is searched for by its medoid, as in
PinnerSage (Pal et al. 2020, sections 3 and 4): a mean of unlike items lies between their kinds,
where nothing is that anyone likes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

MERGED_BELOW = 0.3
"""Clusters are one interest where merging them adds less variance: two unit vectors whose cosine is
above 0.7."""


@dataclass(frozen=True)
class Interest:
    """Recent items that are alike.

    Attributes:
        members: places of its items among those given, ascending.
        medoid: the place of the item nearest to all of them.
        weight: its share of all weights.
    """

    members: Int64[np.ndarray, " members"]
    medoid: int
    weight: float


def interests(
    vectors: Float[np.ndarray, "recent width"],
    weights: Float[np.ndarray, " recent"],
    max_interests: int,
) -> list[Interest]:
    """Cluster recent items by Ward's method, and give the clusters, most weight first.

    Clusters are merged while there are more than `max_interests`, or two are as good as one
    (`MERGED_BELOW`).

    Args:
        vectors: unit embeddings of the recent items.
        weights: how much each says, all above 0.
        max_interests: clusters wanted, at most.

    >>> found = interests(np.array([[1.0, 0], [0, 1], [1, 0]]), np.array([1, 1, 2.0]), 2)
    >>> [(interest.members.tolist(), interest.weight) for interest in found]
    [([0, 2], 0.75), ([1], 0.25)]
    """
    units = np.asarray(vectors, dtype=np.float64)
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights, dtype=np.float64)
    found = []
    for members in _ward(units, max_interests):
        own = units[members]
        # The nearest to all, with weights: the largest sum of inner products.
        closeness = own @ (shares[members] @ own)
        medoid = int(members[np.argmax(closeness)])
        found.append(Interest(members, medoid, float(shares[members].sum())))
    return sorted(found, key=lambda interest: (-interest.weight, interest.medoid))


def merge_interests(
    results: Sequence[Int[np.ndarray, " _"]], weights: Sequence[float], k: int
) -> list[tuple[int, int]]:
    """Merge what each interest found into one list, without repeating an item.

    Every beginning of the list is shared out by weight, as nearly as whole items allow; an interest
    that has no more leaves its places to the others.

    Args:
        results: the item ids each interest found, best first.
        weights: the interests' weights.
        k: items wanted.

    Returns:
        (interest, place in its results), in order.

    >>> merge_interests([np.array([7, 8, 9]), np.array([8, 5])], [0.7, 0.3], 4)
    [(0, 0), (0, 1), (1, 1), (0, 2)]
    """
    merged: list[tuple[int, int]] = []
    seen: set[int] = set()
    places = [0] * len(results)
    taken = [0] * len(results)
    while len(merged) < k:
        for number, ids in enumerate(results):
            while places[number] < len(ids) and int(ids[places[number]]) in seen:
                places[number] += 1
        left = [number for number, ids in enumerate(results) if places[number] < len(ids)]
        if not left:
            break
        # The highest averages of d'Hondt.
        best = max(left, key=lambda number: (weights[number] / (taken[number] + 1), -number))
        merged.append((best, places[best]))
        seen.add(int(results[best][places[best]]))
        taken[best] += 1
    return merged


def _ward(
    units: Float64[np.ndarray, "recent width"], max_clusters: int
) -> list[Int64[np.ndarray, " members"]]:
    """Merge the two clusters that add the least variance, again and again."""
    members = [np.array([place]) for place in range(len(units))]
    centers = units.copy()
    sizes = np.ones(len(units))
    while len(members) > 1:
        squares = np.einsum("cd,cd->c", centers, centers)
        gaps = np.maximum(squares[:, None] + squares[None, :] - 2 * centers @ centers.T, 0)
        costs = gaps * (sizes[:, None] * sizes[None, :]) / (sizes[:, None] + sizes[None, :])
        costs[np.tril_indices(len(members))] = np.inf
        one, other = np.unravel_index(np.argmin(costs), costs.shape)
        if len(members) <= max_clusters and costs[one, other] >= MERGED_BELOW:
            break
        total = sizes[one] + sizes[other]
        centers[one] = (sizes[one] * centers[one] + sizes[other] * centers[other]) / total
        members[one] = np.sort(np.concatenate([members[one], members[other]]))
        sizes[one] = total
        keep = np.arange(len(members)) != other
        centers, sizes = centers[keep], sizes[keep]
        del members[other]
    return members

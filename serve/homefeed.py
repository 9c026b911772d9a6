"""Recommendations for somebody's recent items: one search an interest, merged into one list."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from pinsage.retrieval.recommend import Interest, interests, merge_interests
from serve.related import Method, Wanted


@dataclass(frozen=True)
class Recent:
    """Recent items, oldest first, none twice.

    Attributes:
        ids: their ids.
        weights: how much each says, all above 0.
    """

    ids: Int64[np.ndarray, " recent"]
    weights: Float64[np.ndarray, " recent"]


@dataclass(frozen=True)
class Feed:
    """Recommendations.

    Attributes:
        interests: what the recent items were taken for; places are those of `Recent`.
        item_ids: recommended items, best first.
        scores: how closely each is related to its interest.
        of_interest: which interest each comes from.
    """

    interests: list[Interest]
    item_ids: list[int]
    scores: list[float]
    of_interest: list[int]


def recent_items(
    ids: Sequence[int],
    weights: Sequence[float],
    timestamps: Sequence[float] | None,
    half_life_s: float | None,
) -> Recent:
    """Order recent items, and let older ones count less.

    Args:
        ids: item ids; the last mention of one is the one that counts.
        weights: how much each says.
        timestamps: when each was, in seconds; None takes them as given, oldest first.
        half_life_s: after how many seconds an item counts half; None lets all count alike.
    """
    order = np.argsort(timestamps, kind="stable") if timestamps is not None else np.arange(len(ids))
    last = {ids[place]: place for place in order}
    kept = np.array([place for place in order if last[ids[place]] == place], dtype=np.int64)
    counted = np.asarray(weights, dtype=np.float64)[kept]
    if timestamps is not None and half_life_s is not None:
        times = np.asarray(timestamps, dtype=np.float64)[kept]
        # However old, an item still counts: a taste is better than none.
        counted = counted * np.maximum(np.exp2((times - times.max()) / half_life_s), 1e-9)
    return Recent(np.asarray(ids, dtype=np.int64)[kept], counted)


def feed(
    method: Method,
    vectors: Float64[np.ndarray, "recent width"],
    recent: Recent,
    k: int,
    max_interests: int,
    wanted: Wanted,
) -> Feed:
    """Recommend for recent items.

    Args:
        method: finds related items.
        vectors: unit embeddings of the recent items.
        recent: the items.
        k: recommendations wanted.
        max_interests: interests they are taken for, at most; with 1, the last item alone counts.
        wanted: which items may be recommended; recent ones never are.
    """
    if max_interests == 1:
        last = len(recent.ids) - 1
        found = [Interest(np.array([last], dtype=np.int64), last, 1.0)]
    else:
        found = interests(vectors, recent.weights, max_interests)
    allowed = Wanted(wanted.allowed, np.union1d(wanted.banned, recent.ids))
    medoids = [int(recent.ids[interest.medoid]) for interest in found]
    results = method.related(medoids, k, allowed)
    merged = merge_interests(
        [np.asarray(result.item_ids, dtype=np.int64) for result in results],
        [interest.weight for interest in found],
        k,
    )
    return Feed(
        interests=found,
        item_ids=[results[interest].item_ids[place] for interest, place in merged],
        scores=[results[interest].scores[place] for interest, place in merged],
        of_interest=[interest for interest, _ in merged],
    )

"""Whether a training graph shows the pairs that it is to be measured by."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int, Int64

from pinsage.graph.adjacency import AdjacencyShard
from pinsage.graph.opened import Graph, Pairs
from pinsage.graph.partition import rows_of, shards_of

_LOOKED_AT = 1_000
"""Pairs that are looked at, evenly spread over the table."""

_TOLD_BY_CHANCE = 0.5
"""Above this share of pairs put together at random, sharing a context says nothing."""


def shows_pairs(graph: Graph, pairs: Pairs) -> bool:
    """Tell whether the items of every pair share a context, though items seldom do.

    So it is where pairs were made of the edges tables and held out, but their edges were not: then
    whatever counts what stands together finds them.

    Args:
        graph: its training edges are looked up, those of a thousand pairs at most.
        pairs: pairs that were held out.
    """
    if not len(pairs):
        return False
    places = np.unique(np.linspace(0, len(pairs) - 1, _LOOKED_AT).astype(np.int64))
    queries, positives = pairs.queries[places], pairs.positives[places]
    if not _share_a_context(graph, queries, positives).all():
        return False
    at_random = _share_a_context(graph, queries, np.roll(positives, len(positives) // 2))
    return bool(at_random.mean() < _TOLD_BY_CHANCE)


def _share_a_context(
    graph: Graph, queries: Int64[np.ndarray, " pairs"], positives: Int64[np.ndarray, " pairs"]
) -> Bool[np.ndarray, " pairs"]:
    shards = graph.adjacency_shards()
    rows = (_rows(shards, item_ids) for item_ids in (queries, positives))
    return np.array([_meet(*sorted(both, key=len)) for both in zip(*rows, strict=True)])


def _rows(
    shards: Sequence[AdjacencyShard], item_ids: Int64[np.ndarray, " ids"]
) -> Iterator[Int[np.ndarray, " contexts"]]:
    """Give the contexts of each item, ascending."""
    places = rows_of(item_ids, len(shards)).tolist()
    for shard, row in zip(shards_of(item_ids, len(shards)).tolist(), places, strict=True):
        first, last = shards[shard].item_starts[row : row + 2]
        yield shards[shard].item_contexts[first:last]


def _meet(few: Int[np.ndarray, " few"], many: Int[np.ndarray, " many"]) -> bool:
    """Tell whether two ascending rows have an id in common."""
    if not len(few):
        return False
    places = np.minimum(np.searchsorted(many, few), len(many) - 1)
    return bool((many[places] == few).any())

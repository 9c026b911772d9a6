from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinsage.base.errors import DataError
from pinsage.cluster import drivers
from pinsage.graph import Graph
from pinsage.sampling.pair_sources import FreshPairs, open_pairs
from tests.runs import smoke_run


@st.composite
def contexts(draw):
    sizes = draw(st.lists(st.integers(2, 6), min_size=1, max_size=8))
    items = [draw(st.permutations(range(9)))[:size] for size in sizes]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return starts, np.concatenate(items).astype(np.int32), items


@given(contexts(), st.integers(0, 5), st.integers(0, 2**32))
def test_every_context_is_one_ring_through_all_its_items(drawn, epoch, seed):
    starts, items, groups = drawn
    source = FreshPairs(starts, items, seed)
    queries, positives = source.of_epoch(epoch)
    assert len(queries) == len(source)
    for start, stop, group in zip(starts[:-1], starts[1:], groups, strict=True):
        following = dict(zip(queries[start:stop], positives[start:stop], strict=True))
        met, at = [], group[0]
        for _ in group:
            met.append(at)
            at = following[at]
        assert sorted(met) == sorted(group)
        assert at == group[0]
    np.testing.assert_array_equal(source.times_positive(9), np.bincount(positives, minlength=9))


def test_an_epoch_is_drawn_the_same_again_and_every_ordered_pair_comes_up_over_epochs():
    source = FreshPairs(np.array([0, 4]), np.arange(4, dtype=np.int32), 7)
    for first, second in zip(source.of_epoch(3), source.of_epoch(3), strict=True):
        np.testing.assert_array_equal(first, second)
    seen = Counter(
        pair
        for epoch in range(300)
        for pair in zip(*map(list, source.of_epoch(epoch)), strict=True)
    )
    assert len(seen) == 12
    assert min(seen.values()) > 60


def test_pairs_come_from_the_contexts_of_the_training_graph_with_the_prefix(tmp_path):
    run = smoke_run(tmp_path)
    drivers.ingest(run)
    graph = Graph.open(run.graph.directory)
    adjacency = graph.adjacency()
    prefix = graph.context_keys()[0].as_py()[:-1]
    chosen = [key.startswith(prefix) for key in graph.context_keys().to_pylist()]
    assert 0 < sum(chosen) < len(chosen)
    together = {
        (query, positive)
        for context in np.flatnonzero(chosen)
        for row in [adjacency.context_items[slice(*adjacency.context_starts[context:][:2])]]
        for query in row.tolist()
        for positive in row.tolist()
    }
    queries, positives = open_pairs(graph, prefix, seed=0).of_epoch(0)
    assert set(zip(queries.tolist(), positives.tolist(), strict=True)) <= together
    with pytest.raises(DataError, match=r"begins with 'nothing'; there are keys such as"):
        open_pairs(graph, "nothing", seed=0)

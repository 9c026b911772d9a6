import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinsage.graph.adjacency import (
    SIDES,
    AdjacencyShard,
    BipartiteAdjacency,
    assemble,
    rows_between,
)

ARRAYS = ("item_starts", "item_contexts", "context_starts", "context_items")


def whole_graph(edges, num_items, num_contexts):
    """The obvious slow way to compressed rows both ways."""

    def rows(pairs, num_rows):
        starts = [0]
        values = []
        for row in range(num_rows):
            values += sorted(value for owner, value in pairs if owner == row)
            starts.append(len(values))
        return np.array(starts, np.int64), np.array(values, np.int32)

    item_starts, item_contexts = rows(edges, num_items)
    context_starts, context_items = rows([(c, i) for i, c in edges], num_contexts)
    return BipartiteAdjacency(item_starts, item_contexts, context_starts, context_items)


@given(
    edges=st.sets(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=30),
    num_shards=st.integers(1, 10),
)
def test_shards_cut_from_a_graph_assemble_to_the_same_graph(edges, num_shards):
    whole = whole_graph(edges, 10, 6)
    shards = [AdjacencyShard.cut(whole, shard, num_shards) for shard in range(num_shards)]
    again = assemble(shards)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


def test_a_shard_keeps_its_rows_and_the_ids_of_the_whole_graph():
    whole = whole_graph({(0, 0), (1, 1), (2, 0), (3, 1), (3, 2)}, 4, 3)
    odd = AdjacencyShard.cut(whole, 1, 2)
    assert odd.item_starts.tolist() == [0, 1, 3]
    assert odd.item_contexts.tolist() == [1, 1, 2]
    assert odd.context_starts.tolist() == [0, 2]
    assert odd.context_items.tolist() == [1, 3]


def test_degrees_count_edges_on_both_sides():
    whole = whole_graph({(0, 0), (1, 1), (3, 1), (3, 2)}, 4, 3)
    assert whole.item_degrees.tolist() == [1, 1, 0, 2]
    assert whole.context_degrees.tolist() == [1, 2, 1]
    assert (whole.num_items, whole.num_contexts, whole.num_edges) == (4, 3, 4)


@pytest.mark.parametrize("num_shards", [0, 5])
def test_more_shards_than_items_or_none_are_refused(num_shards):
    whole = whole_graph({(0, 0), (1, 1)}, 4, 2)
    with pytest.raises(ValueError, match=rf"num_shards must be at .* found {num_shards}"):
        AdjacencyShard.cut(whole, 0, num_shards)


def test_assemble_refuses_shards_out_of_order():
    whole = whole_graph({(0, 0), (1, 1)}, 2, 2)
    shards = [AdjacencyShard.cut(whole, shard, 2) for shard in (1, 0)]
    with pytest.raises(ValueError, match=r"wanted shards 0 to 1 in order, found \[1, 0\]"):
        assemble(shards)


def test_the_graphs_arrays_are_mapped_and_not_writable(bench):
    adjacency = bench.ingest(bench.six()).adjacency()
    assert isinstance(adjacency.item_contexts, np.memmap)
    assert not adjacency.item_contexts.flags.writeable


@pytest.mark.parametrize(("extras", "bytes_a_side"), [({}, 4), ({"weight", "timestamp"}, 12)])
def test_the_shards_take_the_bytes_that_are_stated(bench, changed, extras, bytes_a_side):
    columns = {"item_id": list("abcbde"), "context_id": list("xxxyyz")}
    columns |= {name: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] for name in extras}
    config = changed(bench.six(edges=columns), {f"edges.0.{name}": name for name in extras})
    graph = bench.ingest(config, num_shards=3)
    files = graph.artifact.manifest.files
    found = [
        entry.size_bytes
        for name, entry in files.items()
        if name.startswith("shard-") and "features" not in name
    ]
    nodes = graph.num_items + graph.num_contexts
    arrays = 4 + 2 * len(extras)
    assert len(found) == 3 * arrays
    stated = 8 * nodes + 2 * bytes_a_side * graph.num_edges + 3 * (2 * 8 + arrays * 128)
    assert sum(found) == stated


@given(
    edges=st.sets(st.tuples(st.integers(0, 19), st.integers(0, 14)), max_size=60),
    num_shards=st.integers(1, 9),
    start=st.integers(0, 15),
    length=st.integers(0, 20),
    side=st.sampled_from(sorted(SIDES)),
)
def test_rows_of_a_range_are_those_of_the_whole_graph(edges, num_shards, start, length, side):
    whole = whole_graph(edges, 20, 15)
    shards = [AdjacencyShard.cut(whole, shard, num_shards) for shard in range(num_shards)]
    stop = min(start + length, 15)
    starts, values = rows_between(shards, side, start, stop)
    all_starts, all_values = (getattr(whole, name) for name in SIDES[side][:2])
    np.testing.assert_array_equal(starts, all_starts[start : stop + 1] - all_starts[start])
    np.testing.assert_array_equal(values, all_values[all_starts[start] : all_starts[stop]])

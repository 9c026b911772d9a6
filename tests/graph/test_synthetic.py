import numpy as np
import pyarrow.parquet as pq
import pytest

from pinsage.graph.synthetic import write_tables


def test_equal_arguments_write_equal_tables(tmp_path):
    write_tables(tmp_path / "one")
    write_tables(tmp_path / "two")
    for name in ("items.parquet", "edges.parquet", "pairs.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_another_seed_writes_other_tables(tmp_path):
    write_tables(tmp_path / "one")
    write_tables(tmp_path / "two", seed=1)
    for name in ("items.parquet", "edges.parquet", "pairs.parquet"):
        assert (tmp_path / "one" / name).read_bytes() != (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(("num_items", "num_communities"), [(300, 10), (47, 7), (25, 10)])
def test_a_pair_is_two_distinct_items_of_one_community(bench, num_items, num_communities):
    config = write_tables(
        bench.folder / "tables", num_items=num_items, num_communities=num_communities
    )
    graph = bench.ingest(config)
    for split, share in (("train", 2_400), ("valid", 300), ("test", 300)):
        pairs = graph.pairs(split)
        assert len(pairs) == share
        assert (pairs.queries % num_communities == pairs.positives % num_communities).all()
        assert (pairs.queries != pairs.positives).all()


def test_contexts_are_mostly_of_one_community_and_cold_items_are_in_none(bench):
    graph = bench.ingest(write_tables(bench.folder / "tables", num_cold=5))
    adjacency = graph.adjacency()
    assert graph.counts.cold_items >= 5
    assert not adjacency.item_degrees[-5:].any()
    contexts = np.repeat(np.arange(adjacency.num_contexts), adjacency.context_degrees)
    same = adjacency.context_items % 10 == contexts % 10
    assert 0.85 < same.mean() < 0.95


def test_the_community_is_metadata(bench):
    catalog = bench.ingest(write_tables(bench.folder / "tables")).catalog()
    assert catalog.metadata(123) == {"title": "Item 123", "community": 3}


def test_no_item_is_paired_across_the_tables_with_a_cold_one(tmp_path):
    write_tables(tmp_path, num_items=40, num_cold=20)
    pairs = pq.read_table(tmp_path / "pairs.parquet")
    assert max(pairs["positive_item"].to_pylist()) < "item-00020"
    assert max(pairs["query_item"].to_pylist()) < "item-00020"


def test_too_few_items_for_the_communities_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="10 communities need 20 items that are not cold"):
        write_tables(tmp_path, num_items=24)

import numpy as np
import pytest

from pinsage.graph.features import FeatureShard, FeatureStore


def store(num_shards, num_items=10):
    """Item v has the features [v, -v]."""
    values = np.stack([np.arange(num_items), -np.arange(num_items)], axis=1).astype(np.float32)
    return FeatureStore([
        FeatureShard(values[shard::num_shards].copy()) for shard in range(num_shards)
    ])


@pytest.mark.parametrize("num_shards", [1, 3, 12])
@pytest.mark.parametrize("ids", [[], [4], [9, 0, 9, 3]], ids=str)
def test_gather_gives_rows_in_the_order_asked_for(num_shards, ids):
    wanted = np.array(ids, np.int64)
    rows = store(num_shards).gather(wanted)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[v, -v] for v in ids]


@pytest.mark.parametrize("ids", [[-1], [0, 10]], ids=str)
@pytest.mark.parametrize("num_shards", [1, 3])
def test_gather_refuses_ids_of_no_item(num_shards, ids):
    with pytest.raises(ValueError, match="wanted ids from 0 to 9"):
        store(num_shards).gather(np.array(ids))


@pytest.mark.parametrize("num_shards", [1, 3])
def test_many_wide_rows_are_gathered_by_threads_into_the_memory_given(num_shards):
    values = np.random.default_rng(0).standard_normal((3_000, 145)).astype(np.float32)
    wide = FeatureStore([FeatureShard(values[n::num_shards].copy()) for n in range(num_shards)])
    ids = np.random.default_rng(1).integers(0, 3_000, 9_000)
    out = np.empty((9_000, 145), np.float32)
    assert wide.gather(ids, out) is out
    np.testing.assert_array_equal(out, values[ids])


def test_gathered_rows_may_be_changed_without_changing_the_store(bench):
    features = bench.ingest(bench.six()).features()
    rows = features.gather(np.arange(6))
    rows[:] = 7
    assert features.gather(np.array([1]))[0, 0] == 1


def test_the_store_knows_its_size():
    assert (store(3).num_items, store(3).width) == (10, 2)

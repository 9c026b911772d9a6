import numpy as np
import pytest

from pinsage.graph.partition import ids_in, rows_of, shard_name, shards_of


@pytest.mark.parametrize("num_shards", [1, 2, 7, 16])
def test_every_id_has_one_shard_and_one_row_and_is_found_there(num_shards):
    ids = np.arange(100)
    shards, rows = shards_of(ids, num_shards), rows_of(ids, num_shards)
    kept = [ids_in(shard, num_shards, len(ids)) for shard in range(num_shards)]
    assert sorted(np.concatenate(kept).tolist()) == ids.tolist()
    assert [int(kept[s][r]) for s, r in zip(shards, rows, strict=True)] == ids.tolist()


def test_shard_names_sort_in_order_of_their_numbers():
    names = [shard_name(shard, 120) for shard in range(120)]
    assert sorted(names) == names

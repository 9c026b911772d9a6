import numpy as np
import pytest

from pinsage.kernels.csr import build_csr, transpose
from pinsage.kernels.walks import PackedAdjacency, pack
from pinsage.sampling.neighborhood import (
    HardNegativeConfig,
    WalkConfig,
    hard_negative_candidates,
    walk_chunk,
)


@pytest.fixture(scope="module")
def adjacency() -> PackedAdjacency:
    """Contexts of five neighbors on a ring of 50 items; item 50 is cold."""
    contexts = np.repeat(np.arange(50), 5)
    items = (contexts + np.tile(np.arange(5), 50)) % 50
    starts, columns = build_csr(items, contexts, 51)
    return pack(starts, columns, *transpose(starts, columns, 50))


def test_chunks_do_not_change_the_table(adjacency: PackedAdjacency) -> None:
    walk, hard = WalkConfig(num_neighbors=5), HardNegativeConfig(first_rank=3, last_rank=8)
    whole = walk_chunk(adjacency, np.arange(51), walk=walk, hard=hard, seed=1)
    parts = [
        walk_chunk(adjacency, np.arange(a, b), walk=walk, hard=hard, seed=1)
        for a, b in ((0, 20), (20, 51))
    ]
    for name in ("ids", "weights", "hard_negatives"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, name))


def test_weights_sum_to_one_and_a_cold_item_has_none(adjacency: PackedAdjacency) -> None:
    table = walk_chunk(adjacency, np.arange(51), walk=WalkConfig(), hard=None, seed=1)
    np.testing.assert_allclose(table.weights[:50].sum(axis=1), 1, rtol=1e-6)
    assert (table.ids[50] == -1).all()
    assert (table.weights[50] == 0).all()
    assert table.hard_negatives.shape == (51, 0)


def test_hard_negatives_are_farther_than_neighbors(adjacency: PackedAdjacency) -> None:
    hard = HardNegativeConfig(first_rank=9, last_rank=16, num_candidates=4, restart=0.3)
    candidates = hard_negative_candidates(adjacency, np.arange(50), hard=hard, seed=1)
    near = walk_chunk(adjacency, np.arange(50), walk=WalkConfig(num_neighbors=4), hard=None, seed=1)

    def mean_distance(ids: np.ndarray) -> float:
        ahead = (ids - np.arange(50)[:, None]) % 50
        return float(np.minimum(ahead, 50 - ahead).mean())

    assert (candidates >= 0).all()
    assert mean_distance(candidates) > mean_distance(near.ids) + 2


def test_an_item_that_reaches_too_few_items_keeps_fewer_candidates(
    adjacency: PackedAdjacency,
) -> None:
    hard = HardNegativeConfig(first_rank=40, last_rank=60, num_candidates=21, num_walks=20_000)
    candidates = hard_negative_candidates(adjacency, np.array([0, 50]), hard=hard, seed=1)
    assert 0 < (candidates[0] >= 0).sum() <= 10
    assert (np.diff((candidates[0] >= 0).astype(int)) <= 0).all()
    assert (candidates[1] == -1).all()

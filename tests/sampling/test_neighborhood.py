from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pinsage.base.errors import DataError
from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.graph.choice import ChoiceConfig
from pinsage.kernels.csr import EdgeRows, build_csr, transpose, transpose_rows
from pinsage.kernels.packing import PackedAdjacency, pack
from pinsage.kernels.walks import random_walks
from pinsage.sampling.neighborhood import (
    HardNegativeConfig,
    WalkConfig,
    hard_negative_candidates,
    pack_graph,
    walk_chunk,
)
from tests import reference


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


@pytest.mark.parametrize(
    ("first_rank", "last_rank", "num_candidates", "expected"),
    [
        # Item 0 reaches 8 items. Of the ranks 3, 6, 9 and 12 only two are there to be had.
        (3, 12, 4, 2),
        (8, 8, 5, 1),
        (9, 12, 4, 0),
        (1, 20, 20, 8),
    ],
)
def test_a_band_beyond_what_an_item_reaches_is_cut_off(
    adjacency: PackedAdjacency, first_rank: int, last_rank: int, num_candidates: int, expected: int
) -> None:
    hard = HardNegativeConfig(
        first_rank=first_rank,
        last_rank=last_rank,
        num_candidates=num_candidates,
        num_walks=2_000,
        walk_length=1,
    )
    found = hard_negative_candidates(adjacency, np.array([0]), hard=hard, seed=1)[0]
    assert len(found) == min(num_candidates, last_rank - first_rank + 1)
    assert (found[:expected] >= 0).all()
    assert (found[expected:] == -1).all()
    assert len(set(found[:expected].tolist()) - {0}) == expected


def test_a_wide_graph_gives_a_wide_table_of_the_same_ids(adjacency: PackedAdjacency) -> None:
    assert adjacency.context_items is not None
    wide = replace(adjacency, context_items=adjacency.context_items.astype(np.int64))
    hard = HardNegativeConfig(first_rank=3, last_rank=8)
    tables = [
        walk_chunk(packed, np.arange(51), walk=WalkConfig(), hard=hard, seed=1)
        for packed in (adjacency, wide)
    ]
    assert tables[1].ids.dtype == tables[1].hard_negatives.dtype == np.int64
    for name in ("ids", "weights", "hard_negatives"):
        np.testing.assert_array_equal(getattr(tables[0], name), getattr(tables[1], name))


@pytest.fixture(scope="module")
def dated() -> BipartiteAdjacency:
    """Ten weighted and dated edges of 7 items and 4 contexts."""
    edges = [(0, 0), (1, 0), (2, 0), (3, 1), (0, 1), (4, 2), (2, 2), (5, 2), (6, 3), (4, 3)]
    items, contexts = np.array(sorted(edges), np.int32).T
    starts, _ = build_csr(items, contexts, 7)
    ages = np.array([0, 9, 4, 30, 2, 0, 17, 5, 60, 1], np.int64)
    weights = np.array([1, 5, 2, 0.5, 9, 3, 1, 1, 4, 0.25])
    turned = transpose_rows(EdgeRows(starts, contexts, weights, ages), 4)
    assert turned.weights is not None
    assert turned.times is not None
    return BipartiteAdjacency(
        starts,
        contexts,
        turned.starts,
        turned.cols,
        weights.astype(np.float32),
        ages.astype(np.float32),
        turned.weights.astype(np.float32),
        turned.times.astype(np.float32),
    )


@pytest.mark.parametrize(
    "choice",
    [
        ChoiceConfig(by_weight=False),
        ChoiceConfig(),
        ChoiceConfig(by_weight=False, half_life=5),
        ChoiceConfig(half_life=5, degree_power=-1),
        ChoiceConfig(by_weight=False, degree_power=2),
    ],
)
def test_visits_fit_the_exact_chances_of_what_is_chosen(
    dated: BipartiteAdjacency, choice: ChoiceConfig
) -> None:
    def chance(weight: float, age: float) -> float:
        faded = 1.0 if choice.half_life is None else 2 ** (-age / choice.half_life)
        return (weight if choice.by_weight else 1.0) * faded

    def rows(starts: np.ndarray, values: list) -> list[list]:
        return [values[a:b] for a, b in pairwise(starts)]

    of_items = list(map(chance, dated.item_weights.tolist(), dated.item_ages.tolist()))
    of_contexts = [
        chance(weight, age) * float(dated.item_degrees[item]) ** choice.degree_power
        for weight, age, item in zip(
            dated.context_weights.tolist(),
            dated.context_ages.tolist(),
            dated.context_items.tolist(),
            strict=True,
        )
    ]
    packed = pack_graph(dated, choice)
    assert packed.by_chance == (choice != ChoiceConfig(by_weight=False))
    for seed in (0, 2, 4):
        shares = reference.visit_shares(
            rows(dated.item_starts, dated.item_contexts.tolist()),
            rows(dated.context_starts, dated.context_items.tolist()),
            seed,
            walk_length=1,
            restart=0.5,
            context_weights=rows(dated.item_starts, of_items),
            item_weights=rows(dated.context_starts, of_contexts),
        )
        visited = random_walks(
            packed, np.array([seed]), key=9, num_walks=100_000, walk_length=1, restart=0.5
        )
        found = np.bincount(visited[0], minlength=7)
        expected = np.array([100_000 * shares.get(item, 0.0) for item in range(7)])
        assert not found[expected == 0].any()
        reached = expected > 0
        # 2 to 4 degrees of freedom: 23.5 is passed once in 10,000 keys at most.
        assert ((found - expected)[reached] ** 2 / expected[reached]).sum() < 23.5


def test_a_half_life_needs_times(dated: BipartiteAdjacency) -> None:
    undated = replace(dated, item_ages=None, context_ages=None)
    with pytest.raises(DataError, match=r"walk\.choice\.half_life is set"):
        pack_graph(undated, ChoiceConfig(half_life=5))

import numpy as np
import pytest

from pinsage.sampling.minibatch import Minibatch, MinibatchBuilder, MinibatchConfig
from pinsage.sampling.neighborhood import Neighborhoods
from pinsage.sampling.pair_sources import FixedPairs
from tests.worlds import Features, own_number, ring

NUM_ITEMS = 60


def builder(
    *, size: int = 8, hard: int = 2, num_layers: int = 2, neighborhoods: Neighborhoods | None = None
) -> MinibatchBuilder:
    queries = np.arange(40) % NUM_ITEMS
    return MinibatchBuilder(
        pairs=FixedPairs(queries, (queries + 5) % NUM_ITEMS),
        features=own_number(NUM_ITEMS),
        neighborhoods=neighborhoods or ring(NUM_ITEMS),
        config=MinibatchConfig(size=size, shared_negatives=7, max_hard_negatives=hard),
        num_layers=num_layers,
        seed=3,
    )


def seed_ids(minibatch: Minibatch) -> np.ndarray:
    """Item ids of the seed slots, read off the features."""
    return minibatch.features[: minibatch.num_seeds, 0].astype(int)


def test_a_minibatch_is_made_of_its_items_and_their_neighbors() -> None:
    minibatch = builder().build(2, 1, world_rank=0, world_size=1)
    ids = minibatch.features[:, 0].astype(int)
    assert len(np.unique(ids)) == len(ids)
    for block in minibatch.blocks:
        destinations = ids[: len(block.neighbors)]
        np.testing.assert_array_equal(
            ids[block.neighbors], (destinations[:, None] + [1, 2]) % NUM_ITEMS
        )
        np.testing.assert_allclose(block.weights, [[2 / 3, 1 / 3]] * len(destinations), rtol=1e-6)
    assert len(minibatch.blocks[1].neighbors) == minibatch.num_seeds
    assert minibatch.blocks[1].num_sources == len(minibatch.blocks[0].neighbors)
    assert minibatch.blocks[0].num_sources == len(ids)


def test_pairs_and_negatives_are_the_items_they_should_be() -> None:
    minibatch = builder().build(2, 1, world_rank=0, world_size=1)
    ids = seed_ids(minibatch)
    queries, positives = ids[minibatch.queries], ids[minibatch.positives]
    np.testing.assert_array_equal(positives, (queries + 5) % NUM_ITEMS)
    ahead = (ids[minibatch.hard_negatives] - queries[:, None]) % NUM_ITEMS
    assert minibatch.hard_negatives.shape == (8, 2)
    assert set(ahead.ravel()) <= {10, 11, 12}
    assert len(minibatch.shared_negatives) == 7


@pytest.mark.parametrize(("epoch", "count"), [(0, 0), (1, 1), (2, 2), (9, 2)])
def test_hard_negatives_follow_the_curriculum(epoch: int, count: int) -> None:
    minibatch = builder().build(epoch, 0, world_rank=0, world_size=1)
    assert minibatch.hard_negatives.shape == (8, count)


def test_an_epoch_sees_every_pair_once_and_each_epoch_in_another_order() -> None:
    built = builder()
    orders = []
    for epoch in (0, 1):
        steps = [
            built.build(epoch, step, world_rank=0, world_size=1)
            for step in range(built.steps_per_epoch)
        ]
        orders.append(np.concatenate([seed_ids(m)[m.queries] for m in steps]))
    assert built.steps_per_epoch == 5
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(40))
    assert orders[0].tolist() != orders[1].tolist()


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_shares_of_all_ranks_are_the_minibatch_of_one(world_size: int) -> None:
    whole = builder().build(2, 3, world_rank=0, world_size=1)
    shares = [
        builder().build(2, 3, world_rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    for name in ("queries", "positives", "hard_negatives"):
        together = np.concatenate([seed_ids(m)[getattr(m, name)] for m in shares])
        np.testing.assert_array_equal(together, seed_ids(whole)[getattr(whole, name)])
    for share in shares:
        assert share.total_pairs == 8
        np.testing.assert_array_equal(
            seed_ids(share)[share.shared_negatives], seed_ids(whole)[whole.shared_negatives]
        )


def test_building_again_in_any_order_gives_the_same_minibatch() -> None:
    first, second = builder(), builder()
    second.build(3, 1, world_rank=0, world_size=1)
    one, two = (b.build(2, 0, world_rank=0, world_size=1) for b in (first, second))
    np.testing.assert_array_equal(one.features, two.features)
    np.testing.assert_array_equal(one.hard_negatives, two.hard_negatives)
    np.testing.assert_array_equal(one.blocks[0].neighbors, two.blocks[0].neighbors)


def test_a_query_without_candidates_has_no_hard_negatives() -> None:
    table = ring(NUM_ITEMS)
    table.hard_negatives[:] = -1
    minibatch = builder(neighborhoods=table).build(2, 0, world_rank=0, world_size=1)
    assert (minibatch.hard_negatives == -1).all()


def test_fewer_pairs_than_a_minibatch_make_one_smaller_minibatch() -> None:
    minibatch = builder(size=1_000).build(0, 0, world_rank=0, world_size=1)
    assert len(minibatch.queries) == minibatch.total_pairs == 40
    times = np.bincount((np.arange(40) % NUM_ITEMS + 5) % NUM_ITEMS, minlength=NUM_ITEMS)
    expected = times[minibatch.seed_ids] + 7 / NUM_ITEMS
    np.testing.assert_allclose(np.exp(minibatch.log_expected), expected, rtol=1e-6)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_items_whose_edges_are_hidden_have_no_neighbors_and_no_features_of_edges(
    num_layers: int,
) -> None:
    plain = builder(num_layers=num_layers)
    # One more than the item's own number in the second column, so that none is 0.
    numbers = np.arange(NUM_ITEMS, dtype=np.float32)[:, None] + np.array([0, 1], np.float32)
    hiding = MinibatchBuilder(
        pairs=plain._pairs,
        features=Features(numbers),
        neighborhoods=ring(NUM_ITEMS),
        config=plain._config.model_copy(update={"hidden_edges": 0.3}),
        num_layers=num_layers,
        seed=3,
        graph_columns=np.array([1]),
    )
    shares, hidden_of = [], []
    for epoch in range(3):
        hidden_now: dict[int, bool] = {}
        for step in range(5):
            for rank in range(2):
                given = plain.build(epoch, step, world_rank=rank, world_size=2)
                found = hiding.build(epoch, step, world_rank=rank, world_size=2)
                ids = given.features[:, 0].astype(int)
                np.testing.assert_array_equal(found.features[:, 0], ids)
                hidden = found.features[:, 1] == 0
                np.testing.assert_array_equal(found.features[~hidden, 1], ids[~hidden] + 1)
                for mine, theirs in zip(found.blocks, given.blocks, strict=True):
                    np.testing.assert_array_equal(mine.neighbors, theirs.neighbors)
                    of_rows = hidden[: len(mine.weights)]
                    assert not mine.weights[of_rows].any()
                    np.testing.assert_array_equal(mine.weights[~of_rows], theirs.weights[~of_rows])
                # On every rank and in every step of an epoch the same.
                for item, is_hidden in zip(ids.tolist(), hidden.tolist(), strict=True):
                    assert hidden_now.setdefault(item, is_hidden) == is_hidden
        shares.append(np.mean(list(hidden_now.values())))
        hidden_of.append(sorted(item for item, is_hidden in hidden_now.items() if is_hidden))
    assert 0.1 < np.mean(shares) < 0.5
    assert hidden_of[0] != hidden_of[1] != hidden_of[2]

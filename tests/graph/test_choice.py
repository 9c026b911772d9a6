import numpy as np
import pytest

from pinsage.base.errors import DataError
from pinsage.graph.adjacency import AdjacencyShard, BipartiteAdjacency
from pinsage.graph.choice import ChoiceConfig, edge_chances


@pytest.fixture
def adjacency() -> BipartiteAdjacency:
    """Items 0 and 1 in context 0, items 1 and 2 in context 1."""
    return BipartiteAdjacency(
        item_starts=np.array([0, 1, 3, 4]),
        item_contexts=np.array([0, 0, 1, 1], np.int32),
        context_starts=np.array([0, 2, 4]),
        context_items=np.array([0, 1, 1, 2], np.int32),
        item_weights=np.array([1, 2, 3, 4], np.float32),
        item_ages=np.array([0, 10, 0, 20], np.float32),
        context_weights=np.array([1, 2, 3, 4], np.float32),
        context_ages=np.array([0, 10, 0, 20], np.float32),
    )


def test_without_weights_ages_or_power_all_edges_are_alike(adjacency):
    choice = ChoiceConfig(by_weight=False)
    assert edge_chances(adjacency, choice, adjacency.item_degrees) == (None, None)


def test_weights_are_the_chances(adjacency):
    for chances in edge_chances(adjacency, ChoiceConfig(), adjacency.item_degrees):
        assert chances.tolist() == [1, 2, 3, 4]


def test_half_life_fades_each_edge_against_the_newest_of_its_row(adjacency):
    choice = ChoiceConfig(half_life=10)
    of_items, of_contexts = edge_chances(adjacency, choice, adjacency.item_degrees)
    # Item 2's only edge and context 0's second are old; item 2 has no newer one.
    np.testing.assert_allclose(of_items, [1, 2 * 0.5, 3, 4])
    np.testing.assert_allclose(of_contexts, [1, 2 * 0.5, 3, 4 * 0.25])


def test_degree_power_multiplies_items_alone(adjacency):
    choice = ChoiceConfig(by_weight=False, degree_power=-0.5)
    of_items, of_contexts = edge_chances(adjacency, choice, adjacency.item_degrees)
    assert of_items is None
    np.testing.assert_allclose(of_contexts, [1, 2**-0.5, 2**-0.5, 1])


def test_a_shards_chances_are_those_of_its_rows(adjacency):
    choice = ChoiceConfig(half_life=10, degree_power=1)
    _, whole = edge_chances(adjacency, choice, adjacency.item_degrees)
    shard = AdjacencyShard.cut(adjacency, 1, 2)
    _, part = edge_chances(shard, choice, adjacency.item_degrees)
    assert part.tolist() == whole[2:].tolist()


def test_half_life_without_times_is_refused(adjacency):
    bare = BipartiteAdjacency(
        adjacency.item_starts,
        adjacency.item_contexts,
        adjacency.context_starts,
        adjacency.context_items,
    )
    with pytest.raises(DataError, match=r"walk\.choice\.half_life is set, but .* no times"):
        edge_chances(bare, ChoiceConfig(half_life=10), bare.item_degrees)

import numpy as np
import pytest

from pinsage.kernels.reindex import Scratch
from pinsage.sampling.block import build_blocks, cut_rows, cut_table
from tests.worlds import random_world

NUM_ITEMS = 300


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
@pytest.mark.parametrize("width", [1, 3, 4, 9])
def test_rows_cut_for_some_seeds_give_the_blocks_of_the_whole_table(
    num_layers: int, width: int
) -> None:
    _, table = random_world(0, NUM_ITEMS)
    seeds = np.array([7, 0, 250, 1, 33])
    whole, wanted_ids = build_blocks(
        seeds,
        *cut_table(table.ids, table.weights, width),
        num_layers=num_layers,
        scratch=Scratch.of(NUM_ITEMS),
    )
    met, *rows = cut_rows(seeds, table.ids, table.weights, width, num_layers=num_layers)
    cut, inputs = build_blocks(
        np.searchsorted(met, seeds),
        *rows,
        num_layers=num_layers,
        scratch=Scratch.of(len(met)),
    )
    np.testing.assert_array_equal(met[inputs], wanted_ids)
    assert len(cut) == num_layers
    for found, wanted in zip(cut, whole, strict=True):
        np.testing.assert_array_equal(found.neighbors, wanted.neighbors)
        np.testing.assert_array_equal(found.weights, wanted.weights)
        assert found.num_sources == wanted.num_sources


def test_rows_cut_for_a_few_seeds_are_few() -> None:
    _, table = random_world(0, NUM_ITEMS)
    met, ids, _ = cut_rows(np.array([7, 8]), table.ids, table.weights, 2, num_layers=2)
    assert len(met) == len(ids) <= 2 * (1 + 2 + 4)

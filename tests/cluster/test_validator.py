"""Which pairs and candidates are looked at while training goes on."""

from dataclasses import dataclass

import numpy as np

from pinsage.cluster.validator import draw_sample
from pinsage.training.validation import ValidationConfig

NUM_ITEMS = 20_000


@dataclass(frozen=True)
class Pairs:
    queries: np.ndarray
    positives: np.ndarray

    def __len__(self) -> int:
        return len(self.queries)


class Catalog:
    """Many items, of which a few in the middle are in pairs."""

    num_items = NUM_ITEMS

    def pairs(self, _split: str) -> Pairs:
        items = NUM_ITEMS // 2 + np.arange(400)
        return Pairs(items, items[::-1].copy())


def test_candidates_of_a_large_catalog_are_drawn_from_all_of_it_alike() -> None:
    config = ValidationConfig(sample=100, max_catalog=1_000)
    sample = draw_sample(Catalog(), config, seed=3)
    asked = np.unique(np.concatenate([sample.queries, sample.positives]))
    others = np.delete(sample.candidates, asked)
    assert len(sample.candidates) == 1_000
    assert len(others) > 700
    # The mean of uniform draws, with a standard deviation of about 200.
    assert abs(others.mean() - NUM_ITEMS / 2) < 1_000
    quarters = np.bincount(others * 4 // NUM_ITEMS, minlength=4)
    assert quarters.min() > 0.7 * len(others) / 4


def test_a_sample_is_the_same_for_the_same_seed_and_finds_its_pairs() -> None:
    config = ValidationConfig(sample=100, max_catalog=1_000)
    one, same, other = (draw_sample(Catalog(), config, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.candidates, same.candidates)
    assert not np.array_equal(one.candidates, other.candidates)
    queries, positives = one.candidates[one.queries], one.candidates[one.positives]
    np.testing.assert_array_equal(queries + positives, NUM_ITEMS + 399)

import numpy as np
import pytest

from pinsage.sampling.negatives import hard_negatives, shared_negatives

DRAW = {"seed": 3, "epoch": 1, "step": 2}


def test_items_that_training_must_not_see_are_never_shared_negatives_and_all_others_alike() -> None:
    unseen = np.array([0, 1, 4, 7, 8, 19])
    drawn = shared_negatives(20, 28_000, **DRAW, unseen=unseen)
    counts = np.bincount(drawn, minlength=20)
    assert not counts[unseen].any()
    seen = np.setdiff1d(np.arange(20), unseen)
    # 2,000 each, with a standard deviation of 43.
    assert np.abs(counts[seen] - 2_000).max() < 200


def test_without_unseen_items_the_draws_are_those_of_the_whole_catalog() -> None:
    none = np.empty(0, np.int64)
    np.testing.assert_array_equal(
        shared_negatives(20, 100, **DRAW, unseen=none), shared_negatives(20, 100, **DRAW)
    )


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_hard_negatives_are_ids_as_wide_as_the_candidates(dtype: type[np.integer]) -> None:
    largest = np.iinfo(dtype).max
    candidates = np.array([[largest, largest - 1, -1], [-1, -1, -1]], dtype)
    drawn = hard_negatives(candidates, np.arange(2), 8, seed=3, epoch=1)
    assert drawn.dtype == dtype
    assert set(drawn[0].tolist()) <= {largest, largest - 1}
    assert set(drawn[1].tolist()) == {-1}

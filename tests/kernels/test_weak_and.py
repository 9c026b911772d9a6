import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsage.kernels.postings import BLOCK, pack_postings
from pinsage.kernels.weak_and import weak_and


def codes_of(num_items: int, num_bands: int, num_codes: int, seed: int) -> np.ndarray:
    """Codes as near items have them: runs of equal ones, and rare ones."""
    rng = np.random.default_rng(seed)
    codes = (num_codes * rng.random((num_bands, num_items)) ** 3).astype(np.uint32)
    codes[:, : num_items // 3] = codes[:, :1]
    return codes


@pytest.mark.parametrize("num_items", [0, 1, BLOCK, BLOCK + 1, 5_000])
def test_packed_lists_hold_exactly_the_items_of_each_code(num_items: int) -> None:
    codes = codes_of(num_items, 3, 7, seed=1)
    lists = pack_postings(codes, 7)
    for band in range(3):
        for code in range(7):
            wanted = np.flatnonzero(codes[band] == code)
            np.testing.assert_array_equal(lists.items_of(7 * band + code), wanted)


def test_gaps_of_any_width_survive_packing() -> None:
    codes = np.ones(1 << 21, np.uint32)
    wanted = np.unique(np.concatenate([2 ** np.arange(21), [0, 2_097_151], 2**20 + np.arange(300)]))
    codes[wanted] = 0
    np.testing.assert_array_equal(pack_postings([codes], 2).items_of(0), wanted)


def test_a_posting_takes_less_than_half_of_a_plain_one() -> None:
    codes = np.random.default_rng(0).integers(256, size=(2, 100_000)).astype(np.uint32)
    # The entropy of such gaps is 9.4 bits.
    assert pack_postings(codes, 256).bytes_per_posting < 1.6


@settings(max_examples=40)
@given(
    num_items=st.integers(1, 600),
    num_bands=st.integers(1, 12),
    limit=st.integers(1, 40),
    seed=st.integers(0, 1_000),
)
def test_weak_and_finds_what_scoring_every_item_finds(
    num_items: int, num_bands: int, limit: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = codes_of(num_items, num_bands, 5, seed)
    lists = pack_postings(codes, 5)
    asked = rng.integers(5, size=(3, num_bands))
    weights = rng.integers(1, 30, size=(3, num_bands)).astype(np.int32)
    ids, scores = weak_and(lists, asked + 5 * np.arange(num_bands), weights, limit)
    for query in range(3):
        truth = ((codes == asked[query][:, None]) * weights[query][:, None]).sum(axis=0)
        best = np.lexsort((np.arange(num_items), -truth))[:limit]
        best = best[truth[best] > 0]
        assert ids[query][: len(best)].tolist() == best.tolist()
        assert scores[query][: len(best)].tolist() == truth[best].tolist()
        assert (ids[query][len(best) :] == -1).all()


def test_terms_and_weights_that_make_no_sense_are_refused() -> None:
    lists = pack_postings(codes_of(10, 1, 4, seed=0), 4)
    one = np.ones((1, 1), np.int32)
    with pytest.raises(ValueError, match=r"terms must lie in 0\.\.3"):
        weak_and(lists, np.array([[4]]), one, 3)
    with pytest.raises(ValueError, match="above 0"):
        weak_and(lists, np.array([[1]]), 0 * one, 3)
    with pytest.raises(ValueError, match="below 4"):
        pack_postings([np.array([4], np.uint32)], 4)

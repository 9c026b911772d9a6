"""Which pairs are ranked, and among what."""

import numpy as np

from pinsage.evaluation import EvaluationConfig
from pinsage.evaluation.measures import measure
from pinsage.evaluation.protocol import HeldOut, hold_out
from pinsage.evaluation.ranking import rank_and_recommend
from pinsage.graph import Pairs

NUM_ITEMS = 60
SIZES = np.array([1, 10, 3, 7, 2, 5, 8, 4])
"""How many positives queries 0 to 7 have: items from 10 on."""
QUERIES = np.repeat(np.arange(len(SIZES)), SIZES)
POSITIVES = 10 + np.concatenate([np.arange(size) for size in SIZES])
PAIRS = Pairs(QUERIES, POSITIVES)


def sampled(max_pairs: int | None, *, seed: int = 0, pairs: Pairs = PAIRS) -> HeldOut:
    return hold_out(pairs, NUM_ITEMS, EvaluationConfig(max_pairs=max_pairs), seed=seed)


def test_a_sample_of_pairs_has_all_pairs_of_its_queries() -> None:
    for max_pairs in range(1, len(QUERIES)):
        found = sampled(max_pairs)
        queries, counts = np.unique(found.queries, return_counts=True)
        assert counts.tolist() == SIZES[queries].tolist()
        # The last query may bring more than were asked for, but nothing comes after it.
        assert max_pairs <= counts.sum() < max_pairs + SIZES.max()


def test_queries_are_drawn_by_the_seed_alone_and_a_sample_is_part_of_a_larger_one() -> None:
    turned = Pairs(QUERIES[::-1], POSITIVES[::-1])
    few, many, reverse = sampled(9), sampled(25), sampled(9, pairs=turned)
    assert set(reverse.queries) == set(few.queries) < set(many.queries)
    assert len({tuple(np.unique(sampled(9, seed=seed).queries)) for seed in range(5)}) > 1


def test_as_many_pairs_as_there_are_or_none_named_are_all() -> None:
    for max_pairs in (None, len(QUERIES), len(QUERIES) + 1):
        found = sampled(max_pairs)
        assert np.array_equal(found.queries, QUERIES)
        assert np.array_equal(found.positives, POSITIVES)


def test_a_perfect_ranking_has_a_perfect_ndcg_and_recall_in_a_sample(scorer_of) -> None:
    scores = np.zeros((NUM_ITEMS, NUM_ITEMS))
    scores[QUERIES, POSITIVES] = 100.0 - POSITIVES
    held_out, config = sampled(12), EvaluationConfig(ks=(10,))
    ranking = rank_and_recommend(
        scorer_of(scores), held_out.queries, held_out.positives, k=10, pool=None, device="cpu"
    )
    means = measure(
        ranking, held_out, config, degrees=np.ones(NUM_ITEMS, np.int64), content=None
    ).means()
    assert means["ndcg@10"] == means["recall@10"] == 1

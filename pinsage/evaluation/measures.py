"""Every metric of one method, by what it is a mean over."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Integer

from pinsage.evaluation.item_facts import Content
from pinsage.evaluation.lists import (
    coverage,
    diversity_values,
    gini,
    largest_share,
    popularity_values,
)
from pinsage.evaluation.metrics import (
    Answers,
    hit_values,
    ndcg_values,
    recall_values,
    reciprocal_values,
    scaled_reciprocal_values,
)
from pinsage.evaluation.protocol import LIST_LENGTH, EvaluationConfig, HeldOut
from pinsage.evaluation.ranking import Ranking, Ranks


@dataclass(frozen=True)
class Measures:
    """What one method gave: a metric's name to what its mean is taken of."""

    ranking: Ranking
    of_pairs: Mapping[str, Float64[np.ndarray, " pairs"]]
    """hit-rate@K, scaled MRR, MRR."""
    of_queries: Mapping[str, Float64[np.ndarray, " queries"]]
    """recall@k, NDCG@k; none among sampled candidates, where positives outside the sample stand
    each among others than their query's other positives."""
    of_lists: Mapping[str, Float64[np.ndarray, " queries"]]
    """Mean popularity, and diversity where items have content; NaN where a list has too few items
    to have either."""
    of_all: Mapping[str, float]
    """Figures of all lists together, no means."""

    def means(self) -> dict[str, float]:
        """Give every metric's value; none for what no list has."""
        parts = (self.of_pairs, self.of_queries)
        means = {name: float(values.mean()) for part in parts for name, values in part.items()}
        for name, values in self.of_lists.items():
            found = values[~np.isnan(values)]
            if len(found):
                means[name] = float(found.mean())
        return means | dict(self.of_all)


def measure(
    ranking: Ranking,
    held_out: HeldOut,
    config: EvaluationConfig,
    *,
    degrees: Integer[np.ndarray, " items"],
    content: Content | None,
) -> Measures:
    """Take every metric of one method's ranking.

    Args:
        ranking: where the positives stand, and the lists of `LIST_LENGTH` items.
        held_out: what was ranked.
        config: at which K.
        degrees: contexts of each item, those kept for cold items counted.
        content: what diversity is taken of; None takes none.
    """
    lists = ranking.top_ids
    of_pairs, of_queries = _of_ranks(ranking.ranks, held_out, config)
    of_lists = {f"mean_popularity@{LIST_LENGTH}": popularity_values(lists, degrees)}
    if content is not None:
        of_lists[f"diversity@{LIST_LENGTH}"] = diversity_values(lists, content)
    of_all = {
        f"coverage@{LIST_LENGTH}": coverage(lists, held_out.pool_size),
        f"gini@{LIST_LENGTH}": gini(lists, held_out.pool_size),
        f"largest_share@{LIST_LENGTH}": largest_share(lists),
    }
    return Measures(ranking, of_pairs, of_queries, of_lists, of_all)


def by_chance(held_out: HeldOut, config: EvaluationConfig, num_candidates: int) -> dict[str, float]:
    """Give what a random order of the candidates gets, of every metric of ranks."""
    none = np.zeros(len(held_out.queries), np.int64)
    ranks = Ranks(none, none + num_candidates - 1, num_candidates)
    parts = _of_ranks(ranks, held_out, config)
    return {name: float(values.mean()) for part in parts for name, values in part.items()}


def _of_ranks(
    ranks: Ranks, held_out: HeldOut, config: EvaluationConfig
) -> tuple[dict[str, Float64[np.ndarray, " pairs"]], dict[str, Float64[np.ndarray, " queries"]]]:
    """Take the metrics that are means over pairs, and those that are means over queries."""
    of_pairs = {f"hit_rate@{k}": hit_values(ranks, k) for k in config.ks}
    of_pairs["scaled_mrr"] = scaled_reciprocal_values(ranks, config.mrr_scale)
    of_pairs["mrr"] = reciprocal_values(ranks)
    if held_out.pool is not None:
        return of_pairs, {}
    answers = Answers.of(held_out.queries, held_out.positives)
    of_queries = {f"recall@{k}": recall_values(ranks, answers, k) for k in config.ks}
    of_queries |= {f"ndcg@{k}": ndcg_values(ranks, answers, k) for k in config.ks}
    return of_pairs, of_queries

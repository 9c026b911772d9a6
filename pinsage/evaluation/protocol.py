"""What is measured, on which pairs, among which candidates (paper, section 4.2)."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int64
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from pinsage.base.config import Config
from pinsage.base.errors import DataError
from pinsage.base.seeding import Sample, Stream, uniform_by_id
from pinsage.evaluation.baselines import CHEAP, AlsConfig, Baseline, BprConfig, PixieConfig
from pinsage.evaluation.wording import group_name
from pinsage.graph import Pairs

LIST_LENGTH = 10
"""How many recommendations a person would see: for figures about lists, and the sheets."""

_PAIRS_PER_CHUNK = 2**22


class EvaluationConfig(Config):
    """What is measured, and on which pairs (paper, section 4.2)."""

    ks: tuple[PositiveInt, ...] = Field(default=(10, 50, 100, 500), min_length=1)
    """K of every hit-rate@K, recall@k and NDCG@k; the paper's is 500."""
    mrr_scale: PositiveInt = 100
    """Scale of the scaled MRR (Equation 2)."""
    split: Literal["train", "valid", "test"] = "test"
    """Which held-out pairs are ranked."""
    max_pairs: PositiveInt | None = None
    """Rank the pairs of random queries, each with all of its pairs, drawn until there are this many
    pairs; none ranks all."""
    candidates: int | None = Field(default=None, ge=2)
    """Rank among a random sample of this many items, as the paper does among 5 million; none ranks
    among all. Figures of different pools cannot be compared, and the report says so."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where embeddings are multiplied: `auto` takes a GPU if there is one. Changes no figure."""
    bootstrap_samples: PositiveInt = 200
    """How many times queries are drawn again for the 95% intervals."""
    sign_flips: PositiveInt = 2_000
    """How many random results the p values compare with; none is below 1 / (1 + this)."""
    num_sheets: NonNegativeInt = 12
    """Queries whose recommendations are shown side by side."""
    map_items: NonNegativeInt = 1_000
    """Random items on the map of the embeddings (figure 6); fewer than 10 draw none."""
    baselines: tuple[Baseline, ...] = CHEAP
    """What PinSage is compared with: `popularity`, `features` (a cosine a group), `item_cosine`,
    `transitions`, `walk` (Pixie), and, each minutes of work, `als`, `bpr` and `combined`."""
    pixie: PixieConfig = PixieConfig()
    als: AlsConfig = AlsConfig()
    bpr: BprConfig = BprConfig()

    @field_validator("ks")
    @classmethod
    def _ascending(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(ks)))

    def torch_device(self) -> str:
        """Name the device as Torch does."""
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.device


@dataclass(frozen=True)
class HeldOut:
    """The pairs that are ranked, and among what."""

    queries: Int64[np.ndarray, " pairs"]
    positives: Int64[np.ndarray, " pairs"]
    pool: Int64[np.ndarray, " pool"] | None
    """Ascending ids of sampled candidates; None takes every item."""
    num_items: int
    contexts: Int64[np.ndarray, " pairs"] | None = None
    """The held-out context that each pair was made from, if pairs were made from whole contexts."""

    @property
    def groups(self) -> Int64[np.ndarray, " pairs"]:
        """What shares its fate, and so is drawn together: pairs of one context, else of a query."""
        return self.queries if self.contexts is None else self.contexts

    @property
    def groups_of_queries(self) -> Int64[np.ndarray, " queries"]:
        """The group of each distinct query, ascending: of several, that of its first pair."""
        return self.groups[np.unique(self.queries, return_index=True)[1]]

    @property
    def pool_size(self) -> int:
        """How many items can be recommended."""
        return self.num_items if self.pool is None else len(self.pool)


def hold_out(pairs: Pairs, num_items: int, config: EvaluationConfig, *, seed: int) -> HeldOut:
    """Take all pairs and items, or samples that depend on the seed alone.

    Args:
        pairs: the pairs of `config.split`.
        num_items: size of the catalog.
        config: how many of either.
        seed: the run's seed.

    Raises:
        DataError: there are no pairs in the split.
    """
    total = len(pairs.queries)
    if not total:
        raise DataError(
            f"there are no {config.split} pairs to evaluate on; check `data.pairs` and its split "
            "column, or set evaluate.split"
        )
    queries, positives, contexts = pairs.queries, pairs.positives, pairs.contexts
    if config.max_pairs is not None and config.max_pairs < total:
        chosen = _of_sampled_queries(queries, config.max_pairs, seed)
        queries, positives = queries[chosen], positives[chosen]
        contexts = None if contexts is None else contexts[chosen]
    pool = None
    if config.candidates is not None and config.candidates < num_items:
        draws = uniform_by_id(seed, Stream.SAMPLE, np.arange(num_items), Sample.POOL)
        pool = np.sort(np.argpartition(draws, config.candidates - 1)[: config.candidates])
    return HeldOut(queries, positives, pool, num_items, contexts)


def _of_sampled_queries(
    queries: Int64[np.ndarray, " pairs"], max_pairs: int, seed: int
) -> Bool[np.ndarray, " pairs"]:
    """Mark the pairs of random queries, as many as it takes to have so many pairs.

    A query with some of its positives alone would have another recall and another NDCG.
    """
    distinct, slots, sizes = np.unique(queries, return_inverse=True, return_counts=True)
    order = np.argsort(uniform_by_id(seed, Stream.SAMPLE, distinct, Sample.QUERIES))
    count = int(np.searchsorted(np.cumsum(sizes[order]), max_pairs)) + 1
    is_chosen = np.zeros(len(distinct), bool)
    is_chosen[order[:count]] = True
    return is_chosen[slots]


def count_seen(held_out: HeldOut, train: Pairs) -> int:
    """Count the pairs that train has too, in either order: no inner product tells the two apart."""
    ranked = _unordered(held_out.queries, held_out.positives, held_out.num_items)
    seen = np.zeros(len(ranked), bool)
    # Train pairs may be billions, on disk.
    for start in range(0, len(train), _PAIRS_PER_CHUNK):
        some = slice(start, start + _PAIRS_PER_CHUNK)
        trained = _unordered(train.queries[some], train.positives[some], held_out.num_items)
        seen |= np.isin(ranked, trained)
    return int(np.count_nonzero(seen))


def _unordered(
    queries: Int64[np.ndarray, " pairs"], positives: Int64[np.ndarray, " pairs"], num_items: int
) -> Int64[np.ndarray, " pairs"]:
    """Give each pair a number that is the same in either order."""
    return np.minimum(queries, positives) * num_items + np.maximum(queries, positives)


def protocol_facts(
    held_out: HeldOut, pairs: Pairs, config: EvaluationConfig, *, data: str, seed: int
) -> dict[str, Any]:
    """Say all that a figure depends on."""
    contexts = None if held_out.contexts is None else len(np.unique(held_out.contexts))
    groups = group_name({"held_out_contexts": contexts})
    is_sample = len(held_out.queries) < len(pairs.queries)
    pool = "every item but the query; a query's other positives stay in"
    candidates = held_out.num_items - 1
    if held_out.pool is not None:
        candidates = min(len(held_out.pool) + 1, candidates)
        pool = (
            f"a random sample of {len(held_out.pool):,} of {held_out.num_items:,} items, the same "
            "for every query, and the pair's positive; not to be compared with full rankings"
        )
    return {
        "data": data,
        "split": config.split,
        "pairs": len(held_out.queries),
        "pairs_in_split": len(pairs.queries),
        "pairs_are": "all of a random sample of queries" if is_sample else "all of the split",
        "queries": len(np.unique(held_out.queries)),
        "held_out_contexts": contexts,
        "items": held_out.num_items,
        "candidates": candidates,
        "candidates_are": "a random sample" if held_out.pool is not None else "all items",
        "candidate_pool": pool,
        "ties": "exact expectation over random order",
        "mrr_scale": config.mrr_scale,
        "intervals": f"95%, bootstrap over {groups}",
        "bootstrap_samples": config.bootstrap_samples,
        "p_values": (
            f"two-sided sign-flip test over {groups}, all pairs of one together; each "
            "comparison by itself, without a correction for their number"
        ),
        "sign_flips": config.sign_flips,
        "list_length": LIST_LENGTH,
        "seed": seed,
    }

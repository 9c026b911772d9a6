"""The whole offline evaluation, and the report it ends in (paper, section 4.2)."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64, Integer
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from pinsage.base.artifacts import Draft
from pinsage.base.config import Config
from pinsage.base.errors import DataError
from pinsage.base.seeding import Stream, stream
from pinsage.evaluation.baselines import (
    CHEAP,
    AlsConfig,
    Baseline,
    BprConfig,
    EmbeddingCosine,
    PixieConfig,
)
from pinsage.evaluation.bootstrap import interval, resampled_means
from pinsage.evaluation.metrics import hit_values, reciprocal_values, scaled_reciprocal_values
from pinsage.evaluation.page import render_page
from pinsage.evaluation.ranking import Ranking, Ranks, Scorer, rank_and_recommend
from pinsage.evaluation.similarity import similarity_distribution
from pinsage.evaluation.wording import OURS, method_label, statement, summary
from pinsage.graph import Pairs

OnProgress = Callable[[int, int, str], None]
"""Called with queries ranked so far and in all (over all methods), and the method at work."""

LIST_LENGTH = 10
"""How many recommendations a person would see: for coverage, popularity and the sheets."""

_SCORE_CHUNK_BYTES = 64 * 2**20
"""Most memory that one chunk of scores takes."""

# What the draws of `Stream.SAMPLE` are for.
_PAIR_SAMPLE, _SHEET_SAMPLE, _SIMILARITY_SAMPLE = range(3)


class EvaluationConfig(Config):
    """What is measured, and on which pairs (paper, section 4.2)."""

    ks: tuple[PositiveInt, ...] = Field(default=(10, 50, 100, 500), min_length=1)
    """K of every hit-rate@K; the paper's is 500."""
    mrr_scale: PositiveInt = 100
    """Scale of the scaled MRR (Equation 2)."""
    split: Literal["train", "valid", "test"] = "test"
    """Which held-out pairs are ranked."""
    max_pairs: PositiveInt | None = None
    """Rank a random sample of this many pairs; none ranks them all."""
    bootstrap_samples: PositiveInt = 200
    """How many times queries are drawn again for the 95% intervals."""
    num_sheets: NonNegativeInt = 12
    """Queries whose recommendations are shown side by side."""

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


@dataclass(frozen=True)
class _Result:
    """What one method gave."""

    ranking: Ranking
    values: dict[str, Float64[np.ndarray, " pairs"]]
    """Metric to what each pair contributes to its mean."""


def evaluate(
    methods: Mapping[str, Scorer],
    *,
    pairs: Pairs,
    num_items: int,
    titles: Sequence[str],
    images: Sequence[str | None],
    degrees: Integer[np.ndarray, " items"],
    data: str,
    config: EvaluationConfig,
    seed: int,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Rank every pair by every method, and compare the methods.

    Args:
        methods: name to scorer, in the order of the report; `pinsage` is ours, and each other is
            compared with it.
        pairs: the held-out pairs of `config.split`.
        num_items: size of the catalog.
        titles: each item's title.
        images: each item's picture, if it has one.
        degrees: contexts of each item in the training graph.
        data: what the data are called in the report.
        config: what to measure.
        seed: the run's seed.
        on_progress: told after every chunk of queries.

    Returns:
        What `report.json` holds: `summary`, `protocol`, `metrics`, `statements`, `intervals`,
        `paired`, `curves`, `sheets`, `similarity`. Plain JSON values without NaN.

    Raises:
        DataError: there are no pairs in the split.
        ValueError: no methods, arguments of different lengths, or scores that cannot be ranked.
    """
    _check_sizes(methods, num_items, titles, images, degrees)
    queries, positives = _chosen_pairs(pairs, config, seed)
    results = _rank_all(methods, queries, positives, num_items, config, on_progress)
    protocol = _protocol(results, pairs, queries, data, degrees, config, seed)
    metrics = {
        name: {
            **{metric: float(values.mean()) for metric, values in result.values.items()},
            **_list_metrics(result.ranking, num_items, degrees),
        }
        for name, result in results.items()
    }
    intervals, paired = _intervals(results, queries, config, seed)
    headline = [f"hit_rate@{k}" for k in config.ks] + ["scaled_mrr"]
    return {
        "summary": summary(metrics, paired, headline),
        "protocol": protocol,
        "metrics": metrics,
        "statements": {
            name: [statement(metric, metrics[name][metric], protocol) for metric in result.values]
            for name, result in results.items()
        },
        "intervals": intervals,
        "paired": paired,
        "curves": _curves(results, config),
        "sheets": _sheets(results, queries, positives, titles, images, degrees, config, seed),
        "similarity": _similarities(methods, seed),
    }


def write_report(report: Mapping[str, Any], draft: Draft) -> None:
    """Write `report.json` and the self-contained `report.html` into a directory being published.

    Raises:
        ValueError: the report holds NaN or an infinity, which JSON cannot.
    """
    text = json.dumps(report, indent=2, allow_nan=False)
    page = render_page(report)
    for name, content in (("report.json", text + "\n"), ("report.html", page)):
        with draft.file(name) as path:
            path.write_text(content, encoding="utf-8")


def _check_sizes(
    methods: Mapping[str, Scorer],
    num_items: int,
    titles: Sequence[str],
    images: Sequence[str | None],
    degrees: np.ndarray,
) -> None:
    if not methods:
        raise ValueError("there are no methods to evaluate; give at least one scorer")
    for name, found in (("titles", titles), ("images", images), ("degrees", degrees)):
        if len(found) != num_items:
            raise ValueError(f"wanted {name} of {num_items} items, found {len(found)}")


def _chosen_pairs(
    pairs: Pairs, config: EvaluationConfig, seed: int
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Take all pairs, or a sample that depends on the seed alone."""
    total = len(pairs.queries)
    if not total:
        raise DataError(
            f"there are no {config.split} pairs to evaluate on; check `data.pairs` and its split "
            "column, or set evaluate.split"
        )
    if config.max_pairs is None or config.max_pairs >= total:
        return pairs.queries, pairs.positives
    rng = stream(seed, Stream.SAMPLE, _PAIR_SAMPLE)
    chosen = np.sort(rng.choice(total, config.max_pairs, replace=False))
    return pairs.queries[chosen], pairs.positives[chosen]


def _rank_all(
    methods: Mapping[str, Scorer],
    queries: np.ndarray,
    positives: np.ndarray,
    num_items: int,
    config: EvaluationConfig,
    on_progress: OnProgress | None,
) -> dict[str, _Result]:
    num_queries = len(np.unique(queries))
    per_chunk = int(np.clip(_SCORE_CHUNK_BYTES // (4 * num_items), 1, 256))
    results = {}
    for number, (name, scorer) in enumerate(methods.items()):

        def tell(done: int, of: int, name: str = name, before: int = number) -> None:
            if on_progress is not None:
                on_progress(before * of + done, len(methods) * num_queries, method_label(name))

        ranking = rank_and_recommend(
            scorer,
            queries,
            positives,
            k=LIST_LENGTH,
            queries_per_chunk=per_chunk,
            on_progress=tell,
        )
        if ranking.ranks.num_candidates != num_items - 1:
            raise ValueError(
                f"wanted {name} to score {num_items} items, "
                f"found {ranking.ranks.num_candidates + 1}"
            )
        results[name] = _Result(ranking, _pair_values(ranking.ranks, config))
    return results


def _pair_values(
    ranks: Ranks, config: EvaluationConfig
) -> dict[str, Float64[np.ndarray, " pairs"]]:
    values = {f"hit_rate@{k}": hit_values(ranks, k) for k in config.ks}
    values["scaled_mrr"] = scaled_reciprocal_values(ranks, config.mrr_scale)
    values["mrr"] = reciprocal_values(ranks)
    return values


def _protocol(
    results: Mapping[str, _Result],
    pairs: Pairs,
    queries: np.ndarray,
    data: str,
    degrees: np.ndarray,
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Any]:
    ranking = next(iter(results.values())).ranking
    return {
        "data": data,
        "split": config.split,
        "pairs": len(queries),
        "pairs_in_split": len(pairs.queries),
        "pairs_are": "a random sample" if len(queries) < len(pairs.queries) else "all of the split",
        "queries": len(ranking.queries),
        "items": ranking.ranks.num_candidates + 1,
        "candidates": ranking.ranks.num_candidates,
        "candidate_pool": "every item but the query; a query's other positives stay in",
        "ties": "exact expectation over random order",
        "mrr_scale": config.mrr_scale,
        "intervals": "95%, bootstrap over queries",
        "bootstrap_samples": config.bootstrap_samples,
        "list_length": LIST_LENGTH,
        "mean_degree": float(degrees.mean()),
        "seed": seed,
        "methods": {name: method_label(name) for name in results},
    }


def _list_metrics(ranking: Ranking, num_items: int, degrees: np.ndarray) -> dict[str, float]:
    """Look at all recommendation lists together: how much of the catalog, and how popular."""
    recommended = ranking.top_ids
    return {
        f"coverage@{LIST_LENGTH}": len(np.unique(recommended)) / num_items,
        f"popularity@{LIST_LENGTH}": float(degrees[recommended].mean()),
    }


def _intervals(
    results: Mapping[str, _Result], queries: np.ndarray, config: EvaluationConfig, seed: int
) -> tuple[dict[str, dict[str, list[float]]], dict[str, dict[str, dict[str, float]]]]:
    """Give each metric's interval, and those of ours minus each rival, from the same draws."""
    resampled = {}
    for name, result in results.items():
        means = resampled_means(
            np.stack(list(result.values.values())),
            queries,
            samples=config.bootstrap_samples,
            seed=seed,
        )
        resampled[name] = dict(zip(result.values, means.T, strict=True))
    intervals = {
        name: {metric: list(interval(means)) for metric, means in of_method.items()}
        for name, of_method in resampled.items()
    }
    if OURS not in results:
        return intervals, {}
    paired: dict[str, dict[str, dict[str, float]]] = {}
    for rival in results:
        if rival == OURS:
            continue
        paired[rival] = {}
        for metric, ours in resampled[OURS].items():
            low, high = interval(ours - resampled[rival][metric])
            values = results[OURS].values[metric] - results[rival].values[metric]
            difference = float(values.mean())
            paired[rival][metric] = {"difference": difference, "low": low, "high": high}
    return intervals, paired


def _curves(results: Mapping[str, _Result], config: EvaluationConfig) -> dict[str, Any]:
    """Hit-rate@K at many K, for the picture."""
    last = max(config.ks)
    steps = np.geomspace(1, last, 25).round().astype(int).tolist()
    ks = sorted({*steps, *config.ks})
    return {
        "k": ks,
        "hit_rate": {
            name: [float(hit_values(result.ranking.ranks, k).mean()) for k in ks]
            for name, result in results.items()
        },
    }


def _sheets(
    results: Mapping[str, _Result],
    queries: np.ndarray,
    positives: np.ndarray,
    titles: Sequence[str],
    images: Sequence[str | None],
    degrees: np.ndarray,
    config: EvaluationConfig,
    seed: int,
) -> list[dict[str, Any]]:
    """Put the methods' recommendations for a few random queries side by side (figure 5)."""
    distinct = np.unique(queries)
    rng = stream(seed, Stream.SAMPLE, _SHEET_SAMPLE)
    chosen = rng.choice(len(distinct), min(config.num_sheets, len(distinct)), replace=False)

    def describe(item_id: int) -> dict[str, Any]:
        return {
            "item_id": item_id,
            "title": titles[item_id],
            "image": images[item_id],
            "degree": int(degrees[item_id]),
        }

    sheets = []
    for slot in chosen:
        answers = set(positives[queries == distinct[slot]].tolist())
        columns = {}
        for name, result in results.items():
            top = zip(result.ranking.top_ids[slot], result.ranking.top_scores[slot], strict=True)
            columns[name] = [
                {
                    **describe(int(item)),
                    # JSON has no infinity, and a scorer may use it for "never".
                    "score": float(score) if np.isfinite(score) else None,
                    "held_out": int(item) in answers,
                }
                for item, score in top
            ]
        sheets.append({"query": describe(int(distinct[slot])), "columns": columns})
    return sheets


def _similarities(methods: Mapping[str, Scorer], seed: int) -> dict[str, Any]:
    """Describe the spread of every method that compares vectors, on the same pairs (figure 4)."""
    found = {
        name: similarity_distribution(
            scorer.vectors, stream(seed, Stream.SAMPLE, _SIMILARITY_SAMPLE)
        )
        for name, scorer in methods.items()
        if isinstance(scorer, EmbeddingCosine)
    }
    return {name: value for name, value in found.items() if value is not None}

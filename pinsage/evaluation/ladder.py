"""Methods trained from several seeds, compared step by step: the paper's tables 1 and 4.

A figure moves with the queries that happened to be held out and with the seed of training. Both are
drawn again, together, for every interval: queries, or held-out contexts, with all their pairs, and
whole seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from pinsage.base.seeding import Stream, stream
from pinsage.evaluation.bootstrap import interval, resampled_means
from pinsage.evaluation.wording import listed, metric_label, verdict

# What the draws of `Stream.BOOTSTRAP` are for, beside the samples, which are counted from 0, and
# the signs, which are -1.
_SEEDS = -2

_FEWEST_GROUPS = 6
"""Fewer make no order clear: were there none, all of them would agree with p above .05."""

Values = Mapping[str, Float64[np.ndarray, "seeds pairs"]]
"""Metric to what each pair contributes to its mean, one row a seed; one row if nothing is drawn."""


@dataclass(frozen=True)
class Step:
    """An order that the paper found."""

    better: str
    worse: str


def compare(
    methods: Mapping[str, Values],
    groups: Int64[np.ndarray, " pairs"],
    steps: Sequence[Step],
    *,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """Give every metric of every method with its interval, and the difference that each step makes.

    Seeds are paired: where two methods have as many seeds, the same ones are drawn for both.

    Args:
        methods: name to values; all with the same metrics and pairs.
        groups: what is drawn together: each pair's query, or its held-out context.
        steps: the orders to look at.
        samples: how many times groups and seeds are drawn again.
        seed: decides the draws.

    Returns:
        `metrics`: method to metric to `mean`, `low`, `high` and `by_seed`. `steps`: for each step
        `better`, `worse`, `metrics` (metric to `difference`, `low`, `high` and `verdict`: `ahead`,
        `even` or `behind`), and whether it `holds`: ahead at every metric. Steps leave out metrics
        that are equal for every pair of all methods, as hit-rate@K is where K is as large as the
        catalog, unless all metrics are. With fewer than six groups nothing is clear, so every
        verdict is `even`.

    Raises:
        ValueError: as `resampled_means` does.
    """
    names = list(methods)
    is_enough = len(np.unique(groups)) >= _FEWEST_GROUPS
    counts = [len(next(iter(values.values()))) for values in methods.values()]
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    differences: list[dict[str, Any]] = [{} for _ in steps]
    telling = _telling(methods)
    for metric in next(iter(methods.values())):
        rows = np.concatenate([methods[name][metric] for name in names])
        resampled = resampled_means(rows, groups, samples=samples, seed=seed)
        columns = np.split(resampled, np.cumsum(counts)[:-1], axis=1)
        drawn = {name: _over_seeds(c, seed) for name, c in zip(names, columns, strict=True)}
        for name in names:
            found[name][metric] = _described(methods[name][metric].mean(axis=1), drawn[name])
        if metric not in telling:
            continue
        for step, difference in zip(steps, differences, strict=True):
            low, high = interval(drawn[step.better] - drawn[step.worse])
            means = (found[name][metric]["mean"] for name in (step.better, step.worse))
            difference[metric] = {
                "difference": next(means) - next(means),
                "low": low,
                "high": high,
                "verdict": verdict(low, high) if is_enough else "even",
            }
    ladder = zip(steps, differences, strict=True)
    return {"metrics": found, "steps": [_judged(step, metrics) for step, metrics in ladder]}


def _described(
    by_seed: Float64[np.ndarray, " seeds"], drawn: Float64[np.ndarray, " samples"]
) -> dict[str, Any]:
    low, high = interval(drawn)
    return {
        "mean": float(by_seed.mean()),
        "low": low,
        "high": high,
        "by_seed": [float(value) for value in by_seed],
    }


def _telling(methods: Mapping[str, Values]) -> list[str]:
    """Name the metrics that differ anywhere; all of them if none does."""
    metrics = list(next(iter(methods.values())))
    found = []
    for metric in metrics:
        rows = np.concatenate([values[metric] for values in methods.values()])
        if (rows != rows[0]).any():
            found.append(metric)
    return found or metrics


def _judged(step: Step, metrics: dict[str, Any]) -> dict[str, Any]:
    holds = all(one["verdict"] == "ahead" for one in metrics.values())
    return {"better": step.better, "worse": step.worse, "metrics": metrics, "holds": holds}


def step_sentence(step: Mapping[str, Any]) -> str:
    """Say whether an order of the paper is found here, as `compare` gives it."""
    said: dict[str, list[str]] = {"ahead": [], "even": [], "behind": []}
    for metric, one in step["metrics"].items():
        said[one["verdict"]].append(
            f"{metric_label(metric)} ({one['difference']:+.4f} "
            f"[{one['low']:+.4f}, {one['high']:+.4f}])"
        )
    order = f"{step['better']} above {step['worse']}"
    if step["holds"]:
        return f"{order}: holds, at {listed(said['ahead'])}."
    words = {"ahead": "it holds at", "even": "no clear difference at", "behind": "the reverse at"}
    clauses = [f"{words[kind]} {listed(found)}" for kind, found in said.items() if found]
    if said["behind"] and not said["ahead"]:
        whole = "does not hold here"
    else:
        whole = "does not hold throughout" if said["ahead"] else "is not clear here"
    return f"{order}: the paper's order {whole}: {'; '.join(clauses)}."


def _over_seeds(
    means: Float64[np.ndarray, "samples seeds"], seed: int
) -> Float64[np.ndarray, " samples"]:
    """Draw the seeds again for each sample; the same ones for every method with as many."""
    samples, count = means.shape
    draws = stream(seed, Stream.BOOTSTRAP, _SEEDS, count).integers(count, size=(samples, count))
    return np.take_along_axis(means, draws, axis=1).mean(axis=1)

"""Pairs whose items training never saw: from the same full rankings, looked at by themselves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from pinsage.evaluation.comparison import intervals, paired
from pinsage.evaluation.measures import Measures
from pinsage.evaluation.protocol import EvaluationConfig, HeldOut
from pinsage.evaluation.wording import counted, is_clear, listed, method_label, metric_label


def cold_section(
    measures: Mapping[str, Measures],
    held_out: HeldOut,
    cold: Bool[np.ndarray, " items"],
    config: EvaluationConfig,
    *,
    ours: str,
    seed: int,
) -> dict[str, Any]:
    """Take the metrics of pairs again, over those with a cold item alone.

    Args:
        measures: every method's.
        held_out: the pairs; the candidate pool stays as it was.
        cold: which items training did not see.
        config: how many samples and flips.
        ours: the method that is compared.
        seed: the run's seed.

    Returns:
        `items`, how many are cold, and for pairs whose `positive`, whose `query`, and of which
        `either` is cold: `pairs`, `queries`, `metrics`, `intervals`, `paired`, and `ratio`, ours
        over each rival's where that is above 0. A kind without pairs has its counts alone.
    """
    kinds = {"positive": cold[held_out.positives], "query": cold[held_out.queries]}
    kinds["either"] = kinds["positive"] | kinds["query"]
    section: dict[str, Any] = {"items": int(np.count_nonzero(cold))}
    for kind, chosen in kinds.items():
        queries, groups = held_out.queries[chosen], held_out.groups[chosen]
        section[kind] = {"pairs": len(queries), "queries": len(np.unique(queries))}
        if not len(queries):
            continue
        values = {
            name: {metric: row[chosen] for metric, row in found.of_pairs.items()}
            for name, found in measures.items()
        }
        metrics = {
            name: {metric: float(row.mean()) for metric, row in found.items()}
            for name, found in values.items()
        }
        section[kind] |= {
            "metrics": metrics,
            "intervals": intervals(values, groups, config, seed=seed),
            "paired": paired(values, groups, config, ours=ours, seed=seed),
            "ratio": _ratios(metrics, ours),
        }
    return section


def cold_sentence(section: Mapping[str, Any], config: EvaluationConfig, *, ours: str) -> str | None:
    """Say how ours fares where the answer is cold; None without such pairs or without ours."""
    found = section["positive"]
    if not found["pairs"] or ours not in found["metrics"]:
        return None
    metric = f"hit_rate@{100 if 100 in config.ks else config.ks[-1]}"
    clear = {name: is_clear(gaps[metric]) for name, gaps in found["paired"].items()}
    times = [
        f"{ratios[metric]:.2f} times {method_label(name)}"
        for name, ratios in found["ratio"].items()
        if metric in ratios and clear[name]
    ]
    even = [method_label(name) for name in clear if not clear[name]]
    value = found["metrics"][ours][metric]
    compared = [listed(times)] if times else []
    compared += [f"not clearly different from {listed(even)}"] if even else []
    return (
        f"Of {counted(found['pairs'], 'pair')} whose answer is one of "
        f"{counted(section['items'], 'item')} that "
        f"training did not see, {method_label(ours)} finds {value:.4f} at {metric_label(metric)}"
        + (f": {'; '.join(compared)}." if compared else ".")
    )


def _ratios(metrics: Mapping[str, Mapping[str, float]], ours: str) -> dict[str, dict[str, float]]:
    if ours not in metrics:
        return {}
    return {
        name: {
            metric: metrics[ours][metric] / value for metric, value in found.items() if value > 0
        }
        for name, found in metrics.items()
        if name != ours
    }

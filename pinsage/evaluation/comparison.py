"""How sure the figures are, and how sure it is that ours differs from each rival."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

from pinsage.evaluation.bootstrap import interval, resampled_means, sign_flip_p_values
from pinsage.evaluation.protocol import EvaluationConfig

Values: TypeAlias = Mapping[str, Mapping[str, Float64[np.ndarray, " rows"]]]
"""Method to metric to what each pair, or each query, contributes to the mean."""


def intervals(
    values: Values, groups: Int64[np.ndarray, " rows"], config: EvaluationConfig, *, seed: int
) -> dict[str, dict[str, list[float]]]:
    """Give every mean's 95% interval, over groups.

    Args:
        values: what the means are taken of; not everything need have every metric.
        groups: what is drawn together: the query of each row, or its held-out context.
        config: how many samples.
        seed: the run's seed.

    Returns:
        Method to metric to low and high.
    """
    means = _resampled(values, groups, config, seed)
    return {
        method: {metric: list(interval(means[method, metric])) for metric in of_method}
        for method, of_method in values.items()
    }


def paired(
    values: Values,
    groups: Int64[np.ndarray, " rows"],
    config: EvaluationConfig,
    *,
    ours: str,
    seed: int,
) -> dict[str, dict[str, dict[str, float]]]:
    """Compare ours with every rival on the same pairs.

    Args:
        values: as for `intervals`; every rival has all of our metrics.
        groups: what is drawn together: the query of each row, or its held-out context.
        config: how many samples and flips.
        ours: the method that is compared.
        seed: the run's seed.

    Returns:
        Rival to metric to `difference` (ours less the rival's), `low` and `high` of its 95%
        interval, and `p`, two-sided; empty without ours or without a rival.
    """
    rivals = [method for method in values if method != ours]
    if ours not in values or not rivals:
        return {}
    gaps = {
        rival: {metric: of_ours - values[rival][metric] for metric, of_ours in values[ours].items()}
        for rival in rivals
    }
    means = _resampled(gaps, groups, config, seed)
    p_values = _by_name(
        gaps, lambda rows: sign_flip_p_values(rows, groups, flips=config.sign_flips, seed=seed)
    )

    def found(rival: str, metric: str) -> dict[str, float]:
        low, high = interval(means[rival, metric])
        difference = float(gaps[rival][metric].mean())
        p = float(p_values[rival, metric])
        return {"difference": difference, "low": low, "high": high, "p": p}

    return {rival: {metric: found(rival, metric) for metric in gaps[rival]} for rival in rivals}


def _resampled(
    values: Values, groups: np.ndarray, config: EvaluationConfig, seed: int
) -> dict[tuple[str, str], np.ndarray]:
    return _by_name(
        values,
        lambda rows: resampled_means(rows, groups, samples=config.bootstrap_samples, seed=seed).T,
    )


def _by_name(
    values: Values, of_rows: Callable[[np.ndarray], np.ndarray]
) -> dict[tuple[str, str], Any]:
    """Work on everything at once, so that all see the same draws; give it back by name."""
    names = [(method, metric) for method, found in values.items() for metric in found]
    if not names:
        return {}
    rows = np.stack([values[method][metric] for method, metric in names])
    return dict(zip(names, of_rows(rows), strict=True))

"""What a run of `reproduce` found: the paper's tables 1, 3 and 4 and figure 4, and plain sentences.

Orders of the paper that do not hold on these data are said first.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from pinsage.evaluation.ladder import Step, Values, compare, step_sentence
from pinsage.evaluation.wording import listed, time_label

LADDER_STEPS = (
    Step("max-pooling", "combined"),
    Step("mean-pooling", "max-pooling"),
    Step("mean-pooling", "mean-pooling-xent"),
    Step("mean-pooling-hard", "mean-pooling"),
    Step("pinsage", "mean-pooling-hard"),
)
"""The paper's orders among trained methods; Combined stands above every group of content."""

PAPER = {
    "visual": "17% / 0.23",
    "text": "14% / 0.19",
    "combined": "27% / 0.37",
    "max-pooling": "39% / 0.37",
    "mean-pooling": "41% / 0.51",
    "mean-pooling-xent": "29% / 0.35",
    "mean-pooling-hard": "46% / 0.56",
    "pinsage": "67% / 0.59",
    "T = 10": "60% / 0.51",
    "T = 20": "63% / 0.54",
    "T = 50": "67% / 0.59",
}
"""The paper's hit-rate@500 and scaled MRR, of 5 million candidates, where it has the method."""

_CONVERGED = 0.98
"""Share of the lowest best validation of all sizes that a training must reach: all can."""


@dataclass(frozen=True)
class Outcome:
    """What one method did.

    Attributes:
        values: metric to each pair's value, one row a seed.
        similarity: the spread of its cosines, from the first seed.
        paces: for each seed `steps` (all that were trained), `minibatch_size`, `step_s` and
            `validations` ([step, hit-rate] each); none if nothing was trained.
    """

    values: Values
    similarity: Mapping[str, Any] | None
    paces: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Findings:
    """The outcomes of all tables.

    Attributes:
        ladder: table 1, lowest first.
        neighbors: table 4, fewest first.
        minibatches: table 3, smallest first.
        content: which methods of the ladder are content alone.
    """

    ladder: Mapping[str, Outcome]
    neighbors: Mapping[str, Outcome]
    minibatches: Mapping[str, Outcome]
    content: Sequence[str]


def summarize(
    findings: Findings,
    groups: Int64[np.ndarray, " pairs"],
    *,
    protocol: Mapping[str, Any],
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """Put the tables together, and say what holds.

    Args:
        findings: the outcomes.
        groups: what is drawn together: each held-out pair's query, or its context.
        protocol: all that the figures depend on.
        samples: how many times groups and seeds are drawn again.
        seed: decides the draws.

    Returns:
        `protocol`, `sentences` (`table1`, `table3`, `table4`, `figure4` to what is found), and the
        tables and the figure under the same names. Plain JSON values.

    Raises:
        ValueError: there are no pairs.
    """
    ladder = {name: outcome.values for name, outcome in findings.ladder.items()}
    orders = [*(Step("combined", group) for group in findings.content), *LADDER_STEPS]
    steps = [step for step in orders if {step.better, step.worse} <= set(ladder)]
    table1 = compare(ladder, groups, steps, samples=samples, seed=seed)
    summary: dict[str, Any] = {
        "protocol": dict(protocol),
        "table1": table1 | {"training": _training(findings.ladder)},
        "figure4": {
            name: outcome.similarity
            for name, outcome in findings.ladder.items()
            if outcome.similarity is not None
        },
    }
    sentences = {
        "table1": sorted(map(step_sentence, table1["steps"]), key=lambda text: ": holds" in text),
        "figure4": _spread_sentences(summary["figure4"], findings.content),
    }
    if findings.neighbors:
        names = list(findings.neighbors)
        steps = [Step(more, fewer) for fewer, more in itertools.pairwise(names)]
        values = {name: outcome.values for name, outcome in findings.neighbors.items()}
        table4 = compare(values, groups, steps, samples=samples, seed=seed)
        summary["table4"] = table4 | {"training": _training(findings.neighbors)}
        sentences["table4"] = [step_sentence(step) for step in table4["steps"]]
    if findings.minibatches:
        summary["table3"] = _convergence(findings.minibatches)
        sentences["table3"] = _minibatch_sentences(summary["table3"])
    return summary | {"sentences": sentences}


def _training(outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, int | float | None]]:
    """Seconds that training takes, by the median step of each seed, and the steps."""
    found: dict[str, dict[str, int | float | None]] = {}
    for name, outcome in outcomes.items():
        if not outcome.paces:
            continue
        timed = [p["step_s"] * p["steps"] for p in outcome.paces if p["step_s"] is not None]
        found[name] = {
            "steps": outcome.paces[0]["steps"],
            "seconds": float(np.median(timed)) if timed else None,
        }
    return found


def _convergence(
    outcomes: Mapping[str, Outcome],
) -> dict[str, dict[str, int | float | None]]:
    """Say how long a step takes, and after how many a quality is reached that all sizes reach.

    Where a size finds nothing there is no such quality: the steps are all, without a total. So
    are those of a size that was not looked at, which then has no best validation either.
    """
    paces = {name: outcome.paces[0] for name, outcome in outcomes.items()}
    best = {
        name: max((rate for _, rate in pace["validations"]), default=None)
        for name, pace in paces.items()
    }
    target = _CONVERGED * min((rate for rate in best.values() if rate is not None), default=0.0)
    rows: dict[str, dict[str, int | float | None]] = {}
    for name, pace in paces.items():
        looks = pace["validations"]
        reached = [step for step, rate in looks if rate >= target > 0]
        steps = reached[0] if reached else pace["steps"]
        step_s = pace["step_s"]
        rows[name] = {
            "step_s": step_s,
            "steps": steps,
            "total_s": step_s * steps if reached and step_s is not None else None,
            "best_validation": best[name],
        }
    return rows


def _minibatch_sentences(rows: Mapping[str, Mapping[str, int | float | None]]) -> list[str]:
    unseen = [name for name, row in rows.items() if row["best_validation"] is None]
    if unseen:
        seen = {name: row for name, row in rows.items() if name not in unseen}
        return [
            f"No log says how good minibatches of {listed(unseen)} pairs became, so they are left "
            "out.",
            *_minibatch_sentences(seen),
        ]
    nothing = [name for name, row in rows.items() if not row["best_validation"]]
    if nothing:
        return [
            f"Minibatches of {listed(nothing)} pairs found nothing on valid pairs, so there is no "
            "quality that all sizes reach."
        ]
    timed = {name: row["total_s"] for name, row in rows.items() if row["total_s"] is not None}
    if len(timed) < 2:
        return ["Too few sizes were timed to say which is the fastest."]
    fastest = min(timed, key=lambda name: timed[name])
    paper = "as in the paper" if fastest == "2048" else "in the paper 2048 is the fastest"
    return [
        f"Minibatches of {fastest} pairs reach a quality that all sizes reach in the least time "
        f"({time_label(timed[fastest])}); {paper}."
    ]


def _spread_sentences(figure: Mapping[str, Any], content: Sequence[str]) -> list[str]:
    """Compare kurtosis: the lower, the wider the cosines of random items spread."""
    found = {
        name: figure[name]["kurtosis"]
        for name in (*content, "pinsage")
        if name in figure and figure[name]["kurtosis"] is not None
    }
    if "pinsage" not in found or len(found) < 2:
        return []
    said = listed([f"{value:.2f} of {name}" for name, value in found.items()])
    holds = found["pinsage"] == min(found.values())
    order = "holds" if holds else "does not hold here"
    return [f"Kurtosis {said}: the paper's order, pinsage's the lowest, {order}."]

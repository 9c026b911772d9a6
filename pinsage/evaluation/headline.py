"""What a report says first: where ours is clearly ahead of its rivals, and where it is not."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from pinsage.evaluation.wording import OURS, listed, method_label, metric_label, verdict

_MOST_BY_CHANCE = 0.5
"""A metric of which chance gets more says little, and so is not told."""

_MOST_NAMED = 3
"""Rivals that are named; more are counted."""

Metrics: TypeAlias = Mapping[str, Mapping[str, float]]
"""Method to metric to value."""

Gaps: TypeAlias = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Rival to metric to `difference`, `low` and `high` of ours less the rival's, and `p`."""


def summary(
    metrics: Metrics, paired: Gaps, compared: Sequence[str], chance: Mapping[str, float]
) -> list[str]:
    """Say what is clear of ours against all rivals, then how far it is from its strongest one.

    Args:
        metrics: what the methods got.
        paired: ours against each rival; empty without ours or without a rival.
        compared: the metrics to speak of, in order.
        chance: metric to what a random order of the candidates gets.
    """
    easy = [metric for metric in compared if chance[metric] > _MOST_BY_CHANCE]
    told = [metric for metric in compared if metric not in easy]
    sentences = []
    if told:
        sentences.append(_headline(metrics, paired, told) if paired else _highest(metrics, told))
    # Where all are equal no rival is the strongest.
    telling = [m for m in told if len({found[m] for found in metrics.values()}) > 1]
    if paired and telling:
        sentences.append(_against_strongest(metrics, paired, telling))
    if easy:
        by_chance = listed([f"{metric_label(m)} ({chance[m]:.4f} by chance)" for m in easy])
        start = "Not compared here" if told else "With so few candidates nothing is compared"
        sentences.append(f"{start}, since chance gets more than half: {by_chance}.")
    return sentences


def _headline(metrics: Metrics, paired: Gaps, told: Sequence[str]) -> str:
    """Say at which metrics ours is clearly ahead, highest, level and behind, and of whom."""
    clauses: dict[tuple[int, str], list[str]] = {}
    for metric in told:
        clauses.setdefault(_standing(metrics, paired, metric), []).append(
            f"{metric_label(metric)} ({metrics[OURS][metric]:.4f})"
        )
    said = [f"{standing} at {listed(at)}" for (_, standing), at in sorted(clauses.items())]
    return f"{method_label(OURS)} is {'; '.join(said)}."


def _standing(metrics: Metrics, paired: Gaps, metric: str) -> tuple[int, str]:
    """Say how ours stands at one metric, the better the lower the number before it."""
    by_verdict: dict[str, list[str]] = {"ahead": [], "even": [], "behind": []}
    for rival, gaps in paired.items():
        gap = gaps[metric]
        by_verdict[verdict(gap["low"], gap["high"], gap["p"])].append(rival)
    behind, even = (_named(by_verdict[kind], of=len(paired)) for kind in ("behind", "even"))
    if behind:
        return 3, f"clearly behind {behind}"
    if not even:
        return 0, f"clearly ahead of {_named(list(paired), of=len(paired))}"
    ours = metrics[OURS][metric]
    if all(ours > metrics[rival][metric] for rival in by_verdict["even"]):
        return 1, f"highest, not clearly above {even},"
    return 2, f"level with {even}"


def _named(rivals: Sequence[str], *, of: int) -> str:
    if len(rivals) == of > 1:
        return "all others"
    if len(rivals) > _MOST_NAMED:
        return f"{len(rivals)} others"
    return listed([method_label(name) for name in rivals])


def _highest(metrics: Metrics, told: Sequence[str]) -> str:
    """Say which methods have the highest values, where there is nothing to test them against."""
    highest: dict[tuple[str, ...], list[str]] = {}
    for metric in told:
        best = max(found[metric] for found in metrics.values())
        names = tuple(name for name in metrics if metrics[name][metric] == best)
        highest.setdefault(names, []).append(f"{metric_label(metric)} ({best:.4f})")
    clauses = [
        f"{listed(at)}: {listed([method_label(name) for name in names])}"
        for names, at in highest.items()
    ]
    return f"Highest, untested, at {'; at '.join(clauses)}."


def _against_strongest(metrics: Metrics, paired: Gaps, compared: Sequence[str]) -> str:
    strongest = {metric: max(paired, key=lambda name: metrics[name][metric]) for metric in compared}
    always = len(set(strongest.values())) == 1
    gaps: dict[str, list[str]] = {"ahead": [], "even": [], "behind": []}
    for metric, rival in strongest.items():
        found = paired[rival][metric]
        whom = "" if always else f" against {method_label(rival)}"
        gaps[verdict(found["low"], found["high"], found["p"])].append(
            f"{metric_label(metric)} ({found['difference']:+.4f} "
            f"[{found['low']:+.4f}, {found['high']:+.4f}]{whom})"
        )
    words = {"ahead": "clearly ahead", "even": "not clearly different", "behind": "clearly behind"}
    clauses = [f"{words[kind]} at {listed(found)}" for kind, found in gaps.items() if found]
    rivals = (
        f"{method_label(strongest[compared[0]])}, the strongest rival throughout"
        if always
        else "the strongest rival at each"
    )
    return (
        f"Against {rivals}, {method_label(OURS)} is {'; '.join(clauses)}. "
        "In brackets: 95% intervals of the difference."
    )

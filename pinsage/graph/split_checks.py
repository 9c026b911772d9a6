"""Whether a split leaves enough to train on and to measure with."""

import logging
from collections.abc import Mapping

from pinsage.graph.findings import Findings
from pinsage.graph.splits import Holdout

_log = logging.getLogger(__name__)

_FAR_TOO_MUCH = 2
"""Times what was wanted."""

_FEWEST_WANTED = 20
"""Pairs, below which chance alone may halve or double them."""

_UNITS = (
    "if the times of data.pairs and data.edges are of different units (seconds, milliseconds), "
    "write both alike"
)


def check_labels(
    counts: dict[str, int],
    edges: int,
    left_out: Mapping[str, int],
    holdout: Holdout,
    findings: Findings,
) -> None:
    """Note a training graph without edges, and a train or test split without pairs.

    Args:
        counts: split to number of pairs.
        edges: how many edges there are, the ones left out included.
        left_out: why edges are not in the training graph, to how many.
        holdout: how pairs were split.
        findings: takes what is missing.
    """
    total = sum(counts.values())
    fix = "give more pairs, or change data.split"
    if holdout.derives_pairs and total == 0:
        fix = (
            "no context has two items to make a pair of; name another column as the context, or "
            "give data.pairs"
        )
    elif _is_coarse(edges, left_out, holdout):
        fix = (
            "many rows share the last time; give finer times, or leave data.edges.timestamp out, "
            "so that whole contexts are held out"
        )
    elif not holdout.derives_pairs and holdout.is_cut_once:
        fix = (
            "many pairs share a time; give finer times, or leave data.pairs.timestamp out, so that "
            "pairs are held out by hash"
        )
    elif holdout.derives_pairs and holdout.cuts is None:
        fix = (
            "whole contexts are held out, and a few of them may leave none; change data.split, "
            "give data.edges a timestamp, or give data.pairs; data.split={valid: 0, test: 0} holds "
            "nothing out, and evaluates nothing"
        )
    for name in ("train", "test") if holdout.split.holds_out else ("train",):
        if not counts[name]:
            findings.add(f"data.split: no pairs are left for {name} out of {total}; {fix}")
    if counts["train"] and counts["test"] and _is_coarse(edges, left_out, holdout):
        _log.warning(
            "data.split: wanted %.0f%% of the edges for valid and %.0f%% for test, the latest; "
            "%d of %d edges are behind the cut, and %d valid and %d test pairs, since many rows "
            "share a time; give finer times, or change data.split",
            100 * holdout.split.valid,
            100 * holdout.split.test,
            left_out.get("future", 0),
            edges,
            counts["valid"],
            counts["test"],
        )
    elif counts["train"] and counts["test"]:
        _warn_if_far_from_wanted(counts, holdout)
    _warn_if_no_edge_is_late(counts, left_out, holdout)
    if edges == sum(left_out.values()):
        findings.add(
            f"data.edges: none of {edges} edges is left for the training graph "
            f"(left out: {left_out}); check the timestamps, or change data.split"
            + (f"; {_UNITS}" if left_out.get("future") and not holdout.derives_pairs else "")
        )


def _warn_if_no_edge_is_late(
    counts: Mapping[str, int], left_out: Mapping[str, int], holdout: Holdout
) -> None:
    """Tell of pairs split by times that no edge comes near, as milliseconds beside seconds are."""
    goes_by_time = holdout.cuts is not None and not holdout.derives_pairs
    if goes_by_time and counts["train"] < sum(counts.values()) and not left_out.get("future"):
        _log.warning(
            "data.pairs: pairs are split by time, but every edge is earlier than the first pair "
            "that is held out, so all edges stay in the graph, and what is measured may be too "
            "good; %s",
            _UNITS,
        )


def _warn_if_far_from_wanted(counts: Mapping[str, int], holdout: Holdout) -> None:
    """Tell of pairs made of edges that a cut by time splits otherwise than edges are."""
    if holdout.cuts is None or not holdout.derives_pairs:
        return
    total = sum(counts.values())
    for name, share in (("valid", holdout.split.valid), ("test", holdout.split.test)):
        wanted = share * total
        is_near = wanted / _FAR_TOO_MUCH <= counts[name] <= wanted * _FAR_TOO_MUCH
        if wanted >= _FEWEST_WANTED and not is_near:
            _log.warning(
                "data.split: wanted %.0f%% of the pairs for %s, the latest, found %d of %d: the "
                "times at which the splits begin are taken of all rows of data.edges, and an item "
                "that comes to its context again counts when it came first; change data.split",
                100 * share,
                name,
                counts[name],
                total,
            )


def _is_coarse(edges: int, left_out: Mapping[str, int], holdout: Holdout) -> bool:
    """Tell whether so many edges share a time that pairs made of them are split far from wanted.

    A cut is one of the times given, and all rows of that time are behind it.
    """
    if holdout.cuts is None or not holdout.derives_pairs:
        return False
    wanted = holdout.split.valid + holdout.split.test
    return holdout.is_cut_once or left_out.get("future", 0) > _FAR_TOO_MUCH * wanted * edges

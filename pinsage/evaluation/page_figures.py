"""The drawn parts of `report.html`: curves, the map, and recommendations side by side."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from pinsage.evaluation.markup import ours_first, picture, section
from pinsage.evaluation.plots import Series, color_of, density_chart, log_chart, swatch
from pinsage.evaluation.wording import counted, method_label

_X_TICKS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)

_OPEN_SHEETS = 4
"""Queries shown at once; the others unfold."""


def figure_section(report: Mapping[str, Any], styles: Mapping[str, int]) -> str:
    """Draw hit-rate@K over K, and how widely similarities spread (figure 4)."""
    figures = [_hit_rate_figure(report, styles)]
    if report["similarity"]:
        figures.append(_similarity_figure(report["similarity"], styles))
    return section("figures", "Pictures", f'<div class="figures">{"".join(figures)}</div>')


def map_section(report: Mapping[str, Any]) -> str:
    """Draw the embeddings in the plane (figure 6), by the script that the explorer uses too."""
    found = report.get("map")
    if found is None:
        return ""
    # Within a script, only what looks like a tag could end it.
    points = json.dumps(found["points"], separators=(",", ":")).replace("<", "\\u003c")
    return section(
        "map",
        "The map of the embeddings",
        f"<p>{escape(found['how'])}. Near means similar, as far as a plane can show it; lines lead "
        "to the five nearest by embedding, wherever they lie. Larger dots are in more contexts. "
        "Point at one, tap it, or use the arrow keys.</p>"
        '<div class="mapped"><div data-map></div><aside data-shown aria-live="polite">'
        '<p class="soft">Point at an item.</p></aside></div>'
        "<noscript><p>The map is drawn by a script; its places are in report.json.</p></noscript>"
        f'<script type="application/json" data-points>{points}</script>',
    )


def sheet_section(report: Mapping[str, Any], styles: Mapping[str, int]) -> str:
    """Show what every method recommends for a few queries (figure 5)."""
    if not report["sheets"]:
        return ""
    sheets = [_sheet(sheet, styles) for sheet in report["sheets"]]
    more = "".join(sheets[_OPEN_SHEETS:])
    if more:
        count = counted(len(sheets) - _OPEN_SHEETS, "more query", "more queries")
        more = f"<details><summary>{count}</summary>{more}</details>"
    return section(
        "sheets",
        "Side by side",
        "<p>Random queries, and what each method answers, best first. Framed in green: a held-out "
        "answer of this query. Point at an item for its score.</p>",
        *sheets[:_OPEN_SHEETS],
        more,
    )


def _hit_rate_figure(report: Mapping[str, Any], styles: Mapping[str, int]) -> str:
    curves, intervals = report["curves"], report["intervals"]
    series = [
        Series(
            method_label(name),
            styles[name],
            [float(k) for k in curves["k"]],
            rates,
            [
                (float(metric.removeprefix("hit_rate@")), low, high)
                for metric, (low, high) in intervals[name].items()
                if metric.startswith("hit_rate@")
            ],
        )
        for name, rates in ours_first(curves["hit_rate"]).items()
    ]
    last = float(curves["k"][-1])
    ticks = [tick for tick in _X_TICKS if tick < last / 1.5] + [last]
    chart = log_chart(series, x_ticks=ticks, names=("K (log scale)", "hit-rate@K"))
    return _figure(
        "hit-rate@K",
        "share of held-out pairs whose positive is among the best K; dots carry 95% intervals",
        chart,
        [(line.style, line.label) for line in series],
    )


def _similarity_figure(similarity: Mapping[str, Any], styles: Mapping[str, int]) -> str:
    series, legend = [], []
    for name, found in ours_first(similarity).items():
        edges = found["edges"]
        middles = [(a + b) / 2 for a, b in pairwise(edges)]
        used = [n for n, density in enumerate(found["density"]) if density > 0]
        first, last = max(used[0] - 1, 0), min(used[-1] + 2, len(middles))
        label = method_label(name)
        series.append(
            Series(label, styles[name], middles[first:last], found["density"][first:last])
        )
        kurtosis = found["kurtosis"]
        spread = "none" if kurtosis is None else f"{kurtosis:.2f}"
        legend.append((styles[name], f"{label}: excess kurtosis {spread}"))
    chart = density_chart(series, names=("cosine of random pairs of items", "density"))
    return _figure(
        "Spread of similarity",
        "wide and flat tells items apart; the paper's figure 4 has 0.43 for PinSage and 2.49 for "
        "annotations, on other data",
        chart,
        legend,
    )


def _figure(title: str, caption: str, chart: str, legend: Sequence[tuple[int, str]]) -> str:
    items = "".join(f"<li>{swatch(style)}{escape(label)}</li>" for style, label in legend)
    return (
        f"<figure><figcaption><b>{escape(title)}</b>: {escape(caption)}</figcaption>{chart}"
        f'<ul class="legend">{items}</ul></figure>'
    )


def _sheet(sheet: Mapping[str, Any], styles: Mapping[str, int]) -> str:
    query = sheet["query"]
    rows = []
    for name, answers in ours_first(sheet["columns"]).items():
        items = "".join(_answer(answer) for answer in answers)
        shown = f"<ol>{items}</ol>" if items else '<p class="soft">Knows of no item.</p>'
        heading = f'<h4 class="b{color_of(styles[name])}">{escape(method_label(name))}</h4>'
        rows.append(f'<div class="strip">{heading}{shown}</div>')
    return (
        f'<section class="sheet"><div class="query">{picture(query)}'
        f'<h3 title="{escape(query["title"])}"><bdi>{escape(query["title"])}</bdi></h3>'
        f'<span class="soft">in {counted(query["degree"], "context")}</span></div>'
        f'<div class="strips">{"".join(rows)}</div></section>'
    )


def _answer(answer: Mapping[str, Any]) -> str:
    held = ' class="held"' if answer["held_out"] else ""
    score = "" if answer["score"] is None else f" (score {_short(answer['score'])})"
    title = escape(answer["title"])
    return f'<li{held} title="{title}{score}">{picture(answer)}<span>{title}</span></li>'


def _short(score: float) -> str:
    return f"{score:,.0f}" if score == round(score) or abs(score) >= 100 else f"{score:.3f}"

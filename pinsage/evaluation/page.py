"""`report.html`: the report as one page that needs nothing else (no script, font or picture)."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import pairwise
from typing import Any

from pinsage.evaluation.plots import Series, density_chart, log_chart, style_of, swatch
from pinsage.evaluation.wording import OURS, method_label, metric_label, verdict

_SHOWN = ("hit_rate", "scaled_mrr", "mrr")

_X_TICKS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)


def render_page(report: Mapping[str, Any]) -> str:
    """Write a report, as `evaluate` gives it, as a self-contained page."""
    protocol = report["protocol"]
    styles = _styles(report["metrics"])
    css = files("pinsage.evaluation").joinpath("page.css").read_text(encoding="utf-8")
    title = f"Offline evaluation on {protocol['data']}"
    points = "".join(f"<li>{_unbroken(sentence)}</li>" for sentence in report["summary"])
    return "\n".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>\n{css}</style></head><body>",
        f'<header><h1 class="soft">{escape(title)}</h1>',
        f'<ul class="summary">{points}</ul></header>',
        "<main>",
        _metric_section(report),
        _figure_section(report, styles),
        _paired_section(report),
        _list_section(report),
        _sheet_section(report, styles),
        _protocol_section(report),
        "</main></body></html>\n",
    ])


def _unbroken(sentence: str) -> str:
    """Escape a sentence, and keep `hit-rate@K` on one line."""
    return escape(sentence).replace("hit-rate@", '<span class="once">hit-rate@</span>')


def _styles(metrics: Mapping[str, Any]) -> dict[str, int]:
    """Give ours the first style, and the others the rest in order."""
    rivals = [name for name in metrics if name != OURS]
    return {OURS: 0, **{name: style_of(n + 1) for n, name in enumerate(rivals)}}


def _metric_section(report: Mapping[str, Any]) -> str:
    protocol, metrics, intervals = report["protocol"], report["metrics"], report["intervals"]
    columns = [name for name in next(iter(intervals.values())) if name.startswith(_SHOWN)]
    best = {metric: max(metrics[name][metric] for name in metrics) for metric in columns}
    rows = []
    for name, values in metrics.items():
        cells = []
        for metric in columns:
            low, high = intervals[name][metric]
            mark = ' class="best"' if values[metric] == best[metric] else ""
            cells.append(
                f"<td{mark}>{values[metric]:.4f}<small>{low:.4f} to {high:.4f}</small></td>"
            )
        rows.append(_row(name, cells))
    caption = (
        f"{protocol['data']}, {protocol['split']}, {protocol['candidates']:,} candidates, "
        f"seed {protocol['seed']}; {protocol['pairs']:,} pairs, {protocol['pairs_are']}; small: "
        f"{protocol['intervals']}; best in bold"
    )
    return "<h2>How often the held-out item is found</h2>" + _table(
        caption, ["Method", *map(metric_label, columns)], rows
    )


def _figure_section(report: Mapping[str, Any], styles: Mapping[str, int]) -> str:
    figures = [_hit_rate_figure(report, styles)]
    if report["similarity"]:
        figures.append(_similarity_figure(report["similarity"], styles))
    return f'<h2>Pictures</h2><div class="figures">{"".join(figures)}</div>'


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
        for name, rates in _ours_first(curves["hit_rate"]).items()
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
    for name, found in _ours_first(similarity).items():
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


def _paired_section(report: Mapping[str, Any]) -> str:
    paired = report["paired"]
    if not paired:
        return ""
    columns = [name for name in next(iter(paired.values())) if name.startswith(_SHOWN)]
    rows = []
    for rival, found in paired.items():
        cells = []
        for metric in columns:
            gap = found[metric]
            cells.append(
                f'<td class="{verdict(gap["low"], gap["high"])}">{gap["difference"]:+.4f}'
                f"<small>{gap['low']:+.4f} to {gap['high']:+.4f}</small></td>"
            )
        rows.append(_row(rival, cells))
    ours = method_label(OURS)
    caption = (
        f"{ours} minus the rival on the same pairs, with 95% paired intervals; green: ahead, "
        "red: behind, gray: the interval holds zero"
    )
    return f"<h2>{ours} against each rival</h2>" + _table(
        caption, ["Rival", *map(metric_label, columns)], rows
    )


def _list_section(report: Mapping[str, Any]) -> str:
    protocol, metrics, length = (
        report["protocol"],
        report["metrics"],
        report["protocol"]["list_length"],
    )
    rows = [
        _row(
            name,
            [
                f"<td>{values[f'coverage@{length}']:.1%}</td>",
                f"<td>{values[f'mean_popularity@{length}']:,.1f}</td>",
            ],
        )
        for name, values in metrics.items()
    ]
    caption = (
        f"over the best {length} of {protocol['queries']:,} queries; the mean item of the catalog "
        f"is in {protocol['mean_degree']:,.1f} contexts"
    )
    heads = [
        "Method",
        f"Catalog shown, coverage@{length}",
        f"Mean degree, mean_popularity@{length}",
    ]
    return "<h2>What is recommended: variety and popularity</h2>" + _table(caption, heads, rows)


def _sheet_section(report: Mapping[str, Any], styles: Mapping[str, int]) -> str:
    if not report["sheets"]:
        return ""
    sheets = "".join(_sheet(sheet, styles) for sheet in report["sheets"])
    return (
        "<h2>Side by side</h2><p>Random queries, and what each method answers, with its own "
        "scores. Bold and green: a held-out answer of this query.</p>" + sheets
    )


def _sheet(sheet: Mapping[str, Any], styles: Mapping[str, int]) -> str:
    query = sheet["query"]
    columns = []
    for name, answers in sheet["columns"].items():
        rows = "".join(_answer(answer) for answer in answers)
        heading = f'<h4 class="b{styles[name]}">{escape(method_label(name))}</h4>'
        columns.append(f"<div>{heading}<ol>{rows}</ol></div>")
    return (
        f'<section class="sheet"><div class="query">{_picture(query["image"])}'
        f"<h3>{escape(query['title'])} "
        f'<span class="soft">in {query["degree"]:,} contexts</span></h3></div>'
        f'<div class="columns">{"".join(columns)}</div></section>'
    )


def _answer(answer: Mapping[str, Any]) -> str:
    held = ' class="held"' if answer["held_out"] else ""
    score = "" if answer["score"] is None else _short(answer["score"])
    title = escape(answer["title"])
    return f'<li{held}><span title="{title}">{title}</span><span>{score}</span></li>'


def _short(score: float) -> str:
    return f"{score:,.0f}" if score == round(score) or abs(score) >= 100 else f"{score:.3f}"


def _picture(image: str | None) -> str:
    # A picture that lies elsewhere would make the page depend on another site.
    if image is None or not image.startswith("data:image/"):
        return ""
    return f'<img src="{escape(image)}" alt="">'


def _protocol_section(report: Mapping[str, Any]) -> str:
    protocol = report["protocol"]
    facts = {
        "Data": f"{protocol['data']}, split {protocol['split']}",
        "Pairs": f"{protocol['pairs']:,} of {protocol['pairs_in_split']:,} "
        f"({protocol['pairs_are']}), {protocol['queries']:,} distinct queries",
        "Candidates": f"{protocol['candidates']:,}: {protocol['candidate_pool']}",
        "Ties": protocol["ties"],
        "scaled MRR": f"mean of 1 / ceil(rank / {protocol['mrr_scale']}) (Equation 2)",
        "Intervals": f"{protocol['intervals']}, {protocol['bootstrap_samples']} samples",
        "Seed": protocol["seed"],
    }
    listing = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(fact))}</dd>" for name, fact in facts.items()
    )
    lines = [
        f"{method_label(name)}: {line}"
        for name, found in report["statements"].items()
        for line in found
    ]
    return (
        f"<h2>Protocol</h2><dl>{listing}</dl>"
        "<p>To run it again, with the recipe of this run (stages that are published already are "
        "skipped):</p><pre>python -m ray_jobs.evaluate --config ray_jobs/recipes/RECIPE.yaml</pre>"
        "<details><summary>Every number, to quote</summary>"
        f"<pre>{escape(chr(10).join(lines))}</pre></details>"
    )


def _row(name: str, cells: Sequence[str]) -> str:
    ours = ' class="ours"' if name == OURS else ""
    return f"<tr{ours}><th scope=row>{escape(method_label(name))}</th>{''.join(cells)}</tr>"


def _table(caption: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in heads)
    return (
        f'<p class="soft">{escape(caption)}</p><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _ours_first(by_method: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(by_method.items(), key=lambda entry: entry[0] != OURS))

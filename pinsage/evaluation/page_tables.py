"""The tables of `report.html`: whatever metrics a report has, in plain words."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pinsage.evaluation.markup import head, method_row, metric_head, section, table
from pinsage.evaluation.wording import (
    OURS,
    counted,
    is_clear,
    method_label,
    metric_label,
    metric_meaning,
    p_label,
    verdict,
)

_FOUND = ("hit_rate", "scaled_mrr", "mrr")
_WHOLE = ("recall", "ndcg")
_LISTS = ("coverage", "largest_share", "gini", "diversity", "mean_popularity")
_SHARES = ("coverage", "largest_share")

_KINDS = {
    "positive": "The held-out answer is cold",
    "query": "The item asked about is cold",
    "either": "Either of them is cold",
}


def metric_section(report: Mapping[str, Any]) -> str:
    """Show how often what was held out is found, with intervals."""
    protocol, metrics = report["protocol"], report["metrics"]
    pairs = counted(protocol["pairs"], "pair")
    caption = (
        f"{protocol['data']}, {protocol['split']}, {protocol['candidates']:,} candidates, "
        f"seed {protocol['seed']}; {pairs}, {protocol['pairs_are']}; small: "
        f"{protocol['intervals']}; best in bold"
    )
    columns = _named(metrics, _FOUND)
    parts = [_values(caption, metrics, report["intervals"], columns, report["chance"])]
    whole = _named(metrics, _WHOLE)
    if whole:
        parts.append("<h3>All answers of a query together</h3>")
        queries = counted(protocol["queries"], "query", "queries")
        caption = f"mean over {queries}, with the same intervals"
        parts.append(_values(caption, metrics, report["intervals"], whole, report["chance"]))
    return section("found", "How often the held-out item is found", *parts)


def paired_section(report: Mapping[str, Any]) -> str:
    """Show ours less each rival, on the same pairs."""
    paired = report["paired"]
    if not paired:
        return ""
    ours = method_label(OURS)
    caption = (
        f"{ours} minus the rival on the same pairs, with 95% paired intervals; green: ahead, "
        "red: behind, gray: the interval holds zero or p is above .05"
    )
    if "p_values" in report["protocol"]:
        caption += f"; p: {report['protocol']['p_values']}"
    columns = _named(paired, (*_FOUND, *_WHOLE))
    rows = [
        method_row(rival, [_gap(found[metric]) for metric in columns])
        for rival, found in paired.items()
    ]
    heads = [head("Rival"), *map(metric_head, columns)]
    return section("rivals", f"{ours} against each rival", table(caption, heads, rows))


def list_section(report: Mapping[str, Any]) -> str:
    """Show how varied and how popular all that is recommended is."""
    protocol, metrics = report["protocol"], report["metrics"]
    # A method whose lists are all empty has no means over them.
    every = {name: 0.0 for found in metrics.values() for name in found}
    columns = _named({"": every}, _LISTS)
    if not columns:
        return ""
    queries = counted(protocol["queries"], "query", "queries")
    caption = (
        f"over the best {protocol['list_length']} of {queries}, fewer where a method knows of no "
        f"more; the mean item of the catalog is in {protocol['mean_degree']:,.1f} contexts"
    )
    rows = [
        method_row(
            name,
            [_cell(metric, values.get(metric), report["intervals"][name]) for metric in columns],
        )
        for name, values in metrics.items()
    ]
    found = table(caption, [head("Method"), *map(metric_head, columns)], rows)
    return section("lists", "What is recommended: variety and popularity", found)


def cold_section(report: Mapping[str, Any]) -> str:
    """Show the pairs with items that training never saw."""
    cold = report.get("cold")
    if cold is None:
        return ""
    parts = [
        f"<p>{cold['items']:,} of {report['protocol']['items']:,} items were kept out of training. "
        "They are embedded from their features and whatever edges they have; every other item "
        "stays a candidate.</p>"
    ]
    for kind, title in _KINDS.items():
        found = cold[kind]
        if "metrics" not in found:
            continue
        parts.append(f"<h3>{title}</h3>")
        parts.append(_cold_table(found))
    return section("cold", "Cold items", *parts)


def glossary_section(report: Mapping[str, Any]) -> str:
    """Say what every number means."""
    families: dict[str, str] = {}
    for metric in next(iter(report["metrics"].values())):
        meaning = metric_meaning(metric)
        if meaning:
            families.setdefault(metric.partition("@")[0], metric)
    lines = []
    for base, metric in families.items():
        label = metric_label(metric).partition("@")[0]
        at = "@K" if "@" in metric else ""
        meaning = metric_meaning(f"{base}@K")
        lines.append(f"<dt>{escape(label + at)}</dt><dd>{escape(meaning)}</dd>")
    return section("words", "What the numbers mean", f"<dl>{''.join(lines)}</dl>")


def _named(by_method: Mapping[str, Mapping[str, Any]], families: Sequence[str]) -> list[str]:
    """Give the metrics that every method has, in the order of their families."""
    names = next(iter(by_method.values()))
    common = [name for name in names if all(name in found for found in by_method.values())]
    return [name for base in families for name in common if name.partition("@")[0] == base]


def _values(
    caption: str,
    metrics: Mapping[str, Mapping[str, float]],
    intervals: Mapping[str, Mapping[str, Sequence[float]]],
    columns: Sequence[str],
    chance: Mapping[str, float],
) -> str:
    best = {metric: max(found[metric] for found in metrics.values()) for metric in columns}
    rows = [
        method_row(
            name,
            [
                _cell(metric, values[metric], intervals[name], best=values[metric] == best[metric])
                for metric in columns
            ],
        )
        for name, values in metrics.items()
    ]
    by_chance = "".join(_cell(metric, chance[metric], {}) for metric in columns)
    rows.append(f'<tr class="chance"><th scope=row>By chance</th>{by_chance}</tr>')
    return table(caption, [head("Method"), *map(metric_head, columns)], rows)


def _cell(
    metric: str,
    value: float | None,
    intervals: Mapping[str, Sequence[float]],
    *,
    best: bool = False,
) -> str:
    if value is None:
        return "<td>none</td>"
    base = metric.partition("@")[0]
    form = "{:.1%}" if base in _SHARES else "{:,.1f}" if base == "mean_popularity" else "{:.4f}"
    small = ""
    if metric in intervals:
        low, high = intervals[metric]
        small = f"<small>{form.format(low)} to {form.format(high)}</small>"
    mark = ' class="best"' if best else ""
    return f"<td{mark}>{form.format(value)}{small}</td>"


def _gap(gap: Mapping[str, float]) -> str:
    p = f"<small>{escape(p_label(gap['p']))}</small>" if "p" in gap else ""
    found = verdict(gap["low"], gap["high"], gap.get("p", 0.0))
    return (
        f'<td class="{found}">{gap["difference"]:+.4f}'
        f"<small>{gap['low']:+.4f} to {gap['high']:+.4f}</small>{p}</td>"
    )


def _cold_table(found: Mapping[str, Any]) -> str:
    metrics, ratios = found["metrics"], found.get("ratio", {})
    columns = _named(metrics, _FOUND)
    rows = []
    for name, values in metrics.items():
        cells = []
        for metric in columns:
            low, high = found["intervals"][name][metric]
            ratio = ratios.get(name, {}).get(metric)
            is_told = ratio is not None and is_clear(found["paired"][name][metric])
            times = f"<small>ours is {ratio:.2f} times it</small>" if is_told else ""
            cells.append(
                f"<td>{values[metric]:.4f}<small>{low:.4f} to {high:.4f}</small>{times}</td>"
            )
        rows.append(method_row(name, cells))
    pairs = counted(found["pairs"], "pair")
    queries = counted(found["queries"], "query", "queries")
    caption = (
        f"{pairs} of {queries}; small: 95% intervals, and where the difference is clear, how many "
        "times theirs ours is"
    )
    return table(caption, [head("Method"), *map(metric_head, columns)], rows)

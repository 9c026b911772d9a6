"""The tables of a reproduction as Markdown and as a self-contained page, and its figure as SVG."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from pinsage.base.artifacts import Draft
from pinsage.evaluation.ladder_chart import ladder_chart
from pinsage.evaluation.plots import Series, density_chart, swatch
from pinsage.evaluation.reproduction import PAPER
from pinsage.evaluation.wording import counted, group_name, metric_label, time_label


@dataclass(frozen=True)
class Table:
    """A table of texts: `rows` begin with what they are about."""

    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    sentences: Sequence[str]


def write_reproduction(summary: Mapping[str, Any], draft: Draft) -> None:
    """Write `reproduce.json`, `reproduce.md`, `reproduce.html` and `ladder.svg`.

    Raises:
        ValueError: a figure is NaN or infinite, which JSON cannot hold.
    """
    contents = {
        "reproduce.json": json.dumps(summary, indent=2, allow_nan=False) + "\n",
        "reproduce.md": as_markdown(summary),
        "reproduce.html": as_page(summary),
        "ladder.svg": _ladder(summary) + "\n",
    }
    for name, content in contents.items():
        with draft.file(name) as path:
            path.write_text(content, encoding="utf-8")


def as_markdown(summary: Mapping[str, Any]) -> str:
    """Write the tables, with what holds and what does not under each."""
    parts = [f"# {_title(summary)}", _protocol_text(summary)]
    for table in _tables(summary):
        lines = ["| " + " | ".join(row) + " |" for row in (table.columns, *table.rows)]
        lines.insert(1, "|" + "---|" * len(table.columns))
        parts += [f"## {table.title}", table.caption, "\n".join(lines)]
        parts += ["\n".join(f"- {sentence}" for sentence in table.sentences)]
    return "\n\n".join(filter(None, parts)) + "\n"


def as_page(summary: Mapping[str, Any]) -> str:
    """Write the same as one page that needs nothing else."""
    css = files("pinsage.evaluation").joinpath("page.css").read_text(encoding="utf-8")
    title = escape(_title(summary))
    return "\n".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>\n<style>\n{css}</style></head><body>",
        f"<header><h1>{title}</h1><p>{escape(_protocol_text(summary))}</p></header><main>",
        f'<div class="figures"><figure>{_ladder(summary)}</figure>{_spread(summary)}</div>',
        *map(_section, _tables(summary)),
        "</main></body></html>\n",
    ])


def _section(table: Table) -> str:
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in table.columns)
    rows = "".join(
        f"<tr><th scope=row>{escape(row[0])}</th>{''.join(map(_cell, row[1:]))}</tr>"
        for row in table.rows
    )
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in table.sentences)
    return (
        f'<h2>{escape(table.title)}</h2><p class="soft">{escape(table.caption)}</p>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f"</div><ul>{said}</ul>"
    )


def _cell(text: str) -> str:
    """Write a cell, with its interval small under the value."""
    value, bracket, rest = text.partition(" [")
    small = f"<small>{escape(rest.removesuffix(']').replace(', ', ' to '))}</small>"
    return f"<td>{escape(value)}{small if bracket else ''}</td>"


def _tables(summary: Mapping[str, Any]) -> list[Table]:
    tables = [_quality_table(summary, "table1", "Table 1: the ladder", "method")]
    if "table4" in summary:
        tables.append(
            _quality_table(summary, "table4", "Table 4: neighbors in importance pooling", "T")
        )
    if "table3" in summary:
        tables.append(_minibatch_table(summary))
    tables.append(_spread_table(summary))
    return tables


def _quality_table(summary: Mapping[str, Any], name: str, title: str, first: str) -> Table:
    metrics, training = summary[name]["metrics"], summary[name]["training"]
    columns = list(next(iter(metrics.values())))
    rows = []
    for method, values in metrics.items():
        cells = [
            f"{values[c]['mean']:.4f} [{values[c]['low']:.4f}, {values[c]['high']:.4f}]"
            for c in columns
        ]
        seconds = training.get(method, {}).get("seconds")
        took = "" if seconds is None else time_label(seconds)
        rows.append([method, *cells, took, PAPER.get(method, "")])
    return Table(
        title,
        f"{_averaged(summary, has_content=set(metrics) != set(training))}; the last column is the "
        "paper's hit-rate@500 and MRR, of 5 million candidates.",
        [first, *map(metric_label, columns), "training", "paper"],
        rows,
        summary["sentences"][name],
    )


def _averaged(summary: Mapping[str, Any], *, has_content: bool) -> str:
    """Say what means and intervals are over: one seed says nothing of others."""
    protocol = summary["protocol"]
    groups = group_name(protocol)
    if len(protocol["seeds"]) == 1:
        return f"Means from one seed with 95% intervals over {groups}"
    content = f", those of content over {groups} alone" if has_content else ""
    return f"Means over seeds with 95% intervals over {groups} and seeds{content}"


def _minibatch_table(summary: Mapping[str, Any]) -> Table:
    rows = [
        [
            name,
            "" if row["step_s"] is None else time_label(1_000 * row["step_s"], "ms"),
            f"{row['steps']:,}",
            "" if row["total_s"] is None else time_label(row["total_s"]),
            "" if row["best_validation"] is None else f"{row['best_validation']:.4f}",
        ]
        for name, row in summary["table3"].items()
    ]
    return Table(
        "Table 3: minibatch sizes",
        "mean-pooling-hard from one seed; steps until validation first reaches 98% of what the "
        "worst size reaches at its best; as many trials at a time as the machine has room for.",
        ["pairs a step", "time a step", "steps", "total", "best validation hit-rate"],
        rows,
        summary["sentences"]["table3"],
    )


def _spread_table(summary: Mapping[str, Any]) -> Table:
    rows = [
        [
            name,
            "" if found["kurtosis"] is None else f"{found['kurtosis']:.2f}",
            f"{found['mean']:.3f}",
            f"{found['standard_deviation']:.3f}",
        ]
        for name, found in summary["figure4"].items()
    ]
    return Table(
        "Figure 4: cosines of random pairs of items",
        "Excess kurtosis: the lower, the wider they spread (paper: PinSage 0.43, visual 1.20, "
        "annotations 2.49); first seed.",
        ["method", "kurtosis", "mean", "deviation"],
        rows,
        summary["sentences"]["figure4"],
    )


def _ladder(summary: Mapping[str, Any]) -> str:
    return ladder_chart(summary["table1"]["metrics"])


def _spread(summary: Mapping[str, Any]) -> str:
    """Draw figure 4 for content, Combined and ours."""
    trained = set(summary["table1"]["training"]) - {"combined", "pinsage"}
    shown = [name for name in summary["figure4"] if name not in trained]
    series = []
    for place, name in enumerate(reversed(shown)):
        found = summary["figure4"][name]
        edges = found["edges"]
        middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
        series.append(Series(name, place, middles, found["density"]))
    if not series:
        return ""
    legend = "".join(f"<li>{swatch(line.style)} {escape(line.label)}</li>" for line in series)
    chart = density_chart(series, names=("cosine of two random items", "density"))
    return f'<figure>{chart}<ul class="legend">{legend}</ul></figure>'


def _title(summary: Mapping[str, Any]) -> str:
    return f"The paper's tables on {summary['protocol']['data']}"


def _protocol_text(summary: Mapping[str, Any]) -> str:
    known = summary["protocol"]
    return (
        f"{counted(known['pairs'], known['split'] + ' pair')} ({known['pairs_are']}), "
        f"{known['candidates']:,} candidates each ({known['candidates_are']}); "
        f"seeds {', '.join(map(str, known['seeds']))}; K = {known['num_layers']}, "
        f"T = {known['num_neighbors']}, m = {known['projected_width']}, "
        f"d = {known['embedding_width']}, {known['loss']} loss, {known['epochs']} epochs of "
        f"minibatches of {known['minibatch_size']:,}, up to {known['max_hard_negatives']} hard "
        f"negatives a pair; scaled MRR with scale {known['mrr_scale']}. One graph and one table of "
        "neighborhoods for all; seeds differ in weights, order and negatives."
    )

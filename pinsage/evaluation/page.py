"""`report.html`: the report as one page that needs nothing else but pictures the data point to."""

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from pinsage.evaluation.markup import section
from pinsage.evaluation.page_figures import figure_section, map_section, sheet_section
from pinsage.evaluation.page_tables import (
    cold_section,
    glossary_section,
    list_section,
    metric_section,
    paired_section,
)
from pinsage.evaluation.wording import OURS, counted, method_label


def render_page(report: Mapping[str, Any]) -> str:
    """Write a report, as `evaluate` gives it, as a self-contained page."""
    styles = _styles(report["metrics"])
    parts = {
        "Found": metric_section(report),
        "Pictures": figure_section(report, styles),
        "Rivals": paired_section(report),
        "Variety": list_section(report),
        "Cold items": cold_section(report),
        "Map": map_section(report),
        "Side by side": sheet_section(report, styles),
        "Words": glossary_section(report),
        "Protocol": _protocol_section(report),
    }
    css, script = _file("page.css"), _file("item_map.js") + _file("page.js")
    title = f"Offline evaluation on {report['protocol']['data']}"
    points = "".join(f"<li>{_unbroken(sentence)}</li>" for sentence in report["summary"])
    return "\n".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>\n{css}</style></head><body>",
        f'<header><h1 class="soft">{escape(title)}</h1>',
        f'<ul class="summary">{points}</ul>{_contents(parts)}</header>',
        "<main>",
        *parts.values(),
        f'</main><script type="module">{script}</script></body></html>\n',
    ])


def _file(name: str) -> str:
    return files("pinsage.evaluation").joinpath(name).read_text(encoding="utf-8")


def _contents(parts: Mapping[str, str]) -> str:
    """List the parts that the page has."""
    links = [
        f'<a href="#{part.partition("id=")[2].split(chr(34))[1]}">{name}</a>'
        for name, part in parts.items()
        if part
    ]
    return f'<nav class="contents" aria-label="Contents">{"".join(links)}</nav>'


def _unbroken(sentence: str) -> str:
    """Escape a sentence, and keep `hit-rate@K` on one line."""
    return escape(sentence).replace("hit-rate@", '<span class="once">hit-rate@</span>')


def _styles(metrics: Mapping[str, Any]) -> dict[str, int]:
    """Give ours the first style of line, and the others the rest in order."""
    rivals = [name for name in metrics if name != OURS]
    return {OURS: 0, **{name: n + 1 for n, name in enumerate(rivals)}}


def _seen(protocol: Mapping[str, Any]) -> str | None:
    """Say how many of the pairs are train pairs too; None if that is not known."""
    seen = protocol["pairs_seen_in_train"]
    return None if seen is None else f"{seen:,} of the pairs are train pairs too, in either order"


def _of_contexts(protocol: Mapping[str, Any]) -> str:
    contexts = protocol.get("held_out_contexts")
    return "" if contexts is None else f", from {counted(contexts, 'held-out context')}"


def _protocol_section(report: Mapping[str, Any]) -> str:
    protocol = report["protocol"]
    queries = counted(protocol["queries"], "distinct query", "distinct queries")
    queries += _of_contexts(protocol)
    facts = {
        "Data": f"{protocol['data']}, split {protocol['split']}",
        "Pairs": f"{protocol['pairs']:,} of {protocol['pairs_in_split']:,} "
        f"({protocol['pairs_are']}), {queries}; {protocol['pairs_without_edges']:,} with an item "
        "that has no edge methods may see",
        "Train pairs": _seen(protocol),
        "Candidates": f"{protocol['candidates']:,}: {protocol['candidate_pool']}",
        "Ties": protocol["ties"],
        "scaled MRR": f"mean of 1 / ceil(rank / {protocol['mrr_scale']}) (Equation 2)",
        "Intervals": f"{protocol['intervals']}, {protocol['bootstrap_samples']} samples",
        "p values": protocol.get("p_values"),
        "Seed": protocol["seed"],
    }
    listing = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(fact))}</dd>"
        for name, fact in facts.items()
        if fact is not None
    )
    lines = [
        f"{method_label(name)}: {line}"
        for name, found in report["statements"].items()
        for line in found
    ]
    return section(
        "protocol",
        "Protocol",
        f"<dl>{listing}</dl>"
        "<p>To run it again, with the recipe of this run (stages that are published already are "
        "skipped):</p><pre>python -m ray_jobs.evaluate --config ray_jobs/recipes/RECIPE.yaml</pre>"
        "<details><summary>Every number, to quote</summary>"
        f"<pre>{escape(chr(10).join(lines))}</pre></details>",
    )

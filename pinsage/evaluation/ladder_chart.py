"""The ladder as a picture: one row a method, a dot with its interval for two metrics."""

from collections.abc import Mapping
from html import escape
from typing import Any

from pinsage.evaluation.plots import nice_ticks
from pinsage.evaluation.wording import metric_label

_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 34, 190, 20, 34, 40
_LETTERS = 18
"""Letters of a name that fit left of the axis, on a phone too; longer ones end in dots."""

# The picture also stands alone: a light page around it may be read on a dark system, so it has a
# ground of its own.
_STYLE = """
.ladder { font: 13px system-ui, sans-serif; background: #ffffff; --ink: #1d1b19; --rule: #e3ded7; \
--a: #c0174f; --b: #1f6bb0; }
@media (prefers-color-scheme: dark) {
.ladder { background: #1f1d1b; --ink: #ece8e2; --rule: #36322e; --a: #ff6c98; --b: #74b4f2; } }
.ladder text { fill: var(--ink); } .ladder .rule { stroke: var(--rule); }
.ladder .a { stroke: var(--a); fill: var(--a); } .ladder .b { stroke: var(--b); fill: var(--b); }
.ladder .whisker { stroke-width: 2; }
"""


def ladder_chart(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw the first and the last hit-rate of every method, lowest of the ladder on top.

    Args:
        metrics: method to metric to `mean`, `low` and `high`.
    """
    rates = [name for name in next(iter(metrics.values())) if name.startswith("hit_rate@")]
    shown = list(dict.fromkeys([rates[0], rates[-1]]))
    ticks = nice_ticks(max(values[name]["high"] for values in metrics.values() for name in shown))
    height = _TOP + _ROW * len(metrics) + _BOTTOM

    def at(value: float) -> str:
        return f"{_LEFT + value / ticks[-1] * (_WIDTH - _LEFT - _RIGHT):.1f}"

    base = height - _BOTTOM
    parts = [
        f'<svg class="ladder chart" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="0 0 {_WIDTH} {height}" aria-label="hit-rates of the ladder">'
        f"<style>{_STYLE}</style>"
    ]
    parts += [
        f'<path class="rule" d="M{at(tick)} {_TOP - 8}V{base}"/>'
        f'<text x="{at(tick)}" y="{base + 18}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks
    ]
    for place, name in enumerate(shown):
        x, style = _LEFT + 150 * place, "ab"[place]
        parts.append(
            f'<circle class="{style}" cx="{x + 6}" cy="14" r="4"/>'
            f'<text x="{x + 16}" y="18">{escape(metric_label(name))}</text>'
        )
    for row, (method, values) in enumerate(metrics.items()):
        y = _TOP + _ROW * (row + 0.5)
        parts.append(
            f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{_named(method)}</text>'
        )
        for place, name in enumerate(shown):
            found, height_of = values[name], y + 6 * place - 3 * (len(shown) - 1)
            said = f"{method}, {metric_label(name)}: {found['mean']:.4f} "
            said += f"[{found['low']:.4f}, {found['high']:.4f}]"
            parts.append(
                f'<g class="{"ab"[place]}"><title>{escape(said)}</title>'
                f'<path class="whisker" d="M{at(found["low"])} {height_of}H{at(found["high"])}"/>'
                f'<circle cx="{at(found["mean"])}" cy="{height_of}" r="3.5"/></g>'
            )
    parts.append("</svg>")
    return "".join(parts)


def _named(name: str) -> str:
    if len(name) <= _LETTERS:
        return escape(name)
    return f"{escape(name[: _LETTERS - 2])} ...<title>{escape(name)}</title>"

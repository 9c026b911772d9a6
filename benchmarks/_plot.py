"""Charts that stand alone, in light and in dark."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from pinsage.evaluation.plots import Series, log_chart

_STYLE = """<style>
svg{font:12px system-ui,sans-serif;background:#fff}
.grid{stroke:#e4e4ea;fill:none}.axis{stroke:#9a9aa6;fill:none}text{fill:#3c3c46}
.end{text-anchor:end}.middle{text-anchor:middle}
.line{fill:none;stroke-width:2.5}.c0{stroke:#c2254a}.c1{stroke:#2a6fbb}.c2{stroke:#3a8a4d}
.c3{stroke:#a35f00}.c4{stroke:#7a4fb5}.c5{stroke:#008b8b}
@media (prefers-color-scheme:dark){svg{background:#16161c}.grid{stroke:#34343e}
text{fill:#d6d6de}.c0{stroke:#ff6b8b}.c1{stroke:#6fb1ff}.c2{stroke:#7ad08f}}
</style>"""


def write_chart(
    path: Path,
    series: Sequence[Series],
    *,
    names: tuple[str, str],
    crowded: bool = False,
) -> None:
    """Write lines over a logarithmic x axis as one SVG file.

    Args:
        path: the file.
        series: the lines.
        names: what the x and the y axis are called.
        crowded: name the lines in a legend, and set ticks at powers of ten; else ticks stand at the
            points of the first line.
    """
    at = _powers(series) if crowded else series[0].x
    chart = log_chart(series, x_ticks=at, names=names)
    if crowded:
        chart = chart.removesuffix("</svg>") + _legend(series) + "</svg>"
    opening, rest = chart.split(">", 1)
    opening += ' xmlns="http://www.w3.org/2000/svg"'
    # On the page that shows it, a chart has nothing but itself to say what its y axis counts.
    y_name = f'<text x="46" y="10">{escape(names[1])}</text>'
    path.write_text(f"{opening}>{_STYLE}{y_name}{rest}\n", encoding="utf-8")


def _legend(series: Sequence[Series]) -> str:
    """Name the lines in the lower left corner, one below the other."""
    parts = []
    for place, line in enumerate(series):
        y = 250 - 16 * (len(series) - 1 - place)
        parts.append(
            f'<path class="line c{line.style}" d="M56 {y - 4}h22"/>'
            f'<text x="84" y="{y}">{escape(line.label)}</text>'
        )
    return "".join(parts)


def _powers(series: Sequence[Series]) -> list[float]:
    """Give the powers of ten among the points."""
    low = min(min(line.x) for line in series)
    high = max(max(line.x) for line in series)
    return [10.0**n for n in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]

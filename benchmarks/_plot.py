"""Charts that stand alone, in light and in dark."""

from collections.abc import Sequence
from pathlib import Path

from pinsage.evaluation.plots import Series, log_chart

_STYLE = """<style>
svg{font:12px system-ui,sans-serif;background:#fff}
.grid{stroke:#e4e4ea;fill:none}.axis{stroke:#9a9aa6;fill:none}text{fill:#3c3c46}
.end{text-anchor:end}.middle{text-anchor:middle}
.line{fill:none;stroke-width:2.5}.c0{stroke:#c2254a}.c1{stroke:#2a6fbb}.c2{stroke:#3a8a4d}
@media (prefers-color-scheme:dark){svg{background:#16161c}.grid{stroke:#34343e}
text{fill:#d6d6de}.c0{stroke:#ff6b8b}.c1{stroke:#6fb1ff}.c2{stroke:#7ad08f}}
</style>"""


def write_chart(path: Path, series: Sequence[Series], *, names: tuple[str, str]) -> None:
    """Write lines over a logarithmic x axis as one SVG file; ticks stand at the points.

    Args:
        path: the file.
        series: the lines; all over the same x.
        names: what the x and the y axis are called.
    """
    chart = log_chart(series, x_ticks=series[0].x, names=names)
    opening, rest = chart.split(">", 1)
    opening += ' xmlns="http://www.w3.org/2000/svg"'
    path.write_text(f"{opening}>{_STYLE}{rest}\n", encoding="utf-8")

"""Small SVG line charts that follow the page's colors, in light, in dark and on paper."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 520, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 44

NUM_COLORS = 8
"""How many series the page has colors for; more begin again at the second, with other dashes."""

_DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2", "1 4", "14 3 3 3")


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    label: str
    style: int
    """Color and dash: the place among all series, 0 for ours."""
    x: Sequence[float]
    y: Sequence[float]
    bands: Sequence[tuple[float, float, float]] = ()
    """Marked points with their intervals: (x, low, high)."""


def color_of(style: int) -> int:
    """Give the color of a style; the first color is never used again.

    >>> [color_of(n) for n in range(10)]
    [0, 1, 2, 3, 4, 5, 6, 7, 1, 2]
    """
    return style if style < NUM_COLORS else 1 + (style - 1) % (NUM_COLORS - 1)


def swatch(style: int) -> str:
    """Draw the short piece of line that stands for a series in a legend."""
    return (
        f'<svg class="swatch" viewBox="0 0 28 8" aria-hidden="true">'
        f'<path class="line c{color_of(style)}" d="M0 4H28"{_dash(style)}/></svg>'
    )


def log_chart(series: Sequence[Series], *, x_ticks: Sequence[float], names: tuple[str, str]) -> str:
    """Draw lines over a logarithmic x axis, with y from 0.

    Args:
        series: the lines; every x must be above 0.
        x_ticks: where the x axis is labelled.
        names: what the x and the y axis are called.
    """
    low = min(min(line.x) for line in series)
    high = max(max(line.x) for line in series)
    span = math.log(high / low) or 1.0
    top = max(max([*line.y, *(band[2] for band in line.bands)]) for line in series)
    return _chart(
        series,
        place_x=lambda x: math.log(x / low) / span,
        x_ticks=x_ticks,
        y_top=top,
        names=names,
        filled=False,
    )


def density_chart(series: Sequence[Series], *, names: tuple[str, str]) -> str:
    """Draw filled curves over a linear x axis that all of them share.

    Args:
        series: the curves.
        names: what the x and the y axis are called.
    """
    low = min(min(line.x) for line in series)
    high = max(max(line.x) for line in series)
    span = (high - low) or 1.0
    step = 0.25 if span > 0.8 else 0.1
    ticks = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    if len(ticks) < 2:
        ticks = [round(low, 3), round(high, 3)]
    return _chart(
        series,
        place_x=lambda x: (x - low) / span,
        x_ticks=ticks,
        y_top=max(max(line.y) for line in series),
        names=names,
        filled=True,
    )


def nice_ticks(top: float, count: int = 5) -> list[float]:
    """Give round numbers from 0 to just above `top`.

    >>> nice_ticks(0.46)
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    """
    if top <= 0:
        return [0.0, 1.0]
    magnitude = 10.0 ** math.floor(math.log10(top / count))
    steps = [factor * magnitude for factor in (1, 2, 5, 10)]
    step = next(step for step in steps if top / step <= count + 1e-9)
    return [round(n * step, 12) for n in range(math.ceil(top / step - 1e-9) + 1)]


def _chart(
    series: Sequence[Series],
    *,
    place_x: Callable[[float], float],
    x_ticks: Sequence[float],
    y_top: float,
    names: tuple[str, str],
    filled: bool,
) -> str:
    y_ticks = nice_ticks(y_top)

    def at_x(x: float) -> float:
        return _LEFT + place_x(x) * (_WIDTH - _LEFT - _RIGHT)

    def at_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - y / y_ticks[-1] * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(names[1])} by {escape(names[0])}">'
    ]
    parts.extend(
        f'<path class="grid" d="M{_LEFT} {at_y(tick):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 6}" y="{at_y(tick) + 4:.1f}" class="end">{tick:g}</text>'
        for tick in y_ticks
    )
    base = _HEIGHT - _BOTTOM
    parts.extend(
        f'<path class="axis" d="M{at_x(tick):.1f} {base}v5"/>'
        f'<text x="{_inside(at_x(tick), f"{tick:g}"):.1f}" y="{base + 18}" class="middle">'
        f"{tick:g}</text>"
        for tick in x_ticks
    )
    parts.append(
        f'<path class="axis" d="M{_LEFT} {base}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" class="middle name">'
        f"{escape(names[0])}</text>"
    )
    # The first series is drawn last, so that ours lies on top.
    parts.extend(_line(line, at_x, at_y, filled=filled) for line in reversed(series))
    parts.append("</svg>")
    return "".join(parts)


def _inside(x: float, text: str) -> float:
    """Move the middle of a text so far that its letters end in the picture, on a phone too."""
    return min(x, _WIDTH - 6.0 * len(text))


def _line(
    line: Series,
    at_x: Callable[[float], float],
    at_y: Callable[[float], float],
    *,
    filled: bool,
) -> str:
    points = [f"{at_x(x):.1f} {at_y(y):.1f}" for x, y in zip(line.x, line.y, strict=True)]
    path = "M" + "L".join(points)
    color = color_of(line.style)
    parts = [f"<g><title>{escape(line.label)}</title>"]
    if filled:
        floor = f"{at_y(0.0):.1f}"
        closed = f"{path}L{at_x(line.x[-1]):.1f} {floor}L{at_x(line.x[0]):.1f} {floor}Z"
        parts.append(f'<path class="area f{color}" d="{closed}"/>')
    parts.append(f'<path class="line c{color}" d="{path}"{_dash(line.style)}/>')
    y_of = dict(zip(line.x, line.y, strict=True))
    for x, low, high in line.bands:
        left = at_x(x)
        parts.append(
            f'<path class="whisker c{color}" '
            f'd="M{left:.1f} {at_y(low):.1f}V{at_y(high):.1f}"/>'
            f'<circle class="dot f{color}" cx="{left:.1f}" cy="{at_y(y_of[x]):.1f}" r="3.5">'
            f"<title>{escape(line.label)}, {x:g}: {y_of[x]:.4f} [{low:.4f}, {high:.4f}]</title>"
            "</circle>"
        )
    parts.append("</g>")
    return "".join(parts)


def _dash(style: int) -> str:
    # As many dashes as colors, of which those that come again are one fewer: no two series of
    # 56 look alike.
    dash = _DASHES[style % len(_DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""

"""Pieces of HTML that every part of `report.html` is made of."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pinsage.evaluation.wording import OURS, method_label, metric_label, metric_meaning


def section(name: str, title: str, *parts: str) -> str:
    """Write a part of the page that its list of contents leads to."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def table(caption: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    """Write a table that scrolls sideways where it doesn't fit; heads are HTML."""
    return (
        f'<p class="soft">{escape(caption)}</p><div class="scroll"><table>'
        f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def head(text: str) -> str:
    """Write the head of a column."""
    return f"<th scope=col>{escape(text)}</th>"


def metric_head(name: str) -> str:
    """Write the head of a metric's column; pointing at it says what it measures."""
    return f'<th scope=col title="{escape(metric_meaning(name))}">{escape(metric_label(name))}</th>'


def method_row(name: str, cells: Sequence[str]) -> str:
    """Write a method's row; ours stands out."""
    ours = ' class="ours"' if name == OURS else ""
    return f"<tr{ours}><th scope=row>{escape(method_label(name))}</th>{''.join(cells)}</tr>"


def picture(item: Mapping[str, Any]) -> str:
    """Draw an item: its initial, and its picture over it if there is one and it loads.

    Pictures are in the page (`data:`), or come from the address that the data give; nothing else
    of the page is asked for elsewhere.
    """
    title, image = str(item["title"]), item["image"]
    initial = escape(next((letter for letter in title if letter.isalnum()), "?").upper())
    hue = sum(title.encode()) * 47 % 360
    shown = ""
    if image is not None and image.startswith(("data:image/", "https://", "http://")):
        shown = f'<img src="{escape(image)}" alt="" loading="lazy" referrerpolicy="no-referrer">'
    return f'<span class="thumb" style="--hue:{hue}" aria-hidden="true">{initial}{shown}</span>'


def ours_first(by_method: Mapping[str, Any]) -> dict[str, Any]:
    """Put ours before its rivals."""
    return dict(sorted(by_method.items(), key=lambda entry: entry[0] != OURS))

"""Pieces of HTML that every part of `report.html` is made of."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pinsage.evaluation.wording import OURS, method_label, metric_label, metric_meaning

_SMALL = frozenset({"the", "a", "an", "of", "and", "in", "to"})


def section(name: str, title: str, *parts: str) -> str:
    """Write a part of the page that its list of contents leads to."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def table(caption: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    """Write a table that scrolls sideways where it doesn't fit; heads are HTML."""
    return (
        f'<p class="soft">{escape(caption)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
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
    """Draw an item: its initials, and its picture over it if there is one and it loads.

    Pictures are in the page (`data:`), or come from the address that the data give; nothing else
    of the page is asked for elsewhere.
    """
    title, image = str(item["title"]), item["image"]
    hue = sum(title.encode()) * 47 % 360
    drawn, shown = escape(initials(title)), ""
    if image is not None and image.startswith(("data:image/", "https://", "http://")):
        shown = f'<img src="{escape(image)}" alt="" loading="lazy" referrerpolicy="no-referrer">'
    return f'<span class="thumb" style="--hue:{hue}" aria-hidden="true">{drawn}{shown}</span>'


def initials(title: str) -> str:
    """Give the letters of a drawn cover, as the explorer does.

    >>> initials("The War of the Worlds (Penguin)"), initials("Emma"), initials("...")
    ('WW', 'E', '.')
    """
    bare = re.sub(r"\s*\([^()]*\)\s*$", "", title) or title
    words = [word for word in bare.split() if word[0].isalnum() and word.lower() not in _SMALL]
    return "".join(word[0].upper() for word in words[:2]) or title[:1] or "?"


def ours_first(by_method: Mapping[str, Any]) -> dict[str, Any]:
    """Put ours before its rivals."""
    return dict(sorted(by_method.items(), key=lambda entry: entry[0] != OURS))

"""Tables for terminals."""

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[object]], *, left: int = 1) -> str:
    """Lay out a table, its first row the heading, with a rule below it.

    Args:
        rows: cells, row by row; all rows are equally long.
        left: how many of the first columns begin at the left; the others end at the right.

    Returns:
        Lines without spaces at their ends.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

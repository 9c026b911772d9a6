"""Which column of the items table is the key, and which of the edges table has those keys."""

import pyarrow as pa
import pyarrow.compute as pc

from pinsage.base.errors import DataError
from pinsage.graph.glance import Glance, listed
from pinsage.graph.spellings import alike_but_for, share_of

_MOST = 0.5
_NEARLY = 0.1
"""Of columns none of which holds keys alone, how far the runner-up must be behind."""


def matching_keys(
    items: Glance, edges: Glance, told_key: str | None, told_item: str | None
) -> tuple[str, str]:
    """Find the items' key, and the edges' column that has those keys.

    Args:
        items: the items table.
        edges: the edges table.
        told_key: the user's word for the first; None if it is to be found out.
        told_item: likewise for the second.

    Raises:
        DataError: the tables do not decide, or hold no keys of each other; it says which columns
            there are, and the flags that tell.
    """
    keys = [items.require_key(told_key, "--key")] if told_key else items.names("text", "integer")
    columns = [edges.require_key(told_item, "--item")] if told_item else edges.key_like()
    if told_key and told_item:
        return told_key, told_item
    samples = {column: edges.sample(column) for column in columns if _may_be_key(edges, column)}
    best: list[tuple[float, str, str]] = []
    unfit: list[str] = []
    for key in keys:
        fault, values = "", pa.array([], pa.large_string())
        if not _may_be_key(items, key):
            fault = f"is {items.type_of(key)}"
        else:
            values = items.texts(key)
            fault = "" if told_key else _fault(values)
        if fault:
            unfit.append(f"{key!r} {fault}")
            continue
        for column, sample in samples.items():
            share = share_of(sample, values.drop_null())
            if share > 0:
                best.append((share + _bonus(key == column, share, sample), key, column))
    best.sort(reverse=True)
    if not (told_key or told_item or any(key == column for _, key, column in best)):
        _refuse_odd_keys(items, edges)
        _refuse_strange_namesakes(items, edges, best[0][1] if best else None)
    if not best:
        why = f"; unfit as keys: {listed(unfit)}" if unfit else ""
        raise DataError(
            f"no column of {edges.path} ({edges.with_types(edges.columns)}) has the unique keys of "
            f"{items.path} ({items.with_types(items.columns)}){why}; say with --key and --item "
            "which they are: text or whole numbers"
        )
    least = best[0][0] - (_NEARLY if best[0][0] < 1 else 0)
    fitting = [f"--key {key} --item {column}" for share, key, column in best if share >= least]
    if len(fitting) > 1:
        raise DataError(
            f"several columns of {edges.path} could be the items of {items.path}; say which with "
            f"one of: {' | '.join(fitting)}"
        )
    _, key, column = best[0]
    if is_text(items, key) != is_text(edges, column):
        raise DataError(
            f"{edges.path}: {edges.with_types([column])} holds the keys of {items.path}: "
            f"{items.with_types([key])}, but of another type; write both alike"
        )
    return key, column


def is_text(table: Glance, column: str) -> bool:
    """Tell whether a column holds text."""
    return column in table.names("text")


def _may_be_key(table: Glance, column: str) -> bool:
    return column in table.names("text", "integer")


def _fault(keys: pa.Array) -> str:
    """Say why values cannot be the items' keys; empty if they can."""
    if keys.null_count:
        return f"is null in {keys.null_count} of {len(keys)} rows"
    repeats = len(keys) - len(pc.unique(keys))
    return f"repeats in {repeats} of {len(keys)} rows" if repeats else ""


def _bonus(names_are_equal: bool, share: float, sample: pa.Array) -> bool:  # noqa: FBT001
    """Let equal names decide where several columns fit; but not those of the rows' numbers."""
    return names_are_equal and (share > _MOST or repeats(sample))


def repeats(values: pa.Array) -> bool:
    """Tell whether a value comes more than once."""
    return len(pc.unique(values)) < len(values)


def _refuse_odd_keys(items: Glance, edges: Glance) -> None:
    """Refuse columns of one name in both tables that look like the key but for their types.

    Left alone, another column whose values happen to fit would be taken for the key.
    """
    for column in edges.columns:
        odd = [table for table in (items, edges) if column in table.key_like("float", "scalar")]
        plain = [table for table in (items, edges) if column in table.key_like()]
        never_keys = [table for table in odd if column in table.names("scalar")]
        if (odd and plain) or len(never_keys) > 1:
            raise DataError(
                f"{odd[0].path}: {column!r} is {odd[0].type_of(column)}, wanted a key of text or "
                f"whole numbers, because {items.path} and {edges.path} both have a column of that "
                "name; cast it (pandas turns integers to floats where some are missing: use "
                "Int64), or say with --key and --item which columns are the keys"
            )


def _refuse_strange_namesakes(items: Glance, edges: Glance, found: str | None) -> None:
    """Refuse a column that tells items apart, and edges have by the same name but not as it is.

    Args:
        items: the items table.
        edges: the edges table.
        found: the items' key, if another column of the edges has its values.
    """
    kinds = ("text", "integer", "time")
    for column in items.key_like(*kinds):
        if column not in edges.key_like(*kinds, "other") or _fault(items.texts(column)):
            continue
        # Edges may call the numbers of their rows, or their users, as items call their keys.
        is_plain = column in edges.names(*kinds)
        if is_plain and (column == found or not repeats(edges.sample(column))):
            continue
        raise DataError(
            f"{items.path} and {edges.path} both have {column!r} ({items.type_of(column)}; "
            f"{edges.type_of(column)}), {_why_strange(items, edges, column)}; write both alike, as "
            "text or whole numbers, or say with --key and --item which columns are the keys"
        )


def _why_strange(items: Glance, edges: Glance, column: str) -> str:
    if column in edges.names("other"):
        return "which is not of one type in all files of the second"
    if column in items.names("time") + edges.names("time"):
        return "and times are no keys"
    what = alike_but_for(edges.sample(column), items.texts(column), share=_MOST)
    if what is not None:
        return f"whose values are alike but for {what}"
    return "and none of its values is in both"

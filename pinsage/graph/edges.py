"""Reading the edges tables: checked, with item ids, and contexts in order of their keys."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int32, Shaped

from pinsage.graph.findings import Findings, Place
from pinsage.graph.items import Items
from pinsage.graph.schema import EdgesConfig
from pinsage.graph.tables import Kind, Table, Wanted, key_texts, null_rows, read_table


@dataclass(frozen=True)
class Edges:
    """Edges with dense ids, each (item, context) once, in order of context, then item."""

    item_ids: Int32[np.ndarray, " edges"]
    context_ids: Int32[np.ndarray, " edges"]
    context_keys: pa.Array
    """large_string in ascending order of its UTF-8 bytes; row = context id."""
    times: Shaped[np.ndarray, " edges"] | None
    """The earliest time of each edge; timestamps in microseconds. None where no times are used."""
    all_times: Shaped[np.ndarray, " edge_rows"] | None
    """The times of all rows, before repeated edges were merged."""
    repeated: int
    """How many rows were merged into others."""

    def __len__(self) -> int:
        return len(self.item_ids)

    def only(self, kept: Bool[np.ndarray, " edges"]) -> "Edges":
        """Keep some edges, and the contexts that still have one."""
        codes = self.context_ids[kept]
        used = np.unique(codes)
        return replace(
            self,
            item_ids=self.item_ids[kept],
            context_ids=np.searchsorted(used, codes).astype(np.int32),
            context_keys=self.context_keys.take(pa.array(used)),
            times=None if self.times is None else self.times[kept],
        )


@dataclass(frozen=True)
class _Rows:
    """The good rows of one edges table."""

    item_ids: Int32[np.ndarray, " rows"]
    context_texts: pa.Array
    times: Shaped[np.ndarray, " rows"] | None


def read_edges(
    configs: Sequence[EdgesConfig], items: Items | None, findings: Findings, *, with_times: bool
) -> Edges | None:
    """Read and check all edges tables, and merge them.

    Args:
        configs: the tables.
        items: the items; None if they could not be read, and then only whole tables are checked.
        findings: takes what is wrong.
        with_times: read the times, if the tables have them.

    Returns:
        The edges, bad rows left out; None if they cannot be used, and then there is a finding.
    """
    timed = [config.timestamp is not None for config in configs]
    if with_times and any(timed) and not all(timed):
        bare = next(config for config in configs if config.timestamp is None)
        findings.add(
            f"{bare.path}: data.edges has timestamps for other tables but none for this one; set "
            "`timestamp` for all, or for none"
        )
    parts = [
        _read_one(config, position, items, findings, with_times=with_times and all(timed))
        for position, config in enumerate(configs)
    ]
    good = [part for part in parts if part is not None]
    if items is None or len(good) < len(parts):
        return None
    if not sum(len(part.item_ids) for part in good):
        if not findings.problems:
            findings.add("data.edges: no usable edge is left; mend the rows reported above")
        return None
    kinds = {part.times.dtype.kind == "M" for part in good if part.times is not None}
    if len(kinds) > 1:
        findings.add(
            "data.edges: times are timestamps in one table and numbers in another; write them alike"
        )
        return None
    return _merge(good, len(items))


def find_items(
    table: Table,
    column: str,
    items: Items | None,
    good: Bool[np.ndarray, " rows"],
    findings: Findings,
) -> tuple[Int32[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Look up a column of item keys.

    Args:
        table: the table.
        column: its column of item keys.
        items: the known items; None skips the look-up.
        good: the rows not yet reported.
        findings: takes null and unknown keys.

    Returns:
        For every row the item id (0 where there is none), and whether the row is still good.
    """
    keys = table.column(column)
    good = good & ~note_nulls(table.place, column, keys, good, findings)
    if items is None:
        return np.zeros(len(table), np.int32), good
    if keys.type != items.keys.type:
        if keys.null_count < len(keys):
            findings.add(
                f"{table.place.label}: {column!r} holds {keys.type} keys, but the items table has "
                f"{items.keys.type} keys; write both alike"
            )
        return np.zeros(len(table), np.int32), np.zeros(len(table), bool)
    found = pc.index_in(keys, value_set=items.keys)
    unknown = good & found.is_null().to_numpy(zero_copy_only=False)
    findings.bad_rows(
        table.place,
        column,
        unknown,
        reason="unknown_item",
        what="is not in the items table",
        fix="add these items",
        values=keys,
    )
    ids = found.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
    return ids, good & ~unknown


def note_nulls(
    place: Place,
    column: str,
    values: pa.Array,
    good: Bool[np.ndarray, " rows"],
    findings: Findings,
) -> Bool[np.ndarray, " rows"]:
    """Report rows, of those still good, whose key is null or empty."""
    bad = null_rows(values) & good
    findings.bad_rows(
        place, column, bad, reason="null_key", what="is null or empty", fix="fill it in"
    )
    return bad


def read_times(
    table: Table, column: str, good: Bool[np.ndarray, " rows"], findings: Findings
) -> tuple[Shaped[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Check a column of times.

    Returns:
        The times (int64, float64 or datetime64[us]; anything where bad), and whether each row is
        still good.
    """
    times = table.column(column)
    bad = times.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_floating(times.type):
        values = times.fill_null(0.0).to_numpy(zero_copy_only=False)
        bad = bad | ~np.isfinite(values)
    elif pa.types.is_timestamp(times.type):
        values = times.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        values = values.astype("datetime64[us]")
    else:
        values = times.fill_null(0).to_numpy(zero_copy_only=False)
    bad = bad & good
    findings.bad_rows(
        table.place,
        column,
        bad,
        reason="bad_timestamp",
        what="is null or not a finite time",
        fix="fill it in",
    )
    return values, good & ~bad


def _read_one(
    config: EdgesConfig,
    position: int,
    items: Items | None,
    findings: Findings,
    *,
    with_times: bool,
) -> _Rows | None:
    setting = f"data.edges.{position}"
    wanted = [
        Wanted(config.item, Kind.KEY, f"{setting}.item"),
        Wanted(config.context, Kind.KEY, f"{setting}.context"),
    ]
    if config.timestamp is not None:
        wanted.append(Wanted(config.timestamp, Kind.TIME, f"{setting}.timestamp"))
    table = read_table("edges", config.path, wanted, findings, config.where)
    if table is None:
        return None
    item_ids, good = find_items(table, config.item, items, np.ones(len(table), bool), findings)
    contexts = table.column(config.context)
    good &= ~note_nulls(table.place, config.context, contexts, good, findings)
    times = None
    if with_times and config.timestamp is not None:
        times, good = read_times(table, config.timestamp, good, findings)
    rows = np.flatnonzero(good)
    return _Rows(
        item_ids[rows],
        with_prefix(contexts.take(pa.array(rows)), config.context_prefix),
        None if times is None else times[rows],
    )


def with_prefix(keys: pa.Array, prefix: str) -> pa.DictionaryArray:
    """Write context keys as text with a prefix; each distinct one is written once."""
    encoded = keys.dictionary_encode()
    texts = key_texts(encoded.dictionary)
    if prefix:
        first = pa.scalar(prefix, pa.large_string())
        texts = pc.binary_join_element_wise(first, texts, pa.scalar("", pa.large_string()))
    return pa.DictionaryArray.from_arrays(encoded.indices, texts)


def _merge(parts: Sequence[_Rows], num_items: int) -> Edges:
    """Number the contexts, put the tables together, and keep each edge once, at its earliest."""
    texts = pc.unique(pa.chunked_array([part.context_texts.dictionary for part in parts]))
    keys = texts.take(pc.sort_indices(texts))
    codes = []
    for part in parts:
        code_of = pc.index_in(part.context_texts.dictionary, value_set=keys).to_numpy()
        codes.append(code_of[part.context_texts.indices.to_numpy()])
    edge_keys = np.concatenate(codes).astype(np.int64) * num_items
    edge_keys += np.concatenate([part.item_ids for part in parts])
    timed = [part.times for part in parts if part.times is not None]
    times = np.concatenate(timed) if timed else None
    # A stable sort by time first makes `unique` keep the earliest row of each edge.
    order = None if times is None else np.argsort(times, kind="stable")
    distinct, firsts = np.unique(
        edge_keys if order is None else edge_keys[order], return_index=True
    )
    if times is not None and order is not None:
        first_times: Shaped[np.ndarray, " edges"] | None = times[order[firsts]]
    else:
        first_times = None
    return Edges(
        item_ids=(distinct % num_items).astype(np.int32),
        context_ids=(distinct // num_items).astype(np.int32),
        context_keys=keys,
        times=first_times,
        all_times=times,
        repeated=len(edge_keys) - len(distinct),
    )

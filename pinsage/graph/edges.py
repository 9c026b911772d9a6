"""Reading the edges tables, a part at a time: checked, with item ids and context keys as text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int32, Int64, Shaped

from pinsage.base.errors import DataError
from pinsage.graph.columns import Kind, Wanted, distinct_columns, key_texts, null_rows, target_type
from pinsage.graph.findings import Findings, Place
from pinsage.graph.schema import EdgesConfig
from pinsage.graph.sources import Source, find_sources
from pinsage.graph.spellings import alike_but_for
from pinsage.graph.tables import OpenFile, Table, open_file, read_rows
from pinsage.graph.times import TimeKind, TimeScale, times_of_texts

_KINDS: dict[pa.DataType, TimeKind] = {
    pa.timestamp("us"): "timestamp",
    pa.float64(): "float",
    pa.int64(): "integer",
}

_FEW_ROWS = 1_000
_MOST = 0.5
_SOME = 0.01

_DENSE = 4
"""Numbers that span at most so many times their count are looked up in a table."""


@dataclass(frozen=True)
class EdgePart:
    """Some row groups of one file of an edges table."""

    position: int
    """Place of the table in `data.edges`."""
    config: EdgesConfig
    source: Source
    row_groups: range
    names_files: bool
    """The table has several files."""


@dataclass(frozen=True)
class EdgePlan:
    """Every part of every edges table, and what their columns have in common."""

    parts: tuple[EdgePart, ...]
    time_kinds: frozenset[TimeKind]
    """What kinds of times the tables hold; none if times are not read."""
    has_weights: bool
    """A table has weights; the edges of those that have none weigh 1."""


@dataclass(frozen=True)
class PartRows:
    """The good rows of one part."""

    item_ids: Int32[np.ndarray, " rows"]
    context_codes: Int32[np.ndarray, " rows"]
    """Places in `context_texts`."""
    context_texts: pa.Array
    """large_string: distinct context keys as text, prefix included."""
    weights: Float64[np.ndarray, " rows"] | None
    times: Int64[np.ndarray, " rows"] | None
    """Encoded by the graph's `TimeScale`."""


def plan_edges(
    configs: Sequence[EdgesConfig], findings: Findings, *, needs_times: bool, rows_per_part: int
) -> EdgePlan:
    """Look at the files of all edges tables, and cut them into parts.

    Args:
        configs: the tables.
        findings: takes what is wrong with whole files.
        needs_times: the split goes by time.
        rows_per_part: a part has about so many rows, or one row group if that has more.

    Returns:
        The parts, those of unusable files left out; then there are findings.
    """
    timed = [config.timestamp is not None for config in configs]
    if needs_times and any(timed) and not all(timed):
        bare = next(config for config in configs if config.timestamp is None)
        findings.add(
            f"{bare.path}: data.edges has timestamps for other tables but none for this one; set "
            "`timestamp` for all, or for none"
        )
    parts: list[EdgePart] = []
    kinds: set[TimeKind] = set()
    for position, config in enumerate(configs):
        try:
            sources = find_sources(config.path)
        except DataError as error:
            findings.add(str(error))
            continue
        for source in sources:
            file = _open(config, position, source, findings)
            if file is None:
                continue
            if config.timestamp is not None and all(timed):
                kinds |= _time_kinds(file, config.timestamp)
            parts += [
                EdgePart(position, config, source, groups, len(sources) > 1)
                for groups in _row_group_ranges(file, rows_per_part)
            ]
    if all(timed) and not kinds:
        # All rows lack a time, and are reported when they are read.
        kinds.add("integer")
    if "timestamp" in kinds and len(kinds) > 1:
        findings.add(
            "data.edges: times are timestamps in one table and numbers in another; write them alike"
        )
    has_weights = any(config.weight is not None for config in configs)
    return EdgePlan(tuple(parts), frozenset(kinds), has_weights)


def read_part(
    part: EdgePart,
    item_keys: pa.Array | None,
    findings: Findings,
    *,
    scale: TimeScale | None,
    has_weights: bool,
) -> tuple[PartRows | None, int]:
    """Read and check one part.

    Args:
        part: which rows.
        item_keys: keys by item id; None if the items could not be read, and then keys are not
            looked up.
        findings: takes what is wrong.
        scale: how times are written; None reads none.
        has_weights: the graph's edges have weights.

    Returns:
        The good rows, None if they cannot be used and then there is a finding; and how many rows
        passed the table's `where`.
    """
    config, setting = part.config, f"data.edges.{part.position}"
    columns = distinct_columns(_wanted(config, setting, with_times=scale is not None))
    file = open_file(part.source, config.path, columns, config.where, findings)
    read = (
        None if file is None else read_rows(file, part.row_groups, columns, config.where, findings)
    )
    if read is None:
        return None, 0
    place = Place(
        table="edges",
        label=config.path,
        files=(part.source.path,),
        first_rows=(0,),
        row_numbers=(read.row_numbers,),
        names_files=part.names_files,
    )
    table = Table(place, read.data)
    item_ids, good = find_items(table, config.item, item_keys, np.ones(len(table), bool), findings)
    contexts = table.column(config.context)
    good &= ~note_nulls(place, config.context, contexts, good, findings)
    weights, times = None, None
    if has_weights:
        weights, good = _read_weights(table, config.weight, good, findings)
    if scale is not None and config.timestamp is not None:
        values, good = read_times(table, config.timestamp, good, findings)
        times = scale.encode(values)
    rows = np.flatnonzero(good)
    texts = with_prefix(contexts.take(pa.array(rows)), config.context_prefix)
    return PartRows(
        item_ids[rows],
        texts.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False),
        texts.dictionary,
        None if weights is None else weights[rows],
        None if times is None else times[rows],
    ), len(table)


def find_items(
    table: Table,
    column: str,
    item_keys: pa.Array | None,
    good: Bool[np.ndarray, " rows"],
    findings: Findings,
) -> tuple[Int32[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Look up a column of item keys.

    Args:
        table: the table.
        column: its column of item keys.
        item_keys: keys by item id; None skips the look-up.
        good: the rows not yet reported.
        findings: takes null and unknown keys.

    Returns:
        For every row the item id (0 where there is none), and whether the row is still good.
    """
    keys = table.column(column)
    good = good & ~note_nulls(table.place, column, keys, good, findings)
    if item_keys is None:
        return np.zeros(len(table), np.int32), good
    if not len(item_keys):
        # Which is a finding of its own.
        return np.zeros(len(table), np.int32), np.zeros(len(table), bool)
    if keys.type != item_keys.type:
        if keys.null_count < len(keys):
            findings.add(
                f"{table.place.label}: {column!r} holds {keys.type} keys, but the items table has "
                f"{item_keys.type} keys; write both alike"
            )
        return np.zeros(len(table), np.int32), np.zeros(len(table), bool)
    ids, known = ids_of_keys(keys, item_keys)
    unknown = good & ~known
    findings.bad_rows(
        table.place,
        column,
        unknown,
        reason="unknown_item",
        what="is not in the items table",
        fix=_how_to_know(keys, unknown, item_keys),
        values=keys,
    )
    return ids, good & ~unknown


def _how_to_know(keys: pa.Array, unknown: Bool[np.ndarray, " rows"], item_keys: pa.Array) -> str:
    """Say what makes items known: nothing is missing where two tables write one key differently."""
    what = None
    # A few that are missing are a few that are missing, and all keys are written anew to compare.
    if np.count_nonzero(unknown) > _SOME * len(unknown) and pa.types.is_large_string(keys.type):
        some = keys.take(pa.array(np.flatnonzero(unknown)[:_FEW_ROWS]))
        what = alike_but_for(some, item_keys, share=_MOST)
    if what is None:
        return "add these items"
    return f"write these keys as the items table does, where they are alike but for {what}"


def ids_of_keys(
    keys: pa.Array, known: pa.Array
) -> tuple[Int32[np.ndarray, " keys"], Bool[np.ndarray, " keys"]]:
    """Find the places of keys among the known ones, which are distinct and of the same type.

    Returns:
        The places (0 where there is none), and whether there is one.
    """
    if pa.types.is_int64(known.type) and len(known):
        lowest, highest = (scalar.as_py() for scalar in pc.min_max(known).values())
        if highest - lowest < _DENSE * len(known):
            return _ids_of_dense_keys(keys, known, lowest, highest)
    found = pc.index_in(keys, value_set=known)
    is_known = ~found.is_null().to_numpy(zero_copy_only=False)
    return found.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32), is_known


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
    if pa.types.is_large_string(times.type):
        # The column is the contexts' too, and was read for them.
        times = times_of_texts(times)
    bad = times.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_floating(times.type):
        values = times.fill_null(0.0).to_numpy(zero_copy_only=False)
        bad = bad | ~np.isfinite(values)
    elif pa.types.is_timestamp(times.type):
        values = times.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        values = values.astype("datetime64[us]")
    else:
        values = times.fill_null(0).to_numpy(zero_copy_only=False)
        # What pandas makes of a missing time, cast to whole numbers.
        bad = bad | (values == np.iinfo(np.int64).min)
    bad = bad & good
    findings.bad_rows(
        table.place,
        column,
        bad,
        reason="bad_timestamp",
        what="is null or not a finite time",
        fix="write numbers, timestamps or texts like 2024-05-01 09:30",
        values=table.column(column),
    )
    return values, good & ~bad


def with_prefix(keys: pa.Array, prefix: str) -> pa.DictionaryArray:
    """Write context keys as text with a prefix; each distinct one is written once."""
    encoded = keys.dictionary_encode()
    texts = key_texts(encoded.dictionary)
    if prefix:
        first = pa.scalar(prefix, pa.large_string())
        texts = pc.binary_join_element_wise(first, texts, pa.scalar("", pa.large_string()))
    return pa.DictionaryArray.from_arrays(encoded.indices, texts)


def _ids_of_dense_keys(
    keys: pa.Array, known: pa.Array, lowest: int, highest: int
) -> tuple[Int32[np.ndarray, " keys"], Bool[np.ndarray, " keys"]]:
    """Look numbers up in a table of all that may be: no hashing, and a fifth of the time."""
    place_of = np.full(highest - lowest + 1, -1, np.int32)
    place_of[known.to_numpy(zero_copy_only=False) - lowest] = np.arange(len(known), dtype=np.int32)
    values = keys.fill_null(lowest).to_numpy(zero_copy_only=False)
    inside = (values >= lowest) & (values <= highest)
    places = place_of[np.where(inside, values - lowest, 0)]
    is_known = inside & (places >= 0) & ~keys.is_null().to_numpy(zero_copy_only=False)
    return np.where(is_known, places, 0).astype(np.int32), is_known


def _wanted(config: EdgesConfig, setting: str, *, with_times: bool) -> list[Wanted]:
    wanted = [
        Wanted(config.item, Kind.KEY, f"{setting}.item"),
        Wanted(config.context, Kind.KEY, f"{setting}.context"),
    ]
    if config.timestamp is not None and with_times:
        wanted.append(Wanted(config.timestamp, Kind.TIME, f"{setting}.timestamp"))
    if config.weight is not None:
        wanted.append(Wanted(config.weight, Kind.WEIGHT, f"{setting}.weight"))
    return wanted


def _open(
    config: EdgesConfig, position: int, source: Source, findings: Findings
) -> OpenFile | None:
    columns = distinct_columns(_wanted(config, f"data.edges.{position}", with_times=True))
    return open_file(source, config.path, columns, config.where, findings)


def _time_kinds(file: OpenFile, column: str) -> set[TimeKind]:
    """Tell the kind of a file's times; an empty frame's column, of no type, has none."""
    found = file.parquet.schema_arrow.field(column).type
    target = None if pa.types.is_null(found) else target_type(found, Kind.TIME)
    return set() if target is None else {_KINDS[target]}


def _row_group_ranges(file: OpenFile, rows_per_part: int) -> list[range]:
    """Cut a file's row groups into runs of about `rows_per_part` rows."""
    metadata = file.parquet.metadata
    ranges, first, rows = [], 0, 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= rows_per_part or group == metadata.num_row_groups - 1:
            ranges.append(range(first, group + 1))
            first, rows = group + 1, 0
    return ranges


def _read_weights(
    table: Table, column: str | None, good: Bool[np.ndarray, " rows"], findings: Findings
) -> tuple[Float64[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Check a column of weights; without one, every edge weighs 1."""
    if column is None:
        return np.ones(len(table)), good
    weights = table.column(column).fill_null(0.0).to_numpy(zero_copy_only=False)
    # As float32, because that is what is kept: a large float64 becomes infinite, a tiny one zero.
    with np.errstate(over="ignore", under="ignore"):
        kept = weights.astype(np.float32)
    bad = ~(np.isfinite(kept) & (kept > 0)) & good
    findings.bad_rows(
        table.place,
        column,
        bad,
        reason="bad_weight",
        what="is null, or not a finite number above 0 that float32 can hold",
        fix="fill in positive numbers, up to 3.4e38",
        values=table.column(column),
    )
    return weights, good & ~bad

"""Reading input tables: the wanted columns, in types the rest of ingest can rely on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool

from pinsage.base.errors import DataError
from pinsage.graph.findings import Findings, Place
from pinsage.graph.schema import Filter
from pinsage.graph.sources import Source, find_sources
from pinsage.graph.times import times_of_texts


class Kind(Enum):
    """What a column is for; decides its type."""

    KEY = "a key (string or integer)"
    """Becomes int64 or large_string. Floats that are whole numbers are numbers: pandas makes floats
    of integers where some are missing."""
    TIME = "a time (integer, float, timestamp, or text like 2024-05-01 09:30)"
    """Becomes int64, float64, or timestamp in microseconds."""
    WEIGHT = "a weight (a number)"
    """Becomes float64."""
    TEXT = "text"
    """Becomes large_string."""
    ANY = "anything"
    """Stays as it is."""


@dataclass(frozen=True)
class Wanted:
    """One column to read."""

    column: str
    kind: Kind
    setting: str
    """The setting that names the column, for messages."""


@dataclass(frozen=True)
class Table:
    """One input table, all of its files together."""

    place: Place
    data: pa.Table

    def __len__(self) -> int:
        return self.data.num_rows

    def column(self, name: str) -> pa.Array:
        """Give a column in one piece."""
        column = self.data[name]
        if pa.types.is_list(column.type):
            # Of all files together, there may be more numbers than its offsets can count.
            column = column.cast(pa.large_list(column.type.value_field))
        column = column.combine_chunks()
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def read_table(
    name: str,
    path: str,
    wanted: Sequence[Wanted],
    findings: Findings,
    where: Sequence[Filter] = (),
) -> Table | None:
    """Read the wanted columns of a table.

    Args:
        name: `items`, `edges` or `pairs`.
        path: the configured path.
        wanted: the columns; one named twice gets the first kind asked for.
        findings: takes what is wrong.
        where: which rows to read.

    Returns:
        The table, or None if it cannot be read; then there is a finding.
    """
    try:
        sources = find_sources(path)
    except DataError as error:
        findings.add(str(error))
        return None
    columns = distinct_columns(wanted)
    parts = []
    for source in sources:
        file = open_file(source, path, columns, where, findings)
        read = None if file is None else read_rows(file, None, columns, where, findings)
        parts.append(read)
    read_parts = [part for part in parts if part is not None]
    if len(read_parts) < len(parts):
        return None
    try:
        data = pa.concat_tables(
            _empty_columns_alike([part.data for part in read_parts]), promote_options="permissive"
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        findings.add(f"{path}: the files disagree ({error}); write them with one schema")
        return None
    if data.num_rows == 0:
        findings.add(no_rows(path, where))
        return None
    sizes = [part.data.num_rows for part in read_parts]
    place = Place(
        table=name,
        label=path,
        files=tuple(source.path for source in sources),
        first_rows=tuple(int(start) for start in np.cumsum([0, *sizes[:-1]])),
        row_numbers=tuple(part.row_numbers for part in read_parts),
        names_files=len(sources) > 1,
    )
    return Table(place, data)


def _empty_columns_alike(parts: Sequence[pa.Table]) -> list[pa.Table]:
    """Give columns that hold nothing in some files the type that they have in the others."""
    types = {
        field.name: field.type
        for part in reversed(parts)
        for field in part.schema
        if part[field.name].null_count < len(part)
    }
    return [
        pa.table({
            name: pa.nulls(len(part), types.get(name, column.type))
            if column.null_count == len(part)
            else column
            for name, column in zip(part.column_names, part.columns, strict=True)
        })
        for part in parts
    ]


@dataclass(frozen=True)
class OpenFile:
    """A Parquet file that has every wanted column."""

    label: str
    """What messages call it: the configured path, or its own where that means several files."""
    parquet: pq.ParquetFile


@dataclass(frozen=True)
class ReadRows:
    """Some rows of one file, in the types that their kinds promise."""

    data: pa.Table
    row_numbers: Sequence[int] | np.ndarray
    """Their numbers in the file."""


def distinct_columns(wanted: Sequence[Wanted]) -> dict[str, Wanted]:
    """Give the columns to read; one named twice gets the first kind asked for."""
    columns: dict[str, Wanted] = {}
    for one in wanted:
        columns.setdefault(one.column, one)
    return columns


def no_rows(path: str, where: Sequence[Filter]) -> str:
    """Say that a table has no rows, or none that pass."""
    reason = f"no rows are left by where {_written(where)}" if where else "there are no rows"
    return f"{path}: {reason}; check the path and the filter"


def open_file(
    source: Source,
    label: str,
    columns: Mapping[str, Wanted],
    where: Sequence[Filter],
    findings: Findings,
) -> OpenFile | None:
    """Open one file, and look for the wanted columns; None leaves a finding."""
    label = label if source.path.endswith(label) else source.path
    try:
        file = pq.ParquetFile(source.filesystem.open_input_file(source.path))
        known = file.schema_arrow.names
    except (OSError, pa.ArrowException) as error:
        findings.add(_unreadable(label, error))
        return None
    settings = _settings(columns, where)
    missing = [column for column in settings if column not in known]
    for column in missing:
        findings.missing_column(label, column, known, settings[column])
    repeated = [column for column in settings if known.count(column) > 1]
    for column in repeated:
        findings.add(
            f"{label}: {known.count(column)} columns are called {column!r}, wanted one for "
            f"{settings[column]}; rename or drop the others"
        )
    if missing or repeated:
        return None
    for one in columns.values():
        found = file.schema_arrow.field(one.column).type
        if target_type(found, one.kind) is None:
            findings.add(
                f"{_found(label, one, found)} for {one.setting}; {_type_hint(found, one.kind)}"
            )
            return None
    return OpenFile(label, file)


def read_rows(
    file: OpenFile,
    row_groups: range | None,
    columns: Mapping[str, Wanted],
    where: Sequence[Filter],
    findings: Findings,
) -> ReadRows | None:
    """Read some row groups, or all; None leaves a finding."""
    metadata = file.parquet.metadata
    groups = range(metadata.num_row_groups) if row_groups is None else row_groups
    first = sum(metadata.row_group(group).num_rows for group in range(groups.start))
    try:
        table = file.parquet.read_row_groups(list(groups), columns=list(_settings(columns, where)))
    except (OSError, pa.ArrowException) as error:
        findings.add(_unreadable(file.label, error))
        return None
    table = without_views(table)
    row_numbers: Sequence[int] | np.ndarray = range(first, first + table.num_rows)
    if where:
        passed = _passing(table, file.label, where, findings)
        if passed is None:
            return None
        table, row_numbers = table.take(pa.array(passed)), passed + first
    arrays = {}
    for column, one in columns.items():
        array = _canonical(table[column], one, file.label, findings)
        if array is None:
            return None
        arrays[column] = array
    return ReadRows(pa.table(arrays), row_numbers)


def without_views(table: pa.Table) -> pa.Table:
    """Turn views to plain text, bytes or lists: Arrow takes and filters no rows of a view."""
    plain = pa.schema([field.with_type(_without_views(field.type)) for field in table.schema])
    return table if plain.equals(table.schema) else table.cast(plain)


def _without_views(found: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_string_view(found):
        return pa.large_string()
    if types.is_binary_view(found):
        return pa.large_binary()
    if types.is_list_view(found) or types.is_large_list_view(found):
        return pa.large_list(_without_views(found.value_type))
    is_list = types.is_list(found) or types.is_large_list(found)
    value = _without_views(found.value_type) if is_list else None
    return found if value is None or value.equals(found.value_type) else pa.large_list(value)


def null_rows(column: pa.Array) -> Bool[np.ndarray, " rows"]:
    """Mark rows whose key or text is null or empty."""
    bad = column.is_null()
    if pa.types.is_large_string(column.type):
        bad = pc.or_(bad, pc.fill_null(pc.equal(column, ""), False))  # noqa: FBT003
    return bad.to_numpy(zero_copy_only=False)


def key_texts(keys: pa.Array) -> pa.Array:
    """Write keys as text."""
    if not is_uuid(keys.type):
        return keys.cast(pa.large_string())
    distinct = keys.storage.dictionary_encode()
    texts = [str(UUID(bytes=raw)) for raw in distinct.dictionary.to_pylist()]
    return pa.array(texts, pa.large_string()).take(distinct.indices)


def is_uuid(found: pa.DataType) -> bool:
    """Tell whether a column holds UUIDs as databases write them, 16 bytes each."""
    return getattr(found, "extension_name", "") == "arrow.uuid"


def _settings(columns: Mapping[str, Wanted], where: Sequence[Filter]) -> dict[str, str]:
    """List every column to read, with the setting that names it."""
    settings = {one.column: one.setting for one in columns.values()}
    return settings | {column: f"where {_written([test])}" for test in where for column in test[:1]}


def _unreadable(label: str, error: Exception) -> str:
    return f"{label}: cannot be read as Parquet ({error}); write the file anew"


def _passing(
    table: pa.Table, label: str, where: Sequence[Filter], findings: Findings
) -> np.ndarray | None:
    numbers = pa.array(np.arange(table.num_rows))
    try:
        condition = pq.filters_to_expression([tuple(test) for test in where])
        filtered = table.append_column("__row_number", numbers).filter(condition)
    except (pa.ArrowException, TypeError, ValueError) as error:
        types = {str(table.schema.field(test[0]).type) for test in where}
        findings.add(
            f"{label}: where {_written(where)} does not fit columns of type "
            f"{', '.join(sorted(types))} ({error}); change the value or the operator"
        )
        return None
    return filtered["__row_number"].to_numpy()


def _canonical(
    column: pa.ChunkedArray, wanted: Wanted, label: str, findings: Findings
) -> pa.ChunkedArray | None:
    """Cast a column to the type its kind promises."""
    target = target_type(column.type, wanted.kind)
    # The file would not be open otherwise.
    assert target is not None
    found = column.type
    try:
        if is_uuid(found) and wanted.kind is not Kind.ANY:
            return pa.chunked_array([key_texts(chunk) for chunk in column.chunks], target)
        if found_is_text(found) and pa.types.is_timestamp(target):
            return times_of_texts(column.cast(pa.large_string()))
        if pa.types.is_floating(found) and pa.types.is_integer(target):
            column = _whole_numbers(column)
        if pa.types.is_timestamp(found):
            column = _times_that_fit(column)
        # Nanoseconds may be cut to microseconds; a number must keep its value.
        return column.cast(target, safe=not pa.types.is_timestamp(target))
    except pa.ArrowInvalid as error:
        findings.add(
            f"{_found(label, wanted, found)} that fits {target} ({error}); "
            f"{_fit_hint(found, wanted.kind)}"
        )
        return None


def _times_that_fit(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Make null of what is too far off to be written in microseconds, as "for ever" may be."""
    factor = {"s": 1_000_000, "ms": 1_000}.get(times.type.unit, 1)
    most = (2**63 - 1) // factor
    numbers = times.cast(pa.int64())
    fits = pc.and_(pc.less_equal(numbers, most), pc.greater_equal(numbers, -most))
    return pc.if_else(fits, times, pa.scalar(None, times.type))


def _whole_numbers(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Make null of what is NaN; refuse numbers so large that floats skip some."""
    found, keys = keys.type, keys.cast(pa.float64())
    keys = pc.if_else(pc.is_nan(keys), pa.scalar(None, keys.type), keys)
    largest = pc.max(pc.abs(keys)).as_py() or 0
    exact = 2.0 ** {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}[found]
    if largest > exact:
        raise pa.ArrowInvalid(f"{largest:.0f} is above {exact:.0f}, from where {found} skips some")
    return keys


def target_type(found: pa.DataType, kind: Kind) -> pa.DataType | None:
    """Give the type a column of some kind becomes; None if it cannot be of that kind."""
    types = pa.types
    value = found.value_type if types.is_dictionary(found) else found
    if kind is Kind.ANY:
        return found
    if types.is_null(value):
        return {Kind.TIME: pa.int64(), Kind.WEIGHT: pa.float64()}.get(kind, pa.large_string())
    if kind is Kind.TIME:
        if types.is_timestamp(value) or types.is_date(value) or found_is_text(value):
            return pa.timestamp("us")
        if types.is_integer(value):
            return pa.int64()
        return pa.float64() if types.is_floating(value) else None
    if kind is Kind.WEIGHT:
        is_number = types.is_integer(value) or types.is_floating(value)
        return pa.float64() if is_number or types.is_decimal(value) else None
    if found_is_text(value) or is_uuid(found):
        return pa.large_string()
    is_number = types.is_integer(value) or types.is_floating(value)
    return pa.int64() if kind is Kind.KEY and is_number else None


def found_is_text(found: pa.DataType) -> bool:
    """Tell whether a column holds text, each value by itself or as a category."""
    types = pa.types
    value = found.value_type if types.is_dictionary(found) else found
    return types.is_string(value) or types.is_large_string(value) or types.is_string_view(value)


def _found(label: str, wanted: Wanted, found: pa.DataType) -> str:
    return f"{label}: {wanted.column!r} is {found}, wanted {wanted.kind.value}"


def _fit_hint(found: pa.DataType, kind: Kind) -> str:
    if kind is Kind.TIME:
        return "mend these rows"
    if pa.types.is_floating(found):
        return "write keys as integers or strings"
    return "store it as a string, or smaller"


def _type_hint(found: pa.DataType, kind: Kind) -> str:
    if kind is Kind.TIME:
        return "parse it to a timestamp before ingest"
    return "cast it before ingest"


def _written(where: Sequence[Filter]) -> str:
    """Write filters as they stand in the configuration."""
    return "[" + ", ".join(f"[{test[0]}, {test[1]!r}, {test[2]!r}]" for test in where) + "]"

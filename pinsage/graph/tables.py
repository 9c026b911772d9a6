"""Reading input tables: the wanted columns of all files, and the rows that pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pinsage.base.errors import DataError
from pinsage.graph.columns import Wanted, distinct_columns, in_its_type, unfit, without_views
from pinsage.graph.findings import Findings, Place
from pinsage.graph.schema import Filter
from pinsage.graph.sources import Source, find_sources


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
        trouble = unfit(label, one, file.schema_arrow.field(one.column).type)
        if trouble is not None:
            findings.add(trouble)
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
        array = in_its_type(table[column], one, file.label, findings)
        if array is None:
            return None
        arrays[column] = array
    return ReadRows(pa.table(arrays), row_numbers)


def _settings(columns: Mapping[str, Wanted], where: Sequence[Filter]) -> dict[str, str]:
    """List every column to read, with the setting that names it."""
    settings = {one.column: one.setting for one in columns.values()}
    return settings | {column: f"where {_written([test])}" for test in where for column in test[:1]}


def _unreadable(label: str, error: Exception) -> str:
    return f"{label}: cannot be read as Parquet ({error}); {how_to_mend(label)}"


def how_to_mend(path: str) -> str:
    """Say what to do about a file that is not Parquet."""
    if Path(path).suffix.lower() in {".csv", ".tsv", ".json"}:
        return "docs/data.md shows how to turn CSV into Parquet"
    return "write the file anew"


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


def _written(where: Sequence[Filter]) -> str:
    """Write filters as they stand in the configuration."""
    return "[" + ", ".join(f"[{test[0]}, {test[1]!r}, {test[2]!r}]" for test in where) + "]"

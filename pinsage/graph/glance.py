"""A look at a Parquet table that nobody has described yet: its columns by kind, and samples."""

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pinsage.base.errors import DataError
from pinsage.graph.sources import Source, find_sources
from pinsage.graph.tables import key_texts

_SAMPLE_ROWS = 200_000

_TIMES = re.compile(r"time|date|_at$|^ts$", re.IGNORECASE)
_AMOUNTS = re.compile(r"weight|count|quantity|rating|score|price|amount", re.IGNORECASE)


class Glance:
    """A table's columns by kind, and a sample of its values.

    Attributes:
        path: as it was given.
        schema: of its first file.
        num_rows: of all its files.

    Raises:
        DataError: there is no such file, or it is not Parquet.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._sources = find_sources(path)
        with _opened(self._sources[0]) as first:
            self.schema: pa.Schema = first.schema_arrow
        self.num_rows = sum(_num_rows(source) for source in self._sources)

    def names(self, *kinds: str) -> list[str]:
        """List the columns of some kinds: text, integer, float, bool, time, vector."""
        return [field.name for field in self.schema if _kind(field.type) in kinds]

    def sample(self, column: str, rows: int = _SAMPLE_ROWS) -> pa.ChunkedArray:
        """Read the first rows of a column."""
        with _opened(self._sources[0]) as file:
            batches = file.iter_batches(batch_size=rows, columns=[column])
            first = next(batches, None)
        return pa.chunked_array([first.column(0)] if first is not None else [], self._type(column))

    def texts(self, column: str) -> pa.Array:
        """Read a column of keys, as text."""
        chunks = []
        for source in self._sources:
            with _opened(source) as file:
                chunks += file.read([column]).column(0).chunks
        return key_texts(pa.chunked_array(chunks, self._type(column)).combine_chunks())

    def require(self, column: str, flag: str) -> str:
        """Give a column's name back if there is such a column.

        Raises:
            DataError: there is not; it names the flag that gave it.
        """
        if column not in self.schema.names:
            raise DataError(
                f"{flag}: {self.path} has no column {column!r}; found {listed(self.schema.names)}"
            )
        return column

    def key_like(self) -> list[str]:
        """List the columns that may hold keys: neither times nor amounts by their names."""
        names = self.names("text", "integer")
        return [name for name in names if not _TIMES.search(name) and not _AMOUNTS.search(name)]

    def first_time(self) -> str | None:
        """Find a column of times: one of such a type, or of numbers and named like one."""
        named = [name for name in self.names("integer", "float") if _TIMES.search(name)]
        return next(iter([*self.names("time"), *named]), None)

    def _type(self, column: str) -> pa.DataType:
        return self.schema.field(column).type


def _kind(found: pa.DataType) -> str:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_string(found) or pa.types.is_large_string(found):
        return "text"
    if pa.types.is_integer(found):
        return "integer"
    if pa.types.is_floating(found):
        return "float"
    if pa.types.is_boolean(found):
        return "bool"
    if pa.types.is_timestamp(found) or pa.types.is_date(found):
        return "time"
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
    if (is_list or pa.types.is_fixed_size_list(found)) and pa.types.is_floating(found.value_type):
        return "vector"
    return "other"


def _opened(source: Source) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source.path, filesystem=source.filesystem)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{source.path}: wanted a Parquet file, found something else ({error}); "
            f"{_hint(source.path)}"
        ) from error


def _hint(path: str) -> str:
    if Path(path).suffix.lower() in {".csv", ".tsv", ".json"}:
        return "docs/data.md shows how to turn CSV into Parquet"
    return "look at the file"


def _num_rows(source: Source) -> int:
    with _opened(source) as file:
        return int(file.metadata.num_rows)


def listed(names: Sequence[str]) -> str:
    """Write names for an error."""
    return ", ".join(names) or "none"

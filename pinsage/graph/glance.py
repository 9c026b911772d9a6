"""A look at a Parquet table that nobody has described yet: its columns by kind, and samples."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pinsage.base.errors import DataError
from pinsage.graph.columns import is_uuid, key_texts
from pinsage.graph.sources import Source, find_sources
from pinsage.graph.tables import how_to_mend
from pinsage.graph.times import times_of_texts

_SAMPLE_ROWS = 200_000
_FEW_ROWS = 1_000

_PANDAS_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+")
"""What pandas calls the numbers of rows that it writes beside them."""

_DATE = r"\d.*\d.*\d.*\d"
"""Enough digits for a date in any order and any language, or for seconds since 1970."""
_LATE = 1e8
"""Seconds from 1970 to 1973: no duration is as long."""
_KEY_KINDS = ("text", "integer", "float")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_TIMES = re.compile(r"(?!life)\w*time(stamp)?|(?!birth|candi|man|up|vali)\w*date|ts")
_DURATION = re.compile(
    r"_(play|watch|listen|dwell|wait|run|read|view|screen)(ing)?_?time_"
    r"|_(spent|elapsed|active|session|total|response)_?time_|_time_(spent|elapsed)_|_duration_"
)
"""How long something took, not when it was."""
_DATE_PARTS = {"year", "month", "week", "weekday", "day", "hour", "minute", "second"}
_AMOUNTS = re.compile(r"(?!account)\w*(weight|count|quantity|rating|score|price|amount)s?")


class Glance:
    """A table's columns by kind, and a sample of its values.

    Attributes:
        path: as it was given.
        num_rows: of all its files.

    Raises:
        DataError: there is no such file, or it is not Parquet.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._sources = find_sources(path)
        schemas, sizes = [], []
        for source in self._sources:
            with _opened(source) as file:
                schemas.append(file.schema_arrow)
                sizes.append(int(file.metadata.num_rows))
        self.num_rows = sum(sizes)
        self._schemas: list[pa.Schema] = schemas
        # Files without rows say nothing of types, unless there are no others.
        self._filled = [
            schema for schema, size in zip(schemas, sizes, strict=True) if size
        ] or schemas
        self._kinds = {name: _common_kind(name, self._filled) for name in self.columns}

    @property
    def columns(self) -> list[str]:
        """The columns of the first file with rows, but for the row numbers that pandas writes."""
        return [name for name in self._filled[0].names if not _PANDAS_INDEX.fullmatch(name)]

    def folder_columns(self) -> list[str]:
        """List what folders called `name=value` tell of the files in them; ingest reads files."""
        parts = [part for source in self._sources for part in Path(source.path).parts[:-1]]
        return list(dict.fromkeys(part.partition("=")[0] for part in parts if "=" in part))

    def names(self, *kinds: str) -> list[str]:
        """List the columns that are of some kinds, and of one kind, in all files.

        Kinds: text, integer, float, bool, time, vector, scalar (others that hold one value) and
        other.
        """
        return [name for name, kind in self._kinds.items() if kind in kinds]

    def has_nulls(self, column: str) -> bool:
        """Tell whether the files say that a column, or what is in its lists, has nulls."""
        return any(_counts_nulls(source, column) for source in self._sources)

    def type_of(self, column: str) -> str:
        """Tell a column's type, or types where the files differ."""
        fields = [field for schema in self._schemas for field in schema if field.name == column]
        return " and ".join(dict.fromkeys(str(field.type) for field in fields))

    def with_types(self, columns: Sequence[str]) -> str:
        """Write columns and their types for an error."""
        return listed([f"{name} ({self.type_of(name)})" for name in columns])

    def sample(self, column: str, rows: int = _SAMPLE_ROWS) -> pa.Array:
        """Read the first rows of a column, as text."""
        chunks: list[pa.Array] = []
        for source in self._sources:
            with _opened(source) as file:
                for batch in file.iter_batches(batch_size=rows, columns=[column]):
                    chunks.append(key_texts(batch.column(column)))
                    rows -= len(batch)
                    if rows <= 0:
                        return _together(chunks)
        return _together(chunks)

    def texts(self, column: str) -> pa.Array:
        """Read a column of keys, as text."""
        chunks: list[pa.Array] = []
        for source in self._sources:
            with _opened(source) as file:
                # By its name: the reader takes `a.b` too where it is asked for `a`.
                chunks += map(key_texts, file.read([column])[column].chunks)
        return _together(chunks)

    def require_key(self, column: str, flag: str) -> str:
        """Give a column's name back if there is such a column, and it may hold keys.

        Raises:
            DataError: it may not; it names the flag that gave it.
        """
        return self._require(column, flag, _KEY_KINDS, "text or whole numbers")

    def require_time(self, column: str, flag: str) -> str:
        """Give a column's name back if there is such a column, and it may hold times.

        Raises:
            DataError: it may not; it names the flag that gave it.
        """
        return self._require(column, flag, (*_KEY_KINDS, "time"), "times, numbers or text")

    def _require(self, column: str, flag: str, kinds: Collection[str], wanted: str) -> str:
        known = self._filled[0].names
        if column not in known:
            raise DataError(f"{flag}: {self.path} has no column {column!r}; found {listed(known)}")
        if not all(column in schema.names for schema in self._filled):
            raise DataError(
                f"{flag}: {self.path}: {column!r} is a column of some of its files, not of all; "
                "write them with one schema"
            )
        if _common_kind(column, self._filled) not in kinds:
            raise DataError(
                f"{flag}: {self.path}: {column!r} is {self.type_of(column)}, wanted {wanted} in "
                "every file"
            )
        return column

    def key_like(self, *kinds: str) -> list[str]:
        """List the columns that may hold keys: neither times nor amounts by their names.

        Nor are numbers that are a part of a date; as text, days may be contexts.

        Args:
            kinds: of such kinds; none stands for those that keys can be of, text and integer.
        """
        names = self.names(*(kinds or ("text", "integer")))
        others = (_is_time, _is_amount, _is_birth, self._is_date_part)
        return [name for name in names if not any(tells(name) for tells in others)]

    def _is_date_part(self, name: str) -> bool:
        words = set(_words(name))
        return name in self.names("integer") and words != set() and words <= _DATE_PARTS

    def why_no_key(self, columns: Sequence[str]) -> str:
        """Write why some columns cannot be keys, for an error; empty if there are none."""
        reasons: dict[str, list[str]] = {}
        for name in columns:
            reason = "not of text or whole numbers"
            if any(name not in schema.names for schema in self._filled):
                reason = "not in all files"
            elif " and " in self.type_of(name):
                reason = "not of one type in all files"
            elif _is_time(name) or _is_amount(name) or self._is_date_part(name):
                reason = "times or amounts by their names"
            reasons.setdefault(reason, []).append(name)
        return "".join(f"; {why}: {self.with_types(names)}" for why, names in reasons.items())

    def times(self) -> list[str]:
        """List the columns that may be the rows' time: most often one, or none.

        Those of such a type, else texts of ISO 8601, else numbers named like a time; and of these
        the ones named like a time, if any is.
        """
        texts = (name for name in self.names("text") if _are_iso(self.sample(name, _FEW_ROWS)))
        by_type = [n for n in self.names("time") or list(texts) if not _is_birth(n)]
        numbers = self.names("integer", "float")
        named = [n for n in by_type or numbers if _is_time(n) or self._is_late_duration(n)]
        return named or by_type

    def _is_late_duration(self, name: str) -> bool:
        """Tell of a column named like a duration that holds seconds since 1970, or their parts."""
        if not _is_duration(_words(name)) or name not in self.names("integer", "float"):
            return False
        least = pc.min(self.sample(name, _FEW_ROWS).cast(pa.float64())).as_py()
        return least is not None and least >= _LATE

    @property
    def is_sampled_whole(self) -> bool:
        """Whether a sample of a column has all its rows."""
        return self.num_rows <= _SAMPLE_ROWS

    def weight(self) -> str | None:
        """Find a column called a weight, of numbers above 0."""
        return next(filter(self._are_positive, self._called_weights()), None)

    def odd_weight(self) -> str | None:
        """Find a column called a weight that cannot be one: null, 0 or below in some row."""
        return next((n for n in self._called_weights() if not self._are_positive(n)), None)

    def _called_weights(self) -> list[str]:
        numbers = self.names("integer", "float", "scalar")
        return [name for name in numbers if _words(name) in (["weight"], ["weights"])]

    def _are_positive(self, column: str) -> bool:
        try:
            numbers = self.sample(column, _FEW_ROWS).cast(pa.float64())
        except pa.ArrowInvalid:
            return False
        return not numbers.null_count and bool(pc.all(pc.greater(numbers, 0)).as_py())

    def whole_floats(self) -> list[str]:
        """List the columns of floats that are whole numbers: keys, where pandas knew of nulls."""
        return [name for name in self.names("float") if _are_whole(self.sample(name, _FEW_ROWS))]

    def odd_time(self) -> str | None:
        """Find a column named like a time that cannot be read as one.

        Dates as text but not of ISO 8601, what has another type in every file, and types that are
        neither times nor plain numbers.
        """
        for name in filter(_is_time, self.names("text", "scalar", "other")):
            if name not in self.names("text") or _are_dates(self.sample(name, _FEW_ROWS)):
                return name
        return None


def _common_kind(column: str, schemas: Sequence[pa.Schema]) -> str:
    """Tell a column's kind in all files; `other` if they differ, or one has not just one such."""
    kinds = set()
    for schema in schemas:
        places = schema.get_all_field_indices(column)
        kinds.add(_kind(schema.field(places[0]).type) if len(places) == 1 else "other")
    if len(kinds) > 1:
        # A file whose values are all null says nothing of their type.
        kinds.discard("null")
    return kinds.pop() if len(kinds) == 1 else "other"


def _kind(found: pa.DataType) -> str:
    types = pa.types
    if types.is_dictionary(found):
        found = found.value_type
    if types.is_null(found):
        return "null"
    is_text = types.is_string(found) or types.is_large_string(found)
    if is_text or types.is_string_view(found) or is_uuid(found):
        return "text"
    if types.is_integer(found):
        return "integer"
    if types.is_floating(found):
        return "float"
    if types.is_boolean(found):
        return "bool"
    if types.is_timestamp(found) or types.is_date(found):
        return "time"
    is_list = types.is_list(found) or types.is_large_list(found) or types.is_list_view(found)
    if (is_list or types.is_fixed_size_list(found)) and types.is_floating(found.value_type):
        return "vector"
    return "other" if types.is_nested(found) else "scalar"


def has_word(column: str, word: str) -> bool:
    """Tell whether a word is one of those that a column's name is made of."""
    return word in _words(column)


def _is_time(name: str) -> bool:
    words = _words(name)
    if names_a_key(name) or _is_duration(words) or _is_birth(name):
        return False
    return words[-1:] == ["at"] or any(_TIMES.fullmatch(word) for word in words)


def _is_birth(name: str) -> bool:
    """Tell of a person's time, which is not one of an edge."""
    return any(word.startswith("birth") for word in _words(name))


def _is_duration(words: Sequence[str]) -> bool:
    return _DURATION.search(f"_{'_'.join(words)}_") is not None


def _is_amount(name: str) -> bool:
    words = _words(name)
    if names_a_key(name):
        return False
    return _is_duration(words) or any(_AMOUNTS.fullmatch(word) for word in words)


def names_a_key(column: str) -> bool:
    """Tell whether a column's name says that it holds keys."""
    return _words(column)[-1:] in (["id"], ["key"])


def _are_iso(texts: pa.Array) -> bool:
    """Tell whether most texts are times; ingest reports the rows of the others."""
    seen = texts.filter(pc.not_equal(texts, ""))
    return 2 * times_of_texts(seen).null_count < len(seen)


def _are_whole(texts: pa.Array) -> bool:
    numbers = texts.drop_null().cast(pa.float64())
    numbers = numbers.filter(pc.is_finite(numbers))
    return len(numbers) > 0 and bool(pc.all(pc.equal(numbers, pc.floor(numbers))).as_py())


def _are_dates(texts: pa.Array) -> bool:
    seen = texts.drop_null()
    return len(seen) > 0 and bool(pc.all(pc.match_substring_regex(seen, _DATE)).as_py())


def _words(name: str) -> list[str]:
    """Cut a column's name into words: `boughtAt`, `bought_at` and `BOUGHT AT` are alike."""
    return [word.lower() for word in _WORDS.findall(name)]


def _together(chunks: Sequence[pa.Array]) -> pa.Array:
    return pa.chunked_array(chunks, pa.large_string()).combine_chunks()


@contextmanager
def _opened(source: Source) -> Iterator[pq.ParquetFile]:
    """Open a file, and name it for whatever keeps it from being read.

    Raises:
        DataError: it is no Parquet file, or a damaged one.
    """
    try:
        file = pq.ParquetFile(source.path, filesystem=source.filesystem)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{source.path}: wanted a Parquet file, found something else ({error}); "
            f"{how_to_mend(source.path)}"
        ) from error
    with file:
        try:
            yield file
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{source.path}: cannot be read as Parquet ({error}); write the file anew"
            ) from error


def _counts_nulls(source: Source, column: str) -> bool:
    with _opened(source) as file:
        metadata = file.metadata
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            chunk = group.column(place)
            is_own = chunk.path_in_schema == column or chunk.path_in_schema.startswith(f"{column}.")
            counts = chunk.statistics if is_own else None
            if counts is not None and counts.has_null_count and counts.null_count > 0:
                return True
    return False


def listed(names: Sequence[str]) -> str:
    """Write names for an error."""
    return ", ".join(names) or "none"

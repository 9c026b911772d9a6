"""Filters on metadata: a small, strict language, compiled to one mask over the catalog.

A filter names columns, and every condition on each must hold:

    {"year": {"gte": 1900, "lt": 2000}, "language": ["en", "fr"], "title": {"ne": "Emma"}}

A value stands for `eq`, a list for `in`. The other operators are `ne`, `not_in`, `gt`, `gte`, `lt`,
`lte` and `exists`. An item that has no value in a column (null or NaN) meets no condition on it but
`exists: false`. On a column of lists, the conditions `eq` and `in` hold if any element is among the
values, `ne` and `not_in` if none is. Dates and times are written as ISO 8601.
"""

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

MOST_CONDITIONS = 20
MOST_VALUES = 1000
_CACHED_BYTES = 64 * 2**20
_MOST_CACHED = 256

_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

_COMPARE = {
    "gt": pc.greater,
    "gte": pc.greater_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
}
_MEMBERS = {"eq": True, "in": True, "ne": False, "not_in": False}
"""Operators on membership in a set of values, and whether it must be in it."""

OPERATORS = (*_MEMBERS, *_COMPARE, "exists")

_LONGEST_SHOWN = 60


class FilterError(ValueError):
    """A filter that cannot be used; says where, and what was wanted."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(where, message)
        self.where = where
        self.message = message


@dataclass(frozen=True)
class Condition:
    """One condition on one column.

    Attributes:
        column: its name.
        operator: one of `OPERATORS`.
        values: what to compare with; one value for an ordering, none for `exists`.
        exists: what `exists` wants.
    """

    column: str
    operator: str
    values: tuple[Any, ...] = ()
    exists: bool = True


class Filters:
    """The filters of one catalog."""

    def __init__(self, table: pa.Table) -> None:
        """Take the columns that can be compared with.

        Args:
            table: the catalog's columns, one row an item.
        """
        self._columns = {
            name: column
            for name in table.column_names
            if (column := _plain(table[name])) is not None
        }
        self._only_shown = {
            field.name: str(field.type) for field in table.schema if field.name not in self._columns
        }
        self._num_items = table.num_rows
        cached = _CACHED_BYTES // max(table.num_rows, 1)
        # Not of a method: what an object holds must not hold the object.
        mask = partial(self._mask, self._columns, self._num_items)
        self._cached_mask = lru_cache(maxsize=min(max(cached, 4), _MOST_CACHED))(mask)

    @property
    def columns(self) -> dict[str, str]:
        """What can be filtered on: column to type."""
        return {name: str(column.type) for name, column in self._columns.items()}

    def parse(self, wanted: Mapping[str, Any]) -> tuple[Condition, ...]:
        """Check a filter, and bring its values to the columns' types.

        Args:
            wanted: the filter, as read from JSON.

        Raises:
            FilterError: a column or an operator is unknown, or a value is of the wrong type.
        """
        conditions: list[Condition] = []
        for name, tests in wanted.items():
            kind = self._column(name).type
            for operator, value in _operators(name, tests).items():
                conditions.append(_condition(name, kind, operator, value))
        if len(conditions) > MOST_CONDITIONS:
            raise FilterError("", f"wanted at most {MOST_CONDITIONS} conditions")
        return tuple(conditions)

    def mask(self, conditions: tuple[Condition, ...]) -> Bool[np.ndarray, " items"]:
        """Tell which items meet all conditions; kept for the next time, so it is read-only."""
        return self._cached_mask(conditions)

    def mask_of(
        self, rows: Sequence[Mapping[str, Any]], conditions: tuple[Condition, ...]
    ) -> Bool[np.ndarray, " rows"]:
        """Tell which of some items outside the table meet all conditions.

        Args:
            rows: the values of each, by column, as `value_of` gives them.
            conditions: what `parse` gave.
        """
        mask = np.ones(len(rows), dtype=bool)
        for condition in conditions:
            kind = self._columns[condition.column].type
            column = pa.array([row.get(condition.column) for row in rows], kind)
            mask &= _column_mask(column, condition)
        return mask

    def value_of(self, name: str, value: Any) -> Any:
        """Bring the JSON value of an item outside the table to its column's type.

        Args:
            name: the column.
            value: a value, a list of values or nulls for a column of lists, or null for none.

        Raises:
            FilterError: there is no such column, or the value doesn't fit it.
        """
        column = self._column(name)
        if value is None:
            return None
        if not pa.types.is_list(column.type):
            return _stored_value(name, column.type, value)
        if not isinstance(value, list) or len(value) > MOST_VALUES:
            raise FilterError(
                name, f"wanted a list of at most {MOST_VALUES} values, found {_kind_of(value)}"
            )
        kind = column.type.value_type
        return [None if one is None else _stored_value(name, kind, one) for one in value]

    def _column(self, name: str) -> pa.Array:
        column = self._columns.get(name)
        if column is None:
            known = ", ".join(sorted(self._columns)) or "none"
            kind = self._only_shown.get(name)
            fault = f"{kind} is shown alone, neither filtered nor put" if kind else "no such column"
            raise FilterError(name, f"{fault}; there are: {known}")
        return column

    @staticmethod
    def _mask(
        columns: Mapping[str, pa.Array], num_items: int, conditions: tuple[Condition, ...]
    ) -> Bool[np.ndarray, " items"]:
        mask = np.ones(num_items, dtype=bool)
        for condition in conditions:
            mask &= _column_mask(columns[condition.column], condition)
        mask.flags.writeable = False
        return mask


def read_filter(text: str) -> dict[str, Any]:
    """Read a filter written in a query string.

    Raises:
        FilterError: it is not a JSON object.
    """
    try:
        found = json.loads(text, object_pairs_hook=_once_each)
    except FilterError:
        raise
    except RecursionError as error:
        raise FilterError("", "not JSON that can be read: nested too deep") from error
    except ValueError as error:
        raise FilterError("", f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise FilterError("", f"wanted a JSON object, found {text[:_LONGEST_SHOWN]}")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that stands twice: the reader would keep the last one without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise FilterError("", f"{twice!r} stands twice; put all tests of a column into one object")
    return found


def _operators(name: str, tests: Any) -> dict[str, Any]:
    if isinstance(tests, list):
        return {"in": tests}
    if not isinstance(tests, dict):
        return {"eq": tests}
    unknown = [operator for operator in tests if operator not in OPERATORS]
    if unknown or not tests:
        found = repr(unknown[0]) if unknown else "none"
        raise FilterError(name, f"wanted some of {', '.join(OPERATORS)}; found {found}")
    return tests


def _condition(name: str, kind: pa.DataType, operator: str, value: Any) -> Condition:
    where = f"{name}.{operator}"
    if operator == "exists":
        if not isinstance(value, bool):
            raise FilterError(where, f"wanted true or false, found {_kind_of(value)}")
        return Condition(name, operator, exists=value)
    if operator in {"in", "not_in"}:
        if not isinstance(value, list) or not value:
            told = "an empty one" if value == [] else _kind_of(value)
            raise FilterError(where, f"wanted a list of values, found {told}")
        if len(value) > MOST_VALUES:
            raise FilterError(where, f"wanted at most {MOST_VALUES} values, found {len(value)}")
        found = value
    else:
        found = [value]
    if pa.types.is_list(kind):
        if operator in _COMPARE:
            raise FilterError(where, "a column of lists has no order; use `in` or `not_in`")
        kind = kind.value_type
    return Condition(name, operator, tuple(_read_value(where, kind, one) for one in found))


def _read_value(where: str, kind: pa.DataType, value: Any) -> Any:
    """Bring a JSON value to the type of a column."""
    if pa.types.is_boolean(kind):
        if isinstance(value, bool):
            return value
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Arrow refuses whole numbers that a float can't hold, and rounds fractions.
            return _finite(where, value) if pa.types.is_floating(kind) else _in_range(where, value)
    elif isinstance(value, str):
        text = _storable(where, value)
        return text if pa.types.is_large_string(kind) else _read_time(where, kind, text)
    wanted = "an ISO 8601 text" if pa.types.is_temporal(kind) else _name_of(kind)
    raise FilterError(where, f"wanted {wanted}, found {_kind_of(value)}")


def _finite(where: str, value: float) -> float:
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise FilterError(where, "wanted a finite 64-bit number")
    return found


def _in_range(where: str, value: float) -> float:
    if not -(2**63) < value < 2**63:
        raise FilterError(where, "wanted a number between -2^63 and 2^63")
    return value


def _stored_value(where: str, kind: pa.DataType, value: Any) -> Any:
    """Read a value that must equal what is stored, where a bound need not."""
    found = _read_value(where, kind, value)
    if pa.types.is_integer(kind):
        if found != int(found):
            raise FilterError(where, f"wanted a whole number, found {found}")
        return int(found)
    if pa.types.is_float32(kind) and abs(found) > _LARGEST_FLOAT32:
        raise FilterError(where, f"wanted a number that 32 bits can hold, found {found}")
    return found


def _storable(where: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FilterError(where, "not a Unicode text: half of a surrogate pair") from error
    return text


def _read_time(where: str, kind: pa.DataType, text: str) -> datetime.date | datetime.datetime:
    try:
        if pa.types.is_date(kind):
            return datetime.date.fromisoformat(text)
        found = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise FilterError(where, f"wanted a date or time in ISO 8601: {error}") from error
    # Without a zone, times are taken as UTC, as Arrow takes them.
    if found.tzinfo is None:
        found = found.replace(tzinfo=datetime.UTC)
    try:
        return found.astimezone(datetime.UTC)
    except OverflowError as error:
        raise FilterError(where, "wanted a time between the years 1 and 9999") from error


def _name_of(kind: pa.DataType) -> str:
    return "string" if pa.types.is_large_string(kind) else str(kind)


def _kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}
    return "null" if value is None else names.get(type(value), "a number")


def _plain(column: pa.ChunkedArray) -> pa.Array | None:
    """Bring a column to one of few types; None if it can't be compared with."""
    is_coded = pa.types.is_dictionary(column.type)
    wanted = _plain_type(column.type.value_type if is_coded else column.type)
    if wanted is None:
        return None
    # In the wanted type first: what is put together may be longer than 32 bits can count.
    chunks = [
        chunk.dictionary.cast(wanted, safe=False).take(chunk.indices)
        if is_coded
        else chunk.cast(wanted, safe=False)
        for chunk in column.chunks
    ]
    return pa.concat_arrays([pa.array([], wanted), *chunks])


def _plain_type(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _plain_type(kind.value_type)
        is_flat = inner is not None and not pa.types.is_list(inner)
        return pa.list_(inner) if is_flat else None
    if pa.types.is_boolean(kind):
        return pa.bool_()
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return pa.int64()
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        # As 32-bit numbers, so that 4.34 is the 4.34 that an answer shows.
        return pa.float32()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or kind == pa.uint64():
        return pa.float64()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # There may be more than the 2 GiB of text that 32-bit places can hold.
        return pa.large_string()
    if pa.types.is_date(kind):
        return pa.date32()
    return pa.timestamp("us", tz="UTC") if pa.types.is_timestamp(kind) else None


def _column_mask(column: pa.Array, condition: Condition) -> Bool[np.ndarray, " items"]:
    is_there = column.is_valid()
    if pa.types.is_floating(column.type):
        is_there = pc.and_(is_there, pc.invert(pc.fill_null(pc.is_nan(column), fill_value=False)))
    present = np.asarray(is_there.to_numpy(zero_copy_only=False))
    if condition.operator == "exists":
        return present if condition.exists else ~present
    if condition.operator in _COMPARE:
        value = _bound(condition.operator, condition.values[0], column.type)
        holds = pc.fill_null(_COMPARE[condition.operator](column, value), fill_value=False)
        return present & holds.to_numpy(zero_copy_only=False)
    if pa.types.is_list(column.type):
        among = _any_element(column, condition.values)
    else:
        among = _is_among(column, condition.values)
    return present & (among if _MEMBERS[condition.operator] else ~among)


def _is_among(column: pa.Array, values: tuple[Any, ...]) -> Bool[np.ndarray, " rows"]:
    if pa.types.is_integer(column.type):
        # A fraction equals no whole number, and 2.0 equals 2.
        values = tuple(int(value) for value in values if value == int(value))
    elif pa.types.is_floating(column.type) and 0.0 in values:
        # Arrow tells the two zeros apart, which nobody asks for.
        values = (*values, 0.0, -0.0)
    wanted = pa.array(list(values), column.type)
    return np.asarray(pc.is_in(column, wanted).to_numpy(zero_copy_only=False))


def _any_element(column: pa.Array, values: tuple[Any, ...]) -> Bool[np.ndarray, " rows"]:
    rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    among = np.zeros(len(column), dtype=bool)
    among[rows[_is_among(column.flatten(), values)]] = True
    return among


def _bound(operator: str, value: Any, kind: pa.DataType) -> pa.Scalar:
    """Bring the bound of an ordering to a column's type without changing what it means."""
    if pa.types.is_integer(kind):
        value = math.floor(value) if operator in {"gt", "lte"} else math.ceil(value)
    return pa.scalar(value, kind)

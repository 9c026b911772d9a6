"""Columns of input tables: what each is for, and the type that makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from pinsage.graph.findings import Findings
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


def distinct_columns(wanted: Sequence[Wanted]) -> dict[str, Wanted]:
    """Give the columns to read; one named twice gets the first kind asked for."""
    columns: dict[str, Wanted] = {}
    for one in wanted:
        columns.setdefault(one.column, one)
    return columns


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


def unfit(label: str, wanted: Wanted, found: pa.DataType) -> str | None:
    """Say why a column of some type cannot be of its kind; None where it can."""
    if target_type(found, wanted.kind) is not None:
        return None
    return f"{_found(label, wanted, found)} for {wanted.setting}; {_type_hint(wanted.kind)}"


def in_its_type(
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


def found_is_text(found: pa.DataType) -> bool:
    """Tell whether a column holds text, each value by itself or as a category."""
    types = pa.types
    value = found.value_type if types.is_dictionary(found) else found
    return types.is_string(value) or types.is_large_string(value) or types.is_string_view(value)


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


def null_rows(column: pa.Array) -> Bool[np.ndarray, " rows"]:
    """Mark rows whose key or text is null or empty."""
    bad = column.is_null()
    if pa.types.is_large_string(column.type):
        bad = pc.or_(bad, pc.fill_null(pc.equal(column, ""), False))  # noqa: FBT003
    return bad.to_numpy(zero_copy_only=False)


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


def _found(label: str, wanted: Wanted, found: pa.DataType) -> str:
    return f"{label}: {wanted.column!r} is {found}, wanted {wanted.kind.value}"


def _fit_hint(found: pa.DataType, kind: Kind) -> str:
    if kind is Kind.TIME:
        return "mend these rows"
    if pa.types.is_floating(found):
        return "write keys as integers or strings"
    return "store it as a string, or smaller"


def _type_hint(kind: Kind) -> str:
    if kind is Kind.TIME:
        return "parse it to a timestamp before ingest"
    return "cast it before ingest"

"""What people see of items: keys, titles, pictures and other metadata, by item id."""

import datetime
import decimal
import math
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pinsage.graph.schema import ITEM_KEY

TITLE_NOTE = b"pinsage.title"
IMAGE_NOTE = b"pinsage.image"
"""Notes in the schema of `items.parquet` that say which column is the title and the image."""


class Catalog:
    """The key table of a graph, in memory; item id = row."""

    def __init__(self, table: pa.Table) -> None:
        notes = table.schema.metadata or {}
        self._table = table.combine_chunks()
        self._title_column = notes.get(TITLE_NOTE, b"").decode()
        self._image_column = notes.get(IMAGE_NOTE, b"").decode()
        self._metadata_columns = [name for name in table.column_names if name != ITEM_KEY]

    @classmethod
    def open(cls, path: Path) -> "Catalog":
        """Read a published `items.parquet`."""
        return cls(pq.read_table(path))

    def __len__(self) -> int:
        return self._table.num_rows

    @property
    def title_column(self) -> str:
        """Which column is the title; empty if none is."""
        return self._title_column

    @property
    def image_column(self) -> str:
        """Which column says where the picture is; empty if none does."""
        return self._image_column

    @property
    def own_columns(self) -> set[str]:
        """The columns of title and picture, which answers tell under names of their own."""
        return {self._title_column, self._image_column}

    @property
    def table(self) -> pa.Table:
        """Every column, one row an item, in id order."""
        return self._table

    @cached_property
    def keys(self) -> list[str]:
        """Every item's key as text, by item id."""
        return self._table[ITEM_KEY].cast(pa.large_string()).to_pylist()

    @cached_property
    def titles(self) -> list[str]:
        """Every item's title, by item id; the key where there is none, or only blanks."""
        if not self._title_column:
            return self.keys
        texts = self._table[self._title_column].cast(pa.large_string()).to_pylist()
        return [
            title if title and not title.isspace() else key
            for title, key in zip(texts, self.keys, strict=True)
        ]

    def id_of(self, key: str) -> int | None:
        """Find the id of a key given as text; None if there is no such item."""
        return self._ids.get(key)

    def title(self, item_id: int) -> str:
        """Tell an item's title, or its key if it has none."""
        return self.titles[_checked(item_id, len(self))]

    def image(self, item_id: int) -> str | None:
        """Tell the URL of an item's picture, if there is one."""
        if not self._image_column:
            return None
        value = self._table[self._image_column][_checked(item_id, len(self))].as_py()
        return str(value) if value else None

    def metadata(self, item_id: int) -> dict[str, object]:
        """Give an item's metadata as JSON can hold it: dates as ISO text, NaN as None."""
        row = _checked(item_id, len(self))
        return {name: _json_value(self._table[name][row]) for name in self._metadata_columns}

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {key: item_id for item_id, key in enumerate(self.keys)}


def _checked(item_id: int, num_items: int) -> int:
    """Refuse the negative ids that Python would count from the end."""
    if not 0 <= item_id < num_items:
        raise ValueError(f"wanted an item id from 0 to {num_items - 1}, found {item_id}")
    return int(item_id)


def _json_value(scalar: pa.Scalar) -> object:
    try:
        value = scalar.as_py()
    except (OverflowError, ValueError):
        # Python has no time beyond the year 9999, so it is shown as missing.
        return None
    if isinstance(value, float) and pa.types.is_float32(scalar.type):
        # The shortest text of the 32-bit number: 4.34, not 4.340000152587891.
        value = float(str(np.float32(value)))
    return _plain(value)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | decimal.Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):  # a map is a list of pairs
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    return str(value)

"""Reading the items table: keys, metadata and content features, checked."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Float32, Int64

from pinsage.base.errors import DataError
from pinsage.graph.catalog import IMAGE_NOTE, TITLE_NOTE
from pinsage.graph.columns import Kind, Wanted, null_rows
from pinsage.graph.findings import Findings
from pinsage.graph.schema import ITEM_KEY, FeatureConfig, ItemsConfig
from pinsage.graph.sources import find_sources, load_npy
from pinsage.graph.tables import Table, read_table

_CHECK_ROWS = 65_536
"""How many feature rows are checked or copied at a time; bounds the memory of a float32 copy."""


@dataclass(frozen=True)
class FeatureGroup:
    """Content features of one name, as they came: one row a row of the items table."""

    name: str
    values: Float[np.ndarray, "table_rows width"]
    missing_are_zeros: bool = False
    """Whether a row without any number stands for zeros."""
    uneven: Bool[np.ndarray, " table_rows"] | None = None
    """Rows that came in another width than most, whose values are NaN; None if there are none."""

    def rows(self, chosen: Int64[np.ndarray, " n"] | slice) -> Float32[np.ndarray, "n width"]:
        """Copy some rows as what is kept; what float32 cannot hold becomes infinite."""
        with np.errstate(over="ignore"):
            rows = self.values[chosen].astype(np.float32)
        if self.missing_are_zeros:
            rows[np.isnan(rows).all(axis=1)] = 0.0
        return rows

    @property
    def width(self) -> int:
        """How many numbers an item has in this group."""
        return int(self.values.shape[1])


@dataclass(frozen=True)
class Items:
    """The items table; item id i is row `rows[i]` of it."""

    keys: pa.Array
    """int64 or large_string, by item id."""
    metadata: pa.Table
    """`item_key` and the metadata columns, by item id."""
    rows: Int64[np.ndarray, " items"]
    groups: tuple[FeatureGroup, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def reordered(self, ids: Int64[np.ndarray, " items"]) -> "Items":
        """Give the items of these ids, in this order; each once."""
        order = pa.array(ids)
        return Items(self.keys.take(order), self.metadata.take(order), self.rows[ids], self.groups)

    def content(self, item_ids: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n content_width"]:
        """Copy the content features of some items, all groups side by side."""
        wanted = self.rows[item_ids]
        columns = [np.empty((len(wanted), 0), np.float32)]
        columns += [group.rows(wanted) for group in self.groups]
        return np.concatenate(columns, axis=1)


def read_items(config: ItemsConfig, findings: Findings) -> Items | None:
    """Read and check the items table and its feature files.

    Returns:
        The items, bad rows left out; None if the table cannot be used, and then there is a finding.
    """
    table = read_table("items", config.path, _wanted(config), findings)
    loaded = [
        _load_group(group, position, config, table, findings)
        for position, group in enumerate(config.features)
    ]
    if table is None:
        return None
    if ITEM_KEY in (config.title, config.image, *config.metadata) and config.key != ITEM_KEY:
        findings.add(
            f"{config.path}: {ITEM_KEY!r} cannot be a metadata column, because the key "
            f"({config.key!r}) gets that name; rename the column"
        )
    groups = tuple(group for group in loaded if group is not None)
    keys = table.column(config.key)
    good = _good_keys(table, config.key, findings)
    for group, settings in zip(loaded, config.features, strict=True):
        if group is not None:
            bad = _uneven_features(table, group, settings, good, keys, findings)
            bad |= _bad_features(table, group, settings, good & ~bad, keys, findings)
            # Unless it is dropped, the item is known: its edges and pairs are not at fault.
            good &= ~(bad & findings.drop_rows)
    rows = np.flatnonzero(good)
    if len(rows) == 0 and not findings.exist:
        findings.add(f"{config.path}: no usable item is left; mend the rows reported above")
        return None
    keys = keys.take(pa.array(rows))
    return Items(keys, _metadata(table, config, keys, rows), rows, groups)


def _wanted(config: ItemsConfig) -> list[Wanted]:
    wanted = [Wanted(config.key, Kind.KEY, "data.items.key")]
    if config.title is not None:
        wanted.append(Wanted(config.title, Kind.TEXT, "data.items.title"))
    if config.image is not None:
        wanted.append(Wanted(config.image, Kind.TEXT, "data.items.image"))
    wanted += [Wanted(column, Kind.ANY, "data.items.metadata") for column in config.metadata]
    wanted += [
        Wanted(group.column, Kind.ANY, f"data.items.features.{position}.column")
        for position, group in enumerate(config.features)
        if group.column is not None
    ]
    return wanted


def _good_keys(table: Table, column: str, findings: Findings) -> Bool[np.ndarray, " rows"]:
    keys = table.column(column)
    empty = null_rows(keys)
    findings.bad_rows(
        table.place,
        column,
        empty,
        reason="null_key",
        what="is null or empty",
        fix="give every item a key",
    )
    firsts = pc.index_in(keys, value_set=pc.unique(keys)).to_numpy(zero_copy_only=False)
    _, first_rows = np.unique(firsts, return_index=True)
    repeated = np.ones(len(table), bool)
    repeated[first_rows] = False
    repeated &= ~empty
    findings.bad_rows(
        table.place,
        column,
        repeated,
        reason="duplicate_key",
        what="repeats the key of an earlier row",
        fix="keep one row for each item",
        values=keys,
    )
    return ~(empty | repeated)


def _load_group(
    group: FeatureConfig,
    position: int,
    config: ItemsConfig,
    table: Table | None,
    findings: Findings,
) -> FeatureGroup | None:
    if group.column is not None:
        if table is None:
            return None
        return _from_column(table, group, findings)
    values = _from_npy(str(group.npy), findings)
    if values is not None and table is not None and len(values) != len(table):
        findings.add(
            f"{group.npy}: {len(values)} rows, wanted {len(table)} as in {config.path} "
            f"(data.items.features.{position}); write one feature row for every row of the "
            "items table, in its order"
        )
        return None
    return None if values is None else FeatureGroup(group.name, values, group.missing == "zeros")


def _from_npy(path: str, findings: Findings) -> Float[np.ndarray, "rows width"] | None:
    try:
        sources = find_sources(path)
        values = load_npy(sources[0])
    except DataError as error:
        findings.add(str(error))
        return None
    except (OSError, ValueError) as error:
        findings.add(f"{path}: cannot be read as an .npy file ({error}); write it with numpy.save")
        return None
    if values.ndim != 2 or values.dtype.kind != "f" or values.shape[1] == 0:
        findings.add(
            f"{path}: {values.dtype} of shape {values.shape}, wanted floats of shape "
            "(items, width); write it anew with numpy.save"
        )
        return None
    return values


def _from_column(table: Table, group: FeatureConfig, findings: Findings) -> FeatureGroup | None:
    """Turn lists of one width to rows; a null list or number becomes NaN."""
    name, column, zeros = group.name, str(group.column), group.missing == "zeros"
    lists = table.column(column)
    label = table.place.label
    types = pa.types
    if types.is_floating(lists.type):
        return FeatureGroup(name, _numbers(lists)[:, None], zeros)
    is_list = (
        types.is_fixed_size_list(lists.type)
        or types.is_list(lists.type)
        or types.is_large_list(lists.type)
    )
    if not is_list or not types.is_floating(lists.type.value_type):
        findings.add(
            f"{label}: {column!r} is {lists.type}, wanted lists of float16, float32 or float64; "
            "cast it before ingest"
        )
        return None
    widths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    # An empty list is how some write that there is none.
    present = ~lists.is_null().to_numpy(zero_copy_only=False) & (widths > 0)
    width = int(np.bincount(widths[present]).argmax()) if present.any() else 0
    if width == 0:
        findings.add(f"{label}: {column!r} holds no numbers; leave the feature group out")
        return None
    uneven = present & (widths != width)
    present &= ~uneven
    if present.all():
        return FeatureGroup(name, _numbers(lists.flatten()).reshape(len(lists), width), zeros)
    numbers = _numbers(lists.filter(pa.array(present)).flatten())
    values = np.full((len(lists), width), np.nan, numbers.dtype)
    values[present] = numbers.reshape(-1, width)
    return FeatureGroup(name, values, zeros, uneven if uneven.any() else None)


def _numbers(array: pa.Array) -> Float[np.ndarray, " n"]:
    """Give numbers as they are stored; a null becomes NaN."""
    return array.to_numpy(zero_copy_only=False)


def _uneven_features(
    table: Table,
    group: FeatureGroup,
    settings: FeatureConfig,
    good: Bool[np.ndarray, " rows"],
    keys: pa.Array,
    findings: Findings,
) -> Bool[np.ndarray, " rows"]:
    """Mark rows, of those still good, that are wider or narrower than most."""
    if group.uneven is None:
        return np.zeros(len(table), bool)
    uneven = group.uneven & good
    findings.bad_rows(
        table.place,
        str(settings.column),
        uneven,
        reason="uneven_features",
        what=f"is not {group.width} wide, as most rows are,",
        fix="write lists of one width",
        values=keys,
    )
    return uneven


def _bad_features(
    table: Table,
    group: FeatureGroup,
    settings: FeatureConfig,
    good: Bool[np.ndarray, " rows"],
    keys: pa.Array,
    findings: Findings,
) -> Bool[np.ndarray, " rows"]:
    """Mark rows, of those still good, with a number that cannot be used."""
    bad = np.zeros(len(table), bool)
    for start in range(0, len(table), _CHECK_ROWS):
        chunk = slice(start, start + _CHECK_ROWS)
        bad[chunk] = ~np.isfinite(group.rows(chunk)).all(axis=1)
    bad &= good
    hint = "" if group.missing_are_zeros else ", or set missing: zeros for items that have none"
    findings.bad_rows(
        table.place,
        settings.column or str(settings.npy),
        bad,
        reason="bad_features",
        what="holds a null, NaN, infinite or too large number",
        fix=f"fill in numbers below 3.4e38{hint}",
        values=keys,
    )
    return bad


def _metadata(
    table: Table, config: ItemsConfig, keys: pa.Array, rows: Int64[np.ndarray, " items"]
) -> pa.Table:
    """Put the key and the columns for people together, with notes on which are which."""
    shown = [config.title, config.image, *config.metadata]
    # A dict, because it keeps the order and one of each.
    names = dict.fromkeys(name for name in shown if name is not None and name != ITEM_KEY)
    taken = table.data.select(list(names)).take(pa.array(rows))
    columns = {ITEM_KEY: keys} | {name: taken[name] for name in names}
    notes = {TITLE_NOTE: config.title or "", IMAGE_NOTE: config.image or ""}
    return pa.table(columns).replace_schema_metadata(notes)

"""From tables to a `DataConfig`: which column is what, by their types, values and names.

What the tables do not decide is asked for, not guessed.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pinsage.base.errors import DataError
from pinsage.graph.glance import Glance, listed
from pinsage.graph.schema import (
    SPLITS,
    DataConfig,
    EdgesConfig,
    FeatureConfig,
    ItemsConfig,
    PairsConfig,
)
from pinsage.graph.tables import key_texts

_FEW_ROWS = 1_000
_LONG_TEXT = 200
_MOST_METADATA = 12

_TITLES = ("title", "name", "label")
_IMAGES = ("image_url", "image", "picture", "thumbnail", "cover")


@dataclass(frozen=True)
class Told:
    """What the user says of columns; None is to be found out.

    Attributes:
        key: of the items table, the unique key.
        item: of the edges table, the item's key.
        context: of the edges table, the context's key.
        timestamp: of the edges table, the time.
        npy: feature group to its .npy file.
    """

    key: str | None = None
    item: str | None = None
    context: str | None = None
    timestamp: str | None = None
    npy: dict[str, str] | None = None


@dataclass(frozen=True)
class Guess:
    """What the tables are, and how large.

    Attributes:
        data: the tables' description.
        num_items: rows of the items table.
        num_edges: rows of the edges table.
        num_pairs: rows of the pairs table; None if there is none.
    """

    data: DataConfig
    num_items: int
    num_edges: int
    num_pairs: int | None


def guess_tables(items: str, edges: str, pairs: str | None, told: Told) -> Guess:
    """Look at the tables and tell what their columns are.

    Args:
        items: path of the items table: file, folder, glob or address.
        edges: path of the edges table.
        pairs: path of the pairs table, if there is one.
        told: what need not be found out.

    Raises:
        DataError: a table cannot be read, or does not decide what a column is; it says which
            columns there are, and the flag that tells.
    """
    items_table, edges_table = Glance(items), Glance(edges)
    key, item = _matching_keys(items_table, edges_table, told)
    timestamp = (
        edges_table.require(told.timestamp, "--timestamp")
        if told.timestamp
        else edges_table.first_time()
    )
    context = (
        edges_table.require(told.context, "--context")
        if told.context
        else _context(edges_table, {item, timestamp})
    )
    keys = pc.unique(items_table.texts(key))
    described = pairs and _pairs(Glance(pairs), keys, by_time=timestamp is not None)
    return Guess(
        data=DataConfig(
            items=_items(items_table, key, told.npy or {}),
            edges=(EdgesConfig(path=edges, item=item, context=context, timestamp=timestamp),),
            pairs=described or None,
        ),
        num_items=items_table.num_rows,
        num_edges=edges_table.num_rows,
        num_pairs=Glance(pairs).num_rows if pairs else None,
    )


def _matching_keys(items: Glance, edges: Glance, told: Told) -> tuple[str, str]:
    """Find the items' key, and the edges' column that has those keys."""
    keys = [items.require(told.key, "--key")] if told.key else items.names("text", "integer")
    columns = [edges.require(told.item, "--item")] if told.item else edges.key_like()
    best: list[tuple[float, str, str]] = []
    for key in keys:
        values = items.texts(key)
        if values.null_count or len(pc.unique(values)) < len(values):
            continue
        for column in columns:
            share = _share_of(key_texts(edges.sample(column).combine_chunks()), values)
            # Where several fit, equal names decide.
            best.append((share + (key == column), key, column))
    best.sort(reverse=True)
    if not best or (best[0][0] % 1 == 0 and best[0][0] < 1):
        raise DataError(
            f"no column of {edges.path} ({listed(columns)}) has the unique keys of {items.path} "
            f"({listed(keys)}); say with --key and --item which they are"
        )
    if len(best) > 1 and best[0][0] == best[1][0]:
        fitting = [f"--key {k} --item {c}" for share, k, c in best if share == best[0][0]]
        raise DataError(
            f"several columns of {edges.path} could be the items of {items.path}; say which with "
            f"one of: {' | '.join(fitting)}"
        )
    return best[0][1:]


def _context(edges: Glance, taken: Iterable[str | None]) -> str:
    left = [name for name in edges.key_like() if name not in taken]
    if len(left) != 1:
        raise DataError(
            f"{edges.path}: wanted one column that says which context (user, basket, board) an "
            f"item was in, found {listed(left)}; say with --context which it is"
        )
    return left[0]


def _items(table: Glance, key: str, npy: dict[str, str]) -> ItemsConfig:
    features = [
        FeatureConfig(name=_group_name(name), column=name) for name in table.names("vector")
    ]
    features += [FeatureConfig(name=name, npy=path) for name, path in npy.items()]
    texts = table.names("text")
    return ItemsConfig(
        path=table.path,
        key=key,
        title=_first_named(texts, _TITLES),
        image=_first_named(texts, _IMAGES),
        metadata=tuple(_metadata(table, key)),
        features=tuple(features),
    )


def _metadata(table: Glance, key: str) -> list[str]:
    """Choose columns to keep beside the graph: short ones."""
    shown = [name for name in table.names("text", "integer", "float", "bool") if name != key]
    return [name for name in shown if not _is_long(table, name)][:_MOST_METADATA]


def _is_long(table: Glance, column: str) -> bool:
    if column not in table.names("text"):
        return False
    length = pc.mean(pc.utf8_length(key_texts(table.sample(column, _FEW_ROWS).combine_chunks())))
    return (length.as_py() or 0) > _LONG_TEXT


def _pairs(table: Glance, keys: pa.Array, *, by_time: bool) -> PairsConfig:
    """Find the two columns of item keys, and what splits the pairs.

    Where edges have times too, time does: then no edge from after the cut stays in the graph.
    """
    split = next((name for name in table.names("text") if _is_split(table, name)), None)
    sides = [
        name
        for name in table.names("text", "integer")
        if name != split
        and _share_of(key_texts(table.sample(name, _FEW_ROWS).combine_chunks()), keys) > 0
    ]
    named = {side: _first_named(sides, (side,)) for side in ("query", "positive")}
    query, positive = named["query"], named["positive"]
    if query is None or positive is None:
        if len(sides) != 2:
            raise DataError(
                f"{table.path}: wanted two columns with the items' keys, found {listed(sides)}; "
                "name them query_item and positive_item"
            )
        query, positive = sides
    timestamp = table.first_time() if by_time or split is None else None
    return PairsConfig(
        path=table.path,
        query=query,
        positive=positive,
        split=split if timestamp is None else None,
        timestamp=timestamp,
    )


def _is_split(table: Glance, column: str) -> bool:
    values = set(pc.unique(table.sample(column)).to_pylist())
    return bool(values) and values <= set(SPLITS)


def _first_named(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """Find the column that is called one of some names, else whose name begins with one."""
    for name in names:
        for fits in (str.__eq__, str.startswith):
            for column in columns:
                if fits(column.lower(), name):
                    return column
    return None


def _share_of(values: pa.Array, keys: pa.Array) -> float:
    """Tell which share of values are keys."""
    return float(pc.mean(pc.is_in(values, keys).cast(pa.float64())).as_py() or 0.0)


def _group_name(column: str) -> str:
    return re.sub(r"\W+", "_", column, flags=re.ASCII)

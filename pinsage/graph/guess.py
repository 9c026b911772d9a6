"""From tables to a `DataConfig`: which column is what, by their types, values and names.

What the tables do not decide is asked for, not guessed.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pinsage.base.errors import DataError
from pinsage.graph.glance import Glance, has_word, listed, names_a_key
from pinsage.graph.guess_keys import is_text, matching_keys, repeats
from pinsage.graph.schema import (
    ITEM_KEY,
    SPLITS,
    TAKEN_GROUP_NAMES,
    DataConfig,
    EdgesConfig,
    FeatureConfig,
    ItemsConfig,
    PairsConfig,
    SplitConfig,
)
from pinsage.graph.sources import find_sources, load_npy
from pinsage.graph.spellings import share_of
from pinsage.graph.tables import no_rows

_FEW_ROWS = 1_000
_FEWEST_CONTEXTS = 20
_LONG_TEXT = 200
_MOST_METADATA = 12
_SHOWN = 5

_SPLIT_WORDS = {
    "train", "training", "valid", "validation", "val", "dev", "eval", "evaluation", "test",
    "testing", "holdout",
}  # fmt: skip
_TITLES = ("title", "name", "label")
_IMAGES = ("image_url", "image", "picture", "thumbnail", "cover", "poster", "img")


@dataclass(frozen=True)
class Told:
    """What the user says of columns; None is to be found out.

    Attributes:
        key: of the items table, the unique key.
        item: of the edges table, the item's key.
        context: of the edges table, the context's key.
        timestamp: of the edges table, the time; empty if there is none.
        pairs_timestamp: of the pairs table, likewise.
        npy: feature group to its .npy file.
    """

    key: str | None = None
    item: str | None = None
    context: str | None = None
    timestamp: str | None = None
    pairs_timestamp: str | None = None
    npy: dict[str, str] | None = None


@dataclass(frozen=True)
class Guess:
    """What the tables are, and how large.

    Attributes:
        data: the tables' description.
        num_items: rows of the items table.
        num_edges: rows of the edges table.
        num_pairs: rows of the pairs table; None if there is none.
        has_shared_contexts: a context has more than one edge, as far as was looked.
        is_seen_whole: all edges were looked at.
        unused: a text for every table that has columns which are not used, naming them.
    """

    data: DataConfig
    num_items: int
    num_edges: int
    num_pairs: int | None
    has_shared_contexts: bool = True
    is_seen_whole: bool = True
    unused: tuple[str, ...] = ()


class _Asked(NamedTuple):
    """A time that is asked for."""

    flag: str
    meaning: str


_EDGE_TIME = _Asked(
    "--timestamp", "when an item came into its context: pairs are made and split by it"
)
_PAIR_TIME = _Asked("--pairs-timestamp", "when a pair came about: pairs are split by it")


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
    items_table, edges_table = _filled(items), _filled(edges)
    pairs_table = _filled(pairs) if pairs else None
    key, item = matching_keys(items_table, edges_table, told.key, told.item)
    timestamp = _timestamp(edges_table, _EDGE_TIME, told.timestamp, {item, told.context})
    context = (
        edges_table.require_key(told.context, "--context")
        if told.context
        else _context(edges_table, (item, timestamp))
    )
    keys = pc.unique(items_table.texts(key))
    described = pairs_table and _pairs(
        pairs_table, keys, told.pairs_timestamp, by_time=timestamp is not None
    )
    has_shared_contexts = repeats(edges_table.sample(context))
    if pairs is None and not has_shared_contexts and edges_table.is_sampled_whole:
        raise DataError(
            f"{edges}: every {context!r} has one edge, so nothing says which items go together; "
            "say with --context which column does, or give --pairs"
        )
    weight = edges_table.weight()
    data = DataConfig(
        items=_items(items_table, key, told.npy or {}),
        edges=(
            EdgesConfig(path=edges, item=item, context=context, timestamp=timestamp, weight=weight),
        ),
        pairs=described,
        split=_shares(edges_table, context, by_context=timestamp is None and pairs is None),
    )
    unused = [
        _unused(items_table, _used_of_items(data.items)),
        _unused(edges_table, {item, context, timestamp, weight}) + _why_no_weight(edges_table),
    ]
    if pairs_table and described:
        used = {described.query, described.positive, described.split, described.timestamp}
        unused.append(_unused(pairs_table, used))
    return Guess(
        data=data,
        num_items=items_table.num_rows,
        num_edges=edges_table.num_rows,
        num_pairs=pairs_table.num_rows if pairs_table else None,
        has_shared_contexts=has_shared_contexts,
        is_seen_whole=edges_table.is_sampled_whole,
        unused=tuple(text for text in unused if text),
    )


def _shares(edges: Glance, context: str, *, by_context: bool) -> SplitConfig:
    """Hold nothing out where that would be whole contexts, and there are very few."""
    is_few = by_context and edges.is_sampled_whole
    if is_few and len(pc.unique(edges.sample(context))) < _FEWEST_CONTEXTS:
        return SplitConfig(valid=0.0, test=0.0)
    return SplitConfig()


def _used_of_items(config: ItemsConfig) -> set[str | None]:
    vectors = {group.column for group in config.features}
    return {config.key, config.title, config.image, *config.metadata, *vectors}


def _unused(table: Glance, used: Collection[str | None]) -> str:
    """Name the columns that are not used, with their types; empty if there are none."""
    left = [name for name in table.columns if name not in used]
    more = ", ..." if len(left) > _MOST_METADATA else ""
    return f"{table.path}: {table.with_types(left[:_MOST_METADATA])}{more}" if left else ""


def _why_no_weight(edges: Glance) -> str:
    odd = edges.odd_weight()
    return f"; {odd} is no weight, since not every row has a number above 0" if odd else ""


def _filled(path: str) -> Glance:
    table = Glance(path)
    if table.num_rows == 0:
        raise DataError(no_rows(path, ()))
    return table


def _timestamp(
    table: Glance, asked: _Asked, told: str | None, taken: Collection[str | None] = ()
) -> str | None:
    """Find a table's time; refuse one that is written as text, lest the split go without it."""
    if told is not None:
        return table.require_time(told, asked.flag) if told else None
    times = table.times()
    # Days may be contexts.
    left = [name for name in times if name not in taken]
    if len(left) > 1:
        raise DataError(
            f"{table.path}: {listed(left)} hold times, wanted one that says {asked.meaning}; say "
            f"with {asked.flag} which it is, or give {asked.flag} '' to split without times"
        )
    odd = table.odd_time() if not times else None
    if odd is not None:
        kind = "text" if odd in table.names("text") else table.type_of(odd)
        raise DataError(
            f"{table.path}: {odd!r} holds times as {kind}, wanted timestamps, numbers or "
            "ISO 8601 (2024-05-01 09:30), the same in all files, so that pairs can be split by "
            f"time; parse it to a timestamp, or give {asked.flag} '' to split without times"
        )
    return next(iter(left), None)


def _context(edges: Glance, taken: Sequence[str | None]) -> str:
    left = [name for name in edges.key_like() if name not in taken]
    if len(left) > 1:
        # Numbers of the edges' own rows, or contexts of one edge each, say nothing.
        left = [name for name in left if repeats(edges.sample(name))] or left
    if len(left) != 1:
        others = [name for name in edges.columns if name not in {*left, *taken}]
        hint = edges.why_no_key(others)
        if edges.folder_columns():
            folders = listed(edges.folder_columns())
            hint += f"; told by names of folders, not by columns in the files: {folders}"
        raise DataError(
            f"{edges.path}: wanted one column that says which context (user, basket, board) an "
            f"item was in, beside {listed([name for name in taken if name])}, found "
            f"{listed(left)}; say with --context which it is{hint}"
        )
    odd = [n for n in edges.key_like("float", "scalar") if n not in taken and names_a_key(n)]
    if odd and not names_a_key(left[0]):
        raise DataError(
            f"{edges.path}: named like a context's key, but not of text or whole numbers: "
            f"{edges.with_types(odd)}; cast it (pandas turns integers to floats where some are "
            f"missing: use Int64), or say with --context that it is {left[0]!r}"
        )
    return left[0]


def _items(table: Glance, key: str, npy: dict[str, str]) -> ItemsConfig:
    names = _group_names(table.names("vector"), npy)
    features = [
        FeatureConfig(
            name=name, column=column, missing="zeros" if table.has_nulls(column) else "refuse"
        )
        for column, name in names.items()
    ]
    for name, path in npy.items():
        _require_rows(name, path, table)
        features.append(FeatureConfig(name=name, npy=path))
    texts = table.names("text")
    return ItemsConfig(
        path=table.path,
        key=key,
        title=_first_named(texts, _TITLES),
        image=_first_named(texts, _IMAGES),
        metadata=tuple(_metadata(table, key)),
        features=tuple(features),
    )


def _require_rows(name: str, path: str, table: Glance) -> None:
    """Refuse an .npy file that has not a row of numbers for every item; addresses are believed."""
    (source, *_) = find_sources(path)
    if not source.is_local:
        return
    try:
        values = load_npy(source)
    except (OSError, ValueError) as error:
        raise DataError(
            f"--npy {name}={path}: cannot be read as an .npy file ({error}); write it with "
            "numpy.save"
        ) from error
    fits = values.ndim == 2 and values.dtype.kind == "f" and len(values) == table.num_rows
    if not fits or not values.shape[1]:
        raise DataError(
            f"--npy {name}={path}: {values.dtype} of shape {values.shape}, wanted floats of shape "
            f"({table.num_rows}, width), a row for every row of {table.path}, in its order"
        )


def _metadata(table: Glance, key: str) -> list[str]:
    """Choose columns to keep beside the graph: short ones."""
    # The key is published as `item_key`, so no other column can be.
    hidden = {key, ITEM_KEY}
    shown = [n for n in table.names("text", "integer", "float", "bool") if n not in hidden]
    return [name for name in shown if not _is_long(table, name)][:_MOST_METADATA]


def _is_long(table: Glance, column: str) -> bool:
    if not is_text(table, column):
        return False
    length = pc.mean(pc.utf8_length(table.sample(column, _FEW_ROWS)))
    return (length.as_py() or 0) > _LONG_TEXT


def _pairs(table: Glance, keys: pa.Array, told_time: str | None, *, by_time: bool) -> PairsConfig:
    """Find the two columns of item keys, and what splits the pairs.

    Where edges have times too, time does: then no edge from after the cut stays in the graph.
    """
    timestamp = _timestamp(table, _PAIR_TIME, told_time) if by_time or told_time else None
    split = None if timestamp else _split(table)
    sides = _sides(table, table.names("text", "integer"), split, keys)
    if len(sides) < 2:
        sides = _sides(table, [*table.names("text", "integer"), *table.whole_floats()], split, keys)
    named = {side: _first_named(sides, (side,)) for side in ("query", "positive")}
    query, positive = named["query"], named["positive"]
    if query is None or positive is None:
        if len(sides) != 2:
            raise DataError(
                f"{table.path}: wanted two columns with the items' keys, found {listed(sides)} "
                f"among {table.with_types(table.columns)}; name them query_item and positive_item"
            )
        query, positive = sides
    if split is None and timestamp is None:
        timestamp = _timestamp(table, _PAIR_TIME, told_time)
    return PairsConfig(
        path=table.path,
        query=query,
        positive=positive,
        split=split,
        timestamp=timestamp,
    )


def _sides(table: Glance, columns: Sequence[str], split: str | None, keys: pa.Array) -> list[str]:
    """List the columns that hold items' keys."""
    return [
        name
        for name in columns
        if name != split and share_of(table.sample(name, _FEW_ROWS), keys) > 0
    ]


def _split(table: Glance) -> str | None:
    """Find the column of splits by its values; refuse one that is so called and has others."""
    if "split" in table.folder_columns():
        raise DataError(
            f"{table.path}: folders are called split=..., wanted a column 'split' in the files; "
            "write the tables with it"
        )
    for name in table.names("text"):
        values = pc.unique(table.sample(name)).drop_null().to_pylist()
        if values and set(values) <= set(SPLITS):
            return name
    for name in table.names("text", "integer", "float", "bool"):
        values = pc.unique(table.sample(name)).drop_null().to_pylist()
        if has_word(name, "split") or _are_like_splits(values):
            raise DataError(
                f"{table.path}: {name!r} holds {listed(values[:_SHOWN])}, wanted "
                f"{listed(SPLITS)}; write these instead, or call the column something else if it "
                "is no split"
            )
    return None


def _are_like_splits(values: Sequence[str]) -> bool:
    """Tell of other words for splits; one alone may mean anything."""
    return len(values) > 1 and {value.strip().lower() for value in values} <= _SPLIT_WORDS


def _first_named(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """Find the column that is called one of some names or begins with one, else has one as a word.

    Earlier names go before later ones.
    """
    by_name = [(name, fits) for name in names for fits in (_is_called, _begins_with)]
    ways = [*by_name, *((name, has_word) for name in names)]
    return next((column for name, fits in ways for column in columns if fits(column, name)), None)


def _is_called(column: str, name: str) -> bool:
    return column.lower() == name


def _begins_with(column: str, name: str) -> bool:
    return column.lower().startswith(name)


def _group_names(columns: Sequence[str], used: Iterable[str]) -> dict[str, str]:
    """Name a feature group for each column, all different and none of those used or taken."""
    taken = {*used, *TAKEN_GROUP_NAMES}
    names = {}
    for column in columns:
        name = base = re.sub(r"\W+", "_", column, flags=re.ASCII) or "features"
        number = 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        names[column] = name
        taken.add(name)
    return names

"""The tables of a published graph: items, context keys, labelled pairs."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pinsage.base.artifacts import Draft
from pinsage.base.errors import ArtifactError
from pinsage.base.shared import read_shared, write_shared, written_at
from pinsage.graph.schema import CONTEXT_KEY, CONTEXTS_FILE, ITEMS_FILE, PAIRS_FILE, SPLITS
from pinsage.graph.splits import LabeledPairs

_ROW_GROUP = 2**20
"""Rows of a row group of the pairs table."""


def write_tables(
    draft: Draft,
    items: pa.Table,
    context_keys: pa.Array,
    pairs: Iterator[LabeledPairs],
) -> None:
    """Write the tables into a graph being published.

    Args:
        draft: the directory.
        items: keys and metadata by item id.
        context_keys: keys by context id.
        pairs: the labelled pairs, some at a time.
    """
    for name, table in (
        (ITEMS_FILE, items),
        (CONTEXTS_FILE, pa.table({CONTEXT_KEY: context_keys})),
    ):
        with draft.file(name) as path:
            pq.write_table(table, path, compression="zstd")
    with draft.file(PAIRS_FILE) as path:
        writer: pq.ParquetWriter | None = None
        for table in _row_groups(map(_pair_table, pairs)):
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=_ROW_GROUP)
        assert writer is not None
        writer.close()


def note_as_of(directory: Path, seconds: float) -> None:
    """Write down how new the tables are that a graph which is to be published was made from.

    It stands beside the directory: in it, the same tables would have another digest.

    Args:
        directory: where the graph is published.
        seconds: since 1970.
    """
    write_shared(_note_beside(directory), f"{seconds!r}\n".encode())


def as_of(directory: Path) -> float:
    """Tell how new a published graph's tables are; without a note, as new as the graph."""
    note = _note_beside(directory)
    content = read_shared(note)
    if content is None:
        return written_at(directory / ITEMS_FILE)
    try:
        return float(content)
    except ValueError as error:
        raise ArtifactError(
            f"{note}: wanted seconds since 1970, found {content[:60]!r}; delete it, and the graph "
            "counts from when it was written"
        ) from error


def _note_beside(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.as_of")


def _pair_table(pairs: LabeledPairs) -> pa.Table:
    return pa.table({
        "query_id": pa.array(pairs.query_ids),
        "positive_id": pa.array(pairs.positive_ids),
        "split": pa.array(SPLITS).take(pa.array(pairs.splits)),
    })


def _row_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Cut tables into row groups of one size, however they came."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while sum(map(len, held)) >= _ROW_GROUP:
            whole = pa.concat_tables(held)
            yield whole.slice(0, _ROW_GROUP)
            held = [whole.slice(_ROW_GROUP)]
    rest = pa.concat_tables(held)
    if len(rest):
        yield rest

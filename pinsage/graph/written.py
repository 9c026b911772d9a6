"""The tables of a published graph: items, context keys, labelled pairs."""

import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pinsage.base.artifacts import Draft
from pinsage.graph.schema import CONTEXT_KEY, CONTEXTS_FILE, ITEMS_FILE, PAIRS_FILE, SPLITS
from pinsage.graph.splits import LabeledPairs

_ROW_GROUP = 2**20
"""Rows of a row group of the pairs table."""


def write_tables(
    draft: Draft,
    items: pa.Table,
    context_keys: pa.Array,
    pairs: Iterator[LabeledPairs],
    *,
    read_at: float,
) -> None:
    """Write the tables into a graph being published.

    Args:
        draft: the directory.
        items: keys and metadata by item id.
        context_keys: keys by context id.
        pairs: the labelled pairs, some at a time.
        read_at: when the input tables were read, in seconds since 1970; the items' time of change,
            since whatever else says it would give the same tables another digest.
    """
    for name, table in (
        (ITEMS_FILE, items),
        (CONTEXTS_FILE, pa.table({CONTEXT_KEY: context_keys})),
    ):
        with draft.file(name) as path:
            pq.write_table(table, path, compression="zstd")
    os.utime(draft.path / ITEMS_FILE, (read_at, read_at))
    with draft.file(PAIRS_FILE) as path:
        writer: pq.ParquetWriter | None = None
        for table in _row_groups(map(_pair_table, pairs)):
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=_ROW_GROUP)
        assert writer is not None
        writer.close()


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

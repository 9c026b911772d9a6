"""Reading the table of labelled pairs: checked, with item ids."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int8, Int32, Shaped

from pinsage.graph.columns import Kind, Wanted
from pinsage.graph.edges import find_items, note_nulls, read_times, with_prefix
from pinsage.graph.findings import Findings
from pinsage.graph.items import Items
from pinsage.graph.schema import SPLITS, PairsConfig
from pinsage.graph.tables import Table, read_table


@dataclass(frozen=True)
class PairRows:
    """The good rows of the pairs table, in its order."""

    query_ids: Int32[np.ndarray, " pairs"]
    positive_ids: Int32[np.ndarray, " pairs"]
    splits: Int8[np.ndarray, " pairs"] | None
    """Place in `SPLITS`; None if the table has no split column."""
    times: Shaped[np.ndarray, " pairs"] | None
    contexts: pa.Array | None
    """Context keys as text, with their prefix (dictionary of large_string)."""


def read_pairs(config: PairsConfig, items: Items | None, findings: Findings) -> PairRows | None:
    """Read and check the pairs table.

    Args:
        config: the table.
        items: the items; None if they could not be read, and then only the table is checked.
        findings: takes what is wrong.

    Returns:
        The pairs, bad rows left out; None if they cannot be used, and then there is a finding.
    """
    table = read_table("pairs", config.path, _wanted(config), findings, config.where)
    if table is None:
        return None
    keys = None if items is None else items.keys
    query_ids, good = find_items(table, config.query, keys, np.ones(len(table), bool), findings)
    positive_ids, good = find_items(table, config.positive, keys, good, findings)
    good &= ~_self_pairs(table, config, good, findings)
    splits, times, contexts = None, None, None
    if config.split is not None:
        splits, good = _read_splits(table, config.split, good, findings)
    if config.timestamp is not None:
        times, good = read_times(table, config.timestamp, good, findings)
    if config.context is not None:
        contexts = table.column(config.context)
        good &= ~note_nulls(table.place, config.context, contexts, good, findings)
    if items is None:
        return None
    rows = np.flatnonzero(good)
    if len(rows) == 0:
        if not findings.exist:
            findings.add(f"{config.path}: no usable pair is left; mend the rows reported above")
        return None
    return PairRows(
        query_ids[rows],
        positive_ids[rows],
        None if splits is None else splits[rows],
        None if times is None else times[rows],
        None
        if contexts is None
        else with_prefix(contexts.take(pa.array(rows)), config.context_prefix),
    )


def _wanted(config: PairsConfig) -> list[Wanted]:
    wanted = [
        Wanted(config.query, Kind.KEY, "data.pairs.query"),
        Wanted(config.positive, Kind.KEY, "data.pairs.positive"),
    ]
    if config.split is not None:
        wanted.append(Wanted(config.split, Kind.TEXT, "data.pairs.split"))
    if config.timestamp is not None:
        wanted.append(Wanted(config.timestamp, Kind.TIME, "data.pairs.timestamp"))
    if config.context is not None:
        wanted.append(Wanted(config.context, Kind.KEY, "data.pairs.context"))
    return wanted


def _self_pairs(
    table: Table, config: PairsConfig, good: Bool[np.ndarray, " rows"], findings: Findings
) -> Bool[np.ndarray, " rows"]:
    """Mark rows, of those still good, that pair an item with itself."""
    queries, positives = table.column(config.query), table.column(config.positive)
    if queries.type != positives.type:
        return np.zeros(len(table), bool)
    same = pc.fill_null(pc.equal(queries, positives), False).to_numpy(  # noqa: FBT003
        zero_copy_only=False
    )
    same = same & good
    findings.bad_rows(
        table.place,
        config.positive,
        same,
        reason="self_pair",
        what=f"is the same item as {config.query!r}",
        fix="leave these rows out",
        values=positives,
    )
    return same


def _read_splits(
    table: Table, column: str, good: Bool[np.ndarray, " rows"], findings: Findings
) -> tuple[Int8[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Turn the split column to places in `SPLITS`; unknown values are no matter of single rows."""
    values = table.column(column)
    good = good & ~note_nulls(table.place, column, values, good, findings)
    found = pc.index_in(values, value_set=pa.array(SPLITS, pa.large_string()))
    unknown = good & found.is_null().to_numpy(zero_copy_only=False)
    label = table.place.label
    if unknown.any():
        row = int(unknown.argmax())
        findings.add(
            f"{label}: {column!r} is none of {', '.join(SPLITS)} in "
            f"{np.count_nonzero(unknown)} of {len(values)} rows, first at {table.place.row(row)} "
            f"({values[row].as_py()!r}); rename it, or leave the rows out with data.pairs.where"
        )
    present = set(pc.unique(found).to_pylist())
    for split in ("train", "test"):
        if SPLITS.index(split) not in present:
            findings.add(
                f"{label}: no pairs of split {split!r} in {column!r}; the model learns from train "
                "and is measured on test, so both are needed; data.pairs.split=null with "
                "data.split={valid: 0, test: 0} takes all pairs for training"
            )
    splits = found.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int8)
    return splits, good & ~unknown

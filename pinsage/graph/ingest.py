"""From the caller's tables to a graph: checked tables, dense ids, split pairs, shards.

All checks come before the first byte is written, and all of their findings come in one error.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pinsage.base.artifacts import Draft
from pinsage.base.logs import Progress
from pinsage.graph.adjacency import AdjacencyShard, BipartiteAdjacency
from pinsage.graph.edges import Edges, read_edges
from pinsage.graph.features import FEATURES_FILE
from pinsage.graph.findings import Findings
from pinsage.graph.items import Items, read_items
from pinsage.graph.pairs import read_pairs
from pinsage.graph.partition import ids_in, shard_name
from pinsage.graph.schema import (
    CONTEXT_KEY,
    CONTEXTS_FILE,
    ITEMS_FILE,
    LOG_DEGREE,
    PAIRS_FILE,
    SPLITS,
    STRUCTURE,
    DataConfig,
    GraphCounts,
    PairCounts,
)
from pinsage.graph.sources import input_facts
from pinsage.graph.splits import Labels, check_labels, derive_pairs, label_pairs
from pinsage.graph.structure import StructureConfig, structural_features
from pinsage.kernels.csr import build_csr, transpose

__all__ = ["ingest", "input_facts"]

_WRITE_ROWS = 65_536
"""How many feature rows are put together at a time."""


def ingest(
    config: DataConfig,
    draft: Draft,
    *,
    num_shards: int,
    seed: int,
    structure: StructureConfig | None = None,
) -> None:
    """Check the input tables and write them as a graph.

    The number of shards changes where ids are kept, never an id, an edge or a feature.

    Args:
        config: the input tables.
        draft: the directory to write; its counts are set to a `GraphCounts`.
        num_shards: in how many shards to write adjacency and features.
        seed: decides what is held out, where neither a split column nor time does, and where
            structural features start from.
        structure: structural features to add, from the training graph alone; None adds none.

    Raises:
        DataError: the tables cannot be used; the message lists every finding, and nothing has been
            written.
        ValueError: `num_shards` is below 1.
    """
    if num_shards < 1:
        raise ValueError(f"num_shards must be at least 1, found {num_shards}")
    with Progress("ingest", total=6 + num_shards, unit="steps") as progress:
        findings = Findings(drop_rows=config.on_bad_rows == "drop")
        progress.set(0, "items")
        items = read_items(config.items, findings)
        progress.set(1, "edges")
        by_time = config.pairs is None or config.pairs.timestamp is not None
        edges = read_edges(config.edges, items, findings, with_times=by_time)
        progress.set(2, "pairs")
        labels = _label(config, items, edges, findings, seed=seed)
        findings.raise_if_any()
        # A part that is None has left a finding.
        assert items is not None
        assert edges is not None
        assert labels is not None
        progress.set(3, "adjacency")
        training = edges.only(labels.in_graph)
        whole = _whole(training, len(items))
        progress.set(4, "tables")
        _write_tables(draft, items, training, labels)
        progress.set(5, "structure")
        added = _added_features(whole, structure, seed=seed)
        for shard in range(num_shards):
            progress.set(6 + shard, f"shard {shard}")
            AdjacencyShard.cut(whole, shard, num_shards).write(draft)
            _write_features(draft, items, added, shard, num_shards)
        progress.set(progress.total, f"{whole.num_items:,} items, {whole.num_edges:,} edges")
        draft.counts.update(
            _counts(items, edges, whole, labels, added, findings.dropped, num_shards).model_dump()
        )


def _label(
    config: DataConfig, items: Items | None, edges: Edges | None, findings: Findings, *, seed: int
) -> Labels | None:
    """Read or derive the pairs; split them unless something is wrong already."""
    pairs = None if config.pairs is None else read_pairs(config.pairs, items, findings)
    if findings.problems or items is None or edges is None:
        return None
    if pairs is None:
        labels = derive_pairs(edges, config.split, seed=seed)
    else:
        if pairs.times is not None and edges.times is not None:
            kinds = {pairs.times.dtype.kind == "M", edges.times.dtype.kind == "M"}
            if len(kinds) > 1:
                findings.add(
                    "data.pairs and data.edges: times are timestamps in one and numbers in the "
                    "other, so they cannot be compared; write them alike"
                )
                return None
        labels = label_pairs(pairs, edges, items, config.split, seed=seed)
    check_labels(labels, findings)
    return labels


def _whole(training: Edges, num_items: int) -> BipartiteAdjacency:
    """Build the compressed rows both ways."""
    num_contexts = len(training.context_keys)
    item_starts, item_contexts = build_csr(training.item_ids, training.context_ids, num_items)
    context_starts, context_items = transpose(item_starts, item_contexts, num_contexts)
    return BipartiteAdjacency(item_starts, item_contexts, context_starts, context_items)


def _write_tables(draft: Draft, items: Items, training: Edges, labels: Labels) -> None:
    pairs = {
        "query_id": pa.array(labels.query_ids),
        "positive_id": pa.array(labels.positive_ids),
        "split": pa.array(SPLITS).take(pa.array(labels.splits)),
    }
    tables: Mapping[str, pa.Table] = {
        ITEMS_FILE: items.metadata,
        CONTEXTS_FILE: pa.table({CONTEXT_KEY: training.context_keys.cast(pa.string())}),
        PAIRS_FILE: pa.table(pairs),
    }
    for name, table in tables.items():
        with draft.file(name) as path:
            pq.write_table(table, path, compression="zstd")


def _added_features(
    whole: BipartiteAdjacency, structure: StructureConfig | None, *, seed: int
) -> dict[str, np.ndarray]:
    """Make the feature groups that come from the training graph: float32[items, width] each."""
    groups = {}
    if structure is not None:
        groups[STRUCTURE] = structural_features(whole, structure, seed=seed)
    groups[LOG_DEGREE] = np.log1p(whole.item_degrees).astype(np.float32)[:, None]
    return groups


def _write_features(
    draft: Draft,
    items: Items,
    added: Mapping[str, np.ndarray],
    shard: int,
    num_shards: int,
) -> None:
    """Write one shard's features, a few rows at a time; done already is not done again."""
    name = f"{shard_name(shard, num_shards)}/{FEATURES_FILE}"
    if draft.has(name):
        return
    item_ids = ids_in(shard, num_shards, len(items))
    width = sum(group.width for group in items.groups)
    width += sum(values.shape[1] for values in added.values())
    with draft.file(name) as path, path.open("wb") as out:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(item_ids), width)}
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(item_ids), _WRITE_ROWS):
            chunk = item_ids[start : start + _WRITE_ROWS]
            parts = [items.content(chunk), *(values[chunk] for values in added.values())]
            rows = np.concatenate(parts, axis=1)
            out.write(np.ascontiguousarray(rows, "<f4").data)


def _counts(
    items: Items,
    edges: Edges,
    whole: BipartiteAdjacency,
    labels: Labels,
    added: Mapping[str, np.ndarray],
    dropped: dict[str, int],
    num_shards: int,
) -> GraphCounts:
    return GraphCounts(
        items=whole.num_items,
        contexts=whole.num_contexts,
        edges=whole.num_edges,
        shards=num_shards,
        pairs=PairCounts(**labels.counts()),
        feature_groups={group.name: group.width for group in items.groups}
        | {name: values.shape[1] for name, values in added.items()},
        cold_items=int(np.count_nonzero(whole.item_degrees == 0)),
        repeated_edges=edges.repeated,
        left_out_edges=labels.left_out,
        dropped=dropped,
    )

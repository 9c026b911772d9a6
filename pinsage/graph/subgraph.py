"""The graph of some contexts and all their items, to train on (paper, section 4.1).

The paper samples a fifth of the boards, takes all pins they touch, trains on that graph and embeds
the whole one: a convolution learned on a part works on the rest, since it knows no ids.
"""

from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int, Int64
from pydantic import Field

from pinsage.base.artifacts import Draft
from pinsage.base.config import Config
from pinsage.base.errors import DataError
from pinsage.base.seeding import Stream, uniform_by_id
from pinsage.graph.adjacency import AdjacencyShard, BipartiteAdjacency
from pinsage.graph.features import FEATURES_FILE, FeatureStore
from pinsage.graph.opened import Graph
from pinsage.graph.partition import ids_in, shard_name
from pinsage.graph.schema import (
    CONTEXTS_FILE,
    ITEMS_FILE,
    PAIRS_FILE,
    SPLITS,
    GraphCounts,
    PairCounts,
)
from pinsage.kernels.csr import EdgeRows, transpose_rows

_ROWS = 65_536
"""How many feature rows are copied at a time."""


class SubgraphConfig(Config):
    """Which part of the graph training sees; everything else sees all of it."""

    contexts: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the contexts, drawn at random; all their items come with them."""


def take_subgraph(graph: Graph, draft: Draft, config: SubgraphConfig, *, seed: int) -> None:
    """Write the graph of some contexts: a graph like any other, with ids of its own.

    Items keep their features, `log_degree` and structural features of the whole graph among them:
    that is what they will have when they are embedded. Pairs of two items that both came along come
    along. Ids keep their order.

    Memory: the whole adjacency where the graph has several shards, else what is taken.

    Args:
        graph: the whole graph.
        draft: the directory to write; its counts are set to a `GraphCounts`.
        config: how much is taken.
        seed: decides which contexts are.

    Raises:
        DataError: no edge or no train pair comes along.
    """
    whole = graph.adjacency()
    contexts = np.arange(whole.num_contexts)
    taken = contexts[uniform_by_id(seed, Stream.SUBGRAPH, contexts) < config.contexts]
    part, item_ids = _part_of(whole, taken)
    pairs = _pairs_of(graph, item_ids)
    counts = _counts(graph, part, pairs)
    if not part.num_edges or not counts.pairs.train:
        raise DataError(
            f"{graph.artifact.path}: {len(taken)} of {whole.num_contexts} contexts have "
            f"{part.num_edges} edges and {counts.pairs.train} train pairs, which is too little to "
            f"train on; raise subgraph.contexts (found {config.contexts:g})"
        )
    num_shards = counts.shards
    for name, ids in ((ITEMS_FILE, item_ids), (CONTEXTS_FILE, taken)):
        with draft.file(name) as path:
            table = pq.read_table(graph.artifact.path / name).take(pa.array(ids))
            pq.write_table(table, path, compression="zstd")
    with draft.file(PAIRS_FILE) as path:
        pq.write_table(pairs, path, compression="zstd")
    for shard in range(num_shards):
        AdjacencyShard.cut(part, shard, num_shards).write(draft)
        own = item_ids[ids_in(shard, num_shards, len(item_ids))]
        _write_features(graph.features(), own, draft, f"{shard_name(shard, num_shards)}")
    draft.counts.update(counts.model_dump())


def _part_of(
    whole: BipartiteAdjacency, taken: Int64[np.ndarray, " taken"]
) -> tuple[BipartiteAdjacency, Int64[np.ndarray, " items"]]:
    """Take some contexts with their edges, and number their items anew; gives the old ids too."""
    degrees = whole.context_degrees[taken]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(degrees)])
    places = np.arange(starts[-1]) + np.repeat(whole.context_starts[taken] - starts[:-1], degrees)
    item_ids, cols = np.unique(whole.context_items[places], return_inverse=True)
    cols = cols.astype(whole.context_items.dtype)
    # What travels with an edge here is its place.
    turned = transpose_rows(EdgeRows(starts, cols, times=np.arange(len(cols))), len(item_ids))
    arrays: dict[str, np.ndarray] = {}
    for extra in ("weights", "ages"):
        values = getattr(whole, f"context_{extra}")
        if values is not None:
            arrays[f"context_{extra}"] = values[places]
            arrays[f"item_{extra}"] = values[places][turned.times]
    part = BipartiteAdjacency(turned.starts, turned.cols, starts, cols, **arrays)
    return part, item_ids.astype(np.int64)


def _pairs_of(graph: Graph, item_ids: Int64[np.ndarray, " items"]) -> pa.Table:
    """Take the pairs of two items that are there, with their new ids."""
    table = pq.read_table(graph.artifact.path / PAIRS_FILE)
    columns, there = {}, np.ones(len(table), bool)
    for name in ("query_id", "positive_id"):
        columns[name], found = _new_ids(table[name].to_numpy(), item_ids)
        there &= found
    kept = table.filter(pa.array(there))
    for name, ids in columns.items():
        field = kept.schema.field(name)
        place = kept.schema.get_field_index(name)
        kept = kept.set_column(place, field, pa.array(ids[there], field.type))
    return kept


def _new_ids(
    ids: Int[np.ndarray, " n"], item_ids: Int64[np.ndarray, " items"]
) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Find ids among those taken; any place for one that was not."""
    places = np.minimum(np.searchsorted(item_ids, ids), max(len(item_ids) - 1, 0))
    found = item_ids[places] == ids if len(item_ids) else np.zeros(len(ids), bool)
    return places.astype(np.int64), found


def _write_features(
    features: FeatureStore, item_ids: Int64[np.ndarray, " items"], draft: Draft, folder: str
) -> None:
    with draft.file(f"{folder}/{FEATURES_FILE}") as path, path.open("wb") as out:
        shape = (len(item_ids), features.width)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(item_ids), _ROWS):
            rows = features.gather(item_ids[start : start + _ROWS])
            out.write(np.ascontiguousarray(rows, "<f4").data)


def _counts(graph: Graph, part: BipartiteAdjacency, pairs: pa.Table) -> GraphCounts:
    splits = pairs["split"].to_pylist()
    left_out = graph.counts.left_out_edges | {"other_contexts": graph.num_edges - part.num_edges}
    return graph.counts.model_copy(
        update={
            "items": part.num_items,
            "contexts": part.num_contexts,
            "edges": part.num_edges,
            # No shard may be empty.
            "shards": max(min(graph.num_shards, part.num_items), 1),
            "pairs": PairCounts(**{split: splits.count(split) for split in SPLITS}),
            "cold_items": 0,
            "items_made_cold": 0,
            "left_out_edges": left_out,
        }
    )

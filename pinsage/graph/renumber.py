"""The training graph in another order of ids, by one more external counting sort."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from pinsage.base.artifacts import Draft
from pinsage.graph.adjacency import AdjacencyShard, BipartiteAdjacency, assemble
from pinsage.graph.build import TrainingGraph
from pinsage.graph.build_steps import Build, bucket_bounds, buckets_of, grouped, packed_texts
from pinsage.graph.cold import ColdEdges
from pinsage.graph.ordering import locality_order
from pinsage.graph.pieces import has_piece, open_piece, save_piece
from pinsage.graph.schema import SplitConfig
from pinsage.graph.splits import Holdout, LabeledPairs
from pinsage.graph.tasks import Tasks
from pinsage.kernels.csr import id_dtype

_NOTHING_HELD_OUT = Holdout(SplitConfig(), seed=0, derives_pairs=False)


@dataclass(frozen=True)
class Renumbered:
    """The graph, and where its items went."""

    graph: TrainingGraph
    item_places: Int64[np.ndarray, " items"]
    """The new id of every item."""
    context_places: Int64[np.ndarray, " contexts"]
    """The new id of every context."""

    def cold_edges(self, edges: ColdEdges) -> ColdEdges:
        """Give edges of cold items the new ids."""
        return replace(
            edges,
            item_ids=self.item_places[edges.item_ids],
            context_ids=self.context_places[edges.context_ids],
        )


def in_locality_order(graph: TrainingGraph, run: Tasks, *, edges_per_bucket: int) -> Renumbered:
    """Number items and contexts so that those that are met together stand together.

    The order is found from the edges alone; finding it takes 16 bytes of memory a node, and edges
    are read where they lie.

    Args:
        graph: the training graph.
        run: runs steps.
        edges_per_bucket: most edges that a step sorts.
    """
    build = replace(graph.build, folder=graph.build.folder / "ordered", parts=())
    order = build.folder / "order"
    if not has_piece(order):
        places = locality_order(_whole(graph))
        save_piece(order, dict(zip(("items", "contexts"), places, strict=True)))
    item_places, context_places = (
        open_piece(order).arrays[side].astype(np.int64) for side in ("items", "contexts")
    )
    _cut(build, graph, item_places, context_places, edges_per_bucket)
    if not build.is_done("placed"):
        move = partial(_move, build, graph, item_places, context_places)
        run(move, range(len(graph.placed)), "new ids")
        numbers = range(len(build.folders("placed")))
        run(partial(build.place, holdout=_NOTHING_HELD_OUT), numbers, "edges by context")
    moved = TrainingGraph(build, None)
    if not build.is_done("gathered"):
        numbers = range(len(build.folders("gathered")))
        run(partial(build.gather, first_contexts=moved.first_contexts), numbers, "edges by item")
    return Renumbered(moved, item_places, context_places)


def renumbered_pairs(
    pairs: Iterator[LabeledPairs], item_places: Int64[np.ndarray, " items"]
) -> Iterator[LabeledPairs]:
    """Give pairs the new ids of their items."""
    for some in pairs:
        dtype = some.query_ids.dtype
        yield LabeledPairs(
            item_places[some.query_ids].astype(dtype),
            item_places[some.positive_ids].astype(dtype),
            some.splits,
        )


def old_ids(places: Int64[np.ndarray, " nodes"]) -> Int64[np.ndarray, " nodes"]:
    """Turn new ids by old one into old ids by new one.

    >>> old_ids(np.array([2, 0, 1])).tolist()
    [1, 2, 0]
    """
    old = np.empty(len(places), np.int64)
    old[places] = np.arange(len(places))
    return old


def _whole(graph: TrainingGraph) -> BipartiteAdjacency:
    """Map the whole graph, from files of its own in the scratch."""
    draft = Draft(graph.build.folder / "whole")
    for side in (graph.items, graph.contexts):
        side.write_shard(draft, 0, 1)
    return assemble([AdjacencyShard.open(draft.path, 0, 1)])


def _cut(
    build: Build,
    graph: TrainingGraph,
    item_places: Int64[np.ndarray, " items"],
    context_places: Int64[np.ndarray, " contexts"],
    edges_per_bucket: int,
) -> None:
    """Cut both sides into buckets anew, by the degrees that nodes have in the training graph."""
    if build.is_cut:
        return
    keys = graph.context_keys.take(pa.array(old_ids(context_places)))
    save_piece(build.folder / "context_keys", {"keys": packed_texts(keys)})
    of_contexts = graph.contexts.degrees()[old_ids(context_places)]
    of_items = graph.item_degrees[old_ids(item_places)]
    build.save_cuts(
        bucket_bounds(of_contexts, edges_per_bucket),
        bucket_bounds(of_items, edges_per_bucket),
        {"parts": len(graph.placed), "rows": graph.num_edges},
    )


def _move(
    build: Build,
    graph: TrainingGraph,
    item_places: Int64[np.ndarray, " items"],
    context_places: Int64[np.ndarray, " contexts"],
    number: int,
) -> None:
    """Give the edges of one run of contexts their new ids, and group them by new bucket."""
    folder = build.folders("grouped")[number]
    if has_piece(folder):
        return
    piece = graph.placed[number]
    starts = piece.arrays["starts"]
    old = graph.first_contexts[number] + np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    contexts = context_places[old].astype(id_dtype(len(context_places)))
    bounds = build.bounds("context")
    edges = {
        "context_ids": contexts,
        "item_ids": item_places[piece.arrays["cols"]].astype(piece.arrays["cols"].dtype),
        "weights": piece.get("weights"),
        "times": piece.get("times"),
    }
    save_piece(folder, grouped(edges, buckets_of(contexts, bounds), len(bounds) - 1))

"""From the caller's tables to a graph: checked tables, dense ids, split pairs, shards.

All checks come before the first file of the graph is written, and all of their findings come in one
error. Items, context keys and pairs are held in memory; edges are not (`graph/build.py`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Int64

from pinsage.base.artifacts import Draft
from pinsage.base.errors import DataError
from pinsage.base.logs import Progress
from pinsage.graph.basis import Basis
from pinsage.graph.build import (
    BuildConfig,
    TrainingGraph,
    build_training_graph,
    time_cuts_of_edges,
)
from pinsage.graph.build_steps import Build
from pinsage.graph.cold import ColdEdges, ColdItems, ColdRows, cold_items_of, folded_in
from pinsage.graph.edges import EdgePlan, plan_edges
from pinsage.graph.features import (
    CONTEXT_VECTORS_FILE,
    FEATURES_FILE,
    STRUCTURE_SQUARES_FILE,
    FeatureShard,
    FeatureStore,
)
from pinsage.graph.findings import Findings, FindingsRecord
from pinsage.graph.items import Items, read_items
from pinsage.graph.opened import Graph
from pinsage.graph.pairs import PairRows, read_pairs
from pinsage.graph.partition import ids_in, shard_name
from pinsage.graph.renumber import in_locality_order, old_ids, renumbered_pairs
from pinsage.graph.schema import (
    LOG_DEGREE,
    STRUCTURE,
    DataConfig,
    GraphCounts,
    PairCounts,
)
from pinsage.graph.sources import Inputs, look_at_inputs
from pinsage.graph.splits import (
    Holdout,
    LabeledPairs,
    cold_items,
    label_pairs,
    with_told_edges,
    without_cold,
)
from pinsage.graph.structure import Structure, StructureConfig
from pinsage.graph.tables import no_rows
from pinsage.graph.tasks import Tasks, Threads
from pinsage.graph.times import TimeScale, common_scale, kind_of
from pinsage.graph.written import note_as_of, write_tables

__all__ = ["Inputs", "Order", "ingest", "look_at_inputs", "note_as_of"]

Order: TypeAlias = Literal["given", "locality"]

_WRITE_ROWS = 65_536
"""How many feature rows are put together at a time."""


def ingest(
    config: DataConfig,
    draft: Draft,
    *,
    num_shards: int,
    seed: int,
    structure: StructureConfig | None = None,
    basis: Graph | None = None,
    order: Order = "given",
    build: BuildConfig | None = None,
    tasks: Callable[[Progress], Tasks] | None = None,
) -> None:
    """Check the input tables and write them as a graph.

    The number of shards changes where ids are kept, never an id, an edge or a feature. A run that
    was killed goes on with what it finds in the draft's scratch.

    Args:
        config: the input tables.
        draft: the directory to write; its counts are set to a `GraphCounts`.
        num_shards: in how many shards to write adjacency and features.
        seed: decides what is held out, where neither a split column nor time does, and where
            structural features start from.
        structure: structural features to add, from the training graph alone; None adds none.
        basis: the published graph that `structure.basis` names, with features of like settings.
        order: `given` numbers items as their table does, and contexts as their keys are ordered;
            `locality` numbers both so that what walks meet together stands together.
        build: how much is sorted at a time, and by how many workers.
        tasks: makes what runs the build's steps, of the progress line to move; None runs them in
            threads of this process.

    Raises:
        DataError: the tables cannot be used; the message lists every finding, and nothing has been
            written.
        ArtifactError: the basis has no structural features.
        ValueError: `num_shards` is below 1.
    """
    if num_shards < 1:
        raise ValueError(f"num_shards must be at least 1, found {num_shards}")
    if basis is not None:
        basis.structure_squares()
    settings = build or BuildConfig()
    with Progress("ingest", total=4 + 2 * num_shards, unit="steps") as progress:
        run = Threads(settings.workers, progress) if tasks is None else tasks(progress)
        try:
            tables = _check(config, draft, settings, run, progress, num_shards=num_shards)
            graph = build_training_graph(
                tables.build,
                lambda: _hold_out(tables, config, seed),
                tables.findings,
                run,
                progress,
                edges_per_bucket=settings.edges_per_bucket,
            )
        except DataError:
            draft.discard()
            raise
        published = _published(tables, graph, order, run, settings)
        _write_graph(draft, published, progress, num_shards=num_shards)
        made = None
        if structure is not None:
            made = _structure(draft, published, structure, basis, num_shards=num_shards, seed=seed)
            progress.total += made.num_steps
            made.make(run)
            _write_structure(draft, made)
        added = _added_features(published, made)
        for shard in range(num_shards):
            progress.advance(1, f"features {shard}")
            _write_features(draft, published.items, added, shard, num_shards)
        counts = _counts(tables, graph, added, num_shards)
        cold = cold_items(published.items.keys, config.split, seed=seed)
        if cold is not None:
            _cold_items(draft, published, np.flatnonzero(cold), num_shards).write(draft)
            counts = counts.model_copy(update={"items_made_cold": int(cold.sum())})
        progress.set(progress.total, f"{counts.items:,} items, {counts.edges:,} edges")
        draft.counts.update(counts.model_dump())


@dataclass(frozen=True)
class _Tables:
    """The checked tables."""

    items: Items
    pairs: PairRows | None
    build: Build
    findings: Findings


@dataclass(frozen=True)
class _Published:
    """What is written: items, graph and pairs, with the ids they are published with."""

    items: Items
    graph: TrainingGraph
    pairs: Callable[[], Iterator[LabeledPairs]]
    cold_edges: ColdEdges | None
    """Edges of items made cold; None if there are none such."""


def _published(
    tables: _Tables, graph: TrainingGraph, order: Order, run: Tasks, settings: BuildConfig
) -> _Published:
    """Put items and contexts in the order asked for."""
    cold_edges = graph.cold_edges()
    if order == "given":
        return _Published(tables.items, graph, graph.pairs, cold_edges)
    moved = in_locality_order(graph, run, edges_per_bucket=settings.edges_per_bucket)
    return _Published(
        tables.items.reordered(old_ids(moved.item_places)),
        moved.graph,
        lambda: renumbered_pairs(graph.pairs(), moved.item_places),
        cold_edges and moved.cold_edges(cold_edges),
    )


def _check(
    config: DataConfig,
    draft: Draft,
    settings: BuildConfig,
    run: Tasks,
    progress: Progress,
    *,
    num_shards: int,
) -> _Tables:
    """Read everything, and stop if anything is wrong with it."""
    findings = Findings(drop_rows=config.on_bad_rows == "drop")
    progress.set(0, "items")
    items = read_items(config.items, findings)
    if items is not None and 0 < len(items) < num_shards:
        findings.add(
            f"graph.num_shards is {num_shards}, but there are only {len(items)} items to share "
            "out; lower it"
        )
    progress.set(1, "pairs")
    pairs = None if config.pairs is None else read_pairs(config.pairs, items, findings)
    plan = plan_edges(
        config.edges,
        findings,
        needs_times=config.pairs is None or config.pairs.timestamp is not None,
        rows_per_part=settings.rows_per_part,
    )
    progress.set(2, "edges")
    progress.total += 3 * len(plan.parts)
    build = Build(
        # Pieces cut in another way are of no use.
        folder=draft.scratch / f"build-{settings.rows_per_part}-{settings.edges_per_bucket}",
        parts=plan.parts,
        num_items=0 if items is None else len(items),
        drop_rows=findings.drop_rows,
        scale=_time_scale(plan, pairs, findings),
        has_weights=plan.has_weights,
    )
    build.keep_item_keys(None if items is None else items.keys)
    if not build.is_cut:
        run(build.read, range(len(plan.parts)), "read")
    findings.take_over(_found_in_edges(config, build, findings))
    findings.raise_if_any()
    # A table that is None has left a finding.
    assert items is not None
    return _Tables(items, pairs, build, findings)


def _found_in_edges(config: DataConfig, build: Build, so_far: Findings) -> FindingsRecord:
    """Tell what was found in the edges tables, and whether anything is left of them."""
    if build.is_cut:
        return build.kept_findings()
    findings = Findings(drop_rows=so_far.drop_rows)
    rows, good = build.found(findings)
    for position, edges in enumerate(config.edges):
        if not rows.get(position) and not so_far.problems and not findings.problems:
            findings.add(no_rows(edges.path, edges.where))
    if not good and not so_far.exist and not findings.exist:
        findings.add("data.edges: no usable edge is left; mend the rows reported above")
    return findings.record()


def _time_scale(plan: EdgePlan, pairs: PairRows | None, findings: Findings) -> TimeScale | None:
    """Find the one scale that holds the times of edges and pairs."""
    kinds = set(plan.time_kinds)
    if kinds and pairs is not None and pairs.times is not None:
        kinds.add(kind_of(pairs.times.dtype))
        if "timestamp" in kinds and len(kinds) > 1:
            findings.add(
                "data.pairs and data.edges: times are timestamps in one and numbers in the "
                "other, so they cannot be compared; write them alike"
            )
    return common_scale(kinds)


def _hold_out(
    tables: _Tables, config: DataConfig, seed: int
) -> tuple[LabeledPairs | None, Holdout]:
    """Decide what is held out, from the pairs table or from the edges' times."""
    build = tables.build
    cold = cold_items(tables.items.keys, config.split, seed=seed)
    if tables.pairs is None:
        cuts = None if build.scale is None else time_cuts_of_edges(build, config.split)
        return None, Holdout(config.split, seed, derives_pairs=True, cuts=cuts, cold=cold)
    labeled, holdout = label_pairs(
        tables.pairs, tables.items.keys, config.split, scale=build.scale, seed=seed
    )
    holdout = with_told_edges(holdout, tables.pairs, labeled, build.context_keys())
    return without_cold(labeled, cold), replace(holdout, cold=cold)


def _structure(
    draft: Draft,
    published: _Published,
    config: StructureConfig,
    basis: Graph | None,
    *,
    num_shards: int,
    seed: int,
) -> Structure:
    return Structure(
        directory=draft.path,
        folder=draft.scratch / "structure",
        num_shards=num_shards,
        num_items=len(published.items),
        num_contexts=published.graph.first_contexts[-1],
        config=config,
        seed=seed,
        basis=None if basis is None else Basis(basis.artifact.path, basis.num_shards),
    )


def _write_graph(
    draft: Draft, published: _Published, progress: Progress, *, num_shards: int
) -> None:
    progress.advance(1, "tables")
    items, graph = published.items, published.graph
    write_tables(draft, items.metadata, graph.context_keys, published.pairs())
    for shard in range(num_shards):
        progress.advance(1, f"shard {shard}")
        graph.items.write_shard(draft, shard, num_shards)
        graph.contexts.write_shard(draft, shard, num_shards)


def _write_structure(draft: Draft, made: Structure) -> None:
    draft.write_array(STRUCTURE_SQUARES_FILE, made.squares())
    for shard in range(made.num_shards):
        name = f"{shard_name(shard, made.num_shards)}/{CONTEXT_VECTORS_FILE}"
        if not draft.has(name):
            draft.write_array(name, made.contexts(shard))


def _added_features(published: _Published, made: Structure | None) -> dict[str, np.ndarray]:
    """Collect the groups that come from the training graph: float32[items, width] each."""
    groups = {} if made is None else {STRUCTURE: made.items()}
    groups[LOG_DEGREE] = np.log1p(published.graph.item_degrees).astype(np.float32)[:, None]
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


def _cold_items(
    draft: Draft, published: _Published, ids: Int64[np.ndarray, " cold"], num_shards: int
) -> ColdItems:
    """Put together what inference knows of items made cold; features stand as in the graph's."""
    assert published.cold_edges is not None

    def features_of(rows: ColdRows) -> np.ndarray:
        degrees = np.diff(rows.starts)
        parts = [published.items.content(rows.ids)]
        if draft.has(f"{shard_name(0, num_shards)}/{CONTEXT_VECTORS_FILE}"):
            shards = [
                FeatureShard.open(draft.path, shard, num_shards, CONTEXT_VECTORS_FILE)
                for shard in range(num_shards)
            ]
            parts.append(folded_in(rows, FeatureStore(shards)))
        parts.append(np.log1p(degrees).astype(np.float32)[:, None])
        return np.concatenate(parts, axis=1)

    scale, newest = published.graph.build.scale, published.graph.newest
    ages_of = None if scale is None else partial(scale.ages, newest)
    return cold_items_of(ids, published.cold_edges, features_of, ages_of)


def _counts(
    tables: _Tables, graph: TrainingGraph, added: Mapping[str, np.ndarray], num_shards: int
) -> GraphCounts:
    return GraphCounts(
        items=len(tables.items),
        contexts=graph.first_contexts[-1],
        edges=graph.num_edges,
        shards=num_shards,
        pairs=PairCounts(**graph.pair_counts()),
        feature_groups={group.name: group.width for group in tables.items.groups}
        | {name: values.shape[1] for name, values in added.items()},
        cold_items=int(np.count_nonzero(graph.item_degrees == 0)),
        repeated_edges=tables.build.num_rows() - graph.num_merged_edges,
        left_out_edges=graph.left_out,
        dropped=tables.findings.dropped,
    )

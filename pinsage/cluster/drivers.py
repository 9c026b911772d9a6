"""One function a job. Each publishes one directory, or finds it published already."""

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pinsage.base import copies, shared
from pinsage.base.addresses import shown
from pinsage.base.artifacts import Draft, finish, publish, whole_parents
from pinsage.base.drafts import drop_draft
from pinsage.base.errors import ConfigError, DataError
from pinsage.base.files import whole_file
from pinsage.base.seeding import Sample, Stream, stream
from pinsage.cluster import metrics
from pinsage.cluster.builders import ClusterTasks
from pinsage.cluster.embedder import embed_all
from pinsage.cluster.evaluator import evaluate_all
from pinsage.cluster.launcher import find_result, run_training
from pinsage.cluster.methods import factorizations, factors_stage, fit_factors
from pinsage.cluster.neighborhood_counts import neighborhood_counts
from pinsage.cluster.producers import ProducerSpec
from pinsage.cluster.run import Run, Stage, require, require_same_parents
from pinsage.cluster.session import session
from pinsage.cluster.train_task import TrainTask
from pinsage.cluster.validator import draw_sample
from pinsage.cluster.walkers import walk_all
from pinsage.evaluation.baselines.factors import grid, require_choice, require_package
from pinsage.graph import Graph
from pinsage.graph.ingest import ingest as ingest_tables
from pinsage.graph.ingest import note_as_of
from pinsage.graph.leaks import shows_pairs
from pinsage.graph.subgraph import take_subgraph
from pinsage.inference.embedder import EmbedSpec
from pinsage.inference.export import read_embeddings
from pinsage.model.checkpoint import SHAPE, WEIGHTS
from pinsage.retrieval.index import build_index, measured_recall, save_index
from pinsage.sampling.neighborhood import write_cold_rows
from pinsage.sampling.pair_sources import open_pairs
from pinsage.training import best_step, load_progress
from pinsage.training.scalars import LOG, check_trackers, write_repeatable
from pinsage.training.state import PROGRESS

_log = logging.getLogger(__name__)

_RECALL_SAMPLE = 1_000
_RECALL_K = 10


@dataclass(frozen=True)
class StageResult:
    """What a job has to say at its end.

    Attributes:
        stage: its name.
        directory: what it published, or found published.
        seconds: how long it took.
        was_published: nothing was left to do.
        counts: the manifest's counts.
    """

    stage: str
    directory: Path
    seconds: float
    was_published: bool
    counts: dict[str, Any]


def ingest(run: Run) -> StageResult:
    """Check the tables and publish the graph, and the part of it to train on if that is another."""
    result = _publish(run.graph, lambda draft: _ingest(run, draft))
    if run.training_graph is not run.graph:
        _publish(run.training_graph, lambda draft: _take_subgraph(run, draft))
    return result


def walk(run: Run) -> StageResult:
    """Walk from every item and publish the neighborhood table; that of the training graph too."""
    if run.training_neighborhoods is not run.neighborhoods:
        _publish(
            run.training_neighborhoods,
            lambda draft: _walk(run, run.training_graph.directory, draft),
        )
    return _publish(run.neighborhoods, lambda draft: _walk(run, run.graph.directory, draft))


def train(run: Run, *, keep_log: Path | None = None) -> StageResult:
    """Train and publish the model.

    Args:
        run: what to train.
        keep_log: where to copy the training log to, with its pace, which is not published: no two
            runs agree on it.
    """
    result = _publish(run.model, lambda draft: _train(run, draft, keep_log))
    # The model is whole, so nothing will be resumed from them.
    copies.remove(run.checkpoints)
    return result


def embed(run: Run, *, here: bool | None = None) -> StageResult:
    """Embed every item and publish the embeddings.

    Args:
        run: what to embed.
        here: whether this process does all the work; None leaves it to the size.
    """
    return _publish(run.embeddings, lambda draft: _embed(run, draft, here=here))


def index(run: Run) -> StageResult:
    """Build the search structure and publish it."""
    return _publish(run.index, lambda draft: _index(run, draft))


def evaluate(run: Run) -> StageResult:
    """Rank the held-out pairs with every method and publish the report."""
    if not run.report.is_done:
        require(run.report)
        check_evaluation(run)
        _prepare_baselines(run)
    return _publish(run.report, lambda draft: evaluate_all(run, draft))


JOBS: dict[str, Callable[[Run], StageResult]] = {
    "ingest": ingest,
    "walk": walk,
    "train": train,
    "embed": embed,
    "index": index,
    "evaluate": evaluate,
}
"""Every job in the order of the pipeline."""


def _publish(stage: Stage, write: Callable[[Draft], None]) -> StageResult:
    started = time.monotonic()
    require(stage)
    was_published = finish(stage.directory)
    if was_published:
        require_same_parents(stage)
    else:
        parents = stage.open_parents()
        with (
            publish(
                stage.directory, stage=stage.name, config=stage.config, parents=parents
            ) as draft,
            whole_parents(draft, parents),
        ):
            write(draft)
    seconds = time.monotonic() - started
    if not was_published:
        metrics.gauge("stage_seconds", seconds, stage=stage.name)
    metrics.tell_traffic()
    return StageResult(
        stage=stage.name,
        directory=stage.directory,
        seconds=seconds,
        was_published=was_published,
        counts=stage.manifest().counts,
    )


def check_evaluation(run: Run) -> None:
    """Stop before hours of work if what the evaluation wants is not there; warn of a leak.

    Raises:
        ConfigError: a baseline wants a package that is not installed, or there is no GPU though
            `evaluate.device` asks for one.
        DataError: the graph has no pairs of `evaluate.split`, or no valid ones to choose the
            settings of a baseline by.
    """
    for kind in factorizations(run):
        require_package(kind)
    if run.config.evaluate.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "evaluate.device is cuda, but PyTorch finds no GPU here; set it to auto or cpu"
        )
    split = run.config.evaluate.split
    graph = Graph.open(run.graph.directory)
    counts = graph.counts.pairs.model_dump()
    for kind in factorizations(run):
        require_choice(len(grid(getattr(run.config.evaluate, kind))), counts["valid"])
    if not counts[split]:
        raise DataError(
            f"{run.graph.directory}: evaluate.split asks for {split}, but no pair has that split "
            f"(found {counts}); change evaluate.split, data.pairs or data.split"
        )
    if shows_pairs(graph, graph.pairs(split)):
        _log.warning(
            "evaluate: the items of every %s pair share a context in the training graph; if these "
            "pairs were made of data.edges, their edges give them away, and what is measured is "
            "too good: name the column of the context they come from (data.pairs.context), or "
            "leave data.pairs out, so that pairs are made of edges here",
            split,
        )


def _prepare_baselines(run: Run) -> None:
    """Publish what those methods need that are trained, unless it is there."""
    for kind in factorizations(run):
        _publish(factors_stage(run, kind), partial(fit_factors, run, kind))
    if "combined" in run.config.evaluate.baselines:
        for job in (ingest, walk, train, embed):
            job(run.combined)


def _ingest(run: Run, draft: Draft) -> None:
    config = run.config
    spread, basis = config.graph.build.spread, run.structure_basis()
    with session(config.ray) if spread else nullcontext():
        ingest_tables(
            config.data,
            draft,
            num_shards=config.graph.num_shards,
            seed=config.seed,
            structure=config.graph.structure,
            basis=None if basis is None else Graph.open(basis.directory),
            order=config.graph.order,
            build=config.graph.build,
            tasks=ClusterTasks if spread else None,
        )
    try:
        run.inputs.require_unchanged()
    except DataError:
        drop_draft(draft.path)
        raise
    note_as_of(run.graph.directory, run.inputs.as_of)


def _take_subgraph(run: Run, draft: Draft) -> None:
    assert run.config.subgraph is not None
    graph = Graph.open(run.graph.directory)
    take_subgraph(graph, draft, run.config.subgraph, seed=run.config.seed)
    _log.info(
        "training graph: %s of %s items, %s of %s edges",
        *(
            f"{count:,}"
            for name in ("items", "edges")
            for count in (draft.counts[name], graph.artifact.manifest.counts[name])
        ),
    )


def _walk(run: Run, graph: Path, draft: Draft) -> None:
    config = run.config
    with session(config.ray):
        walk_all(
            graph,
            draft,
            walk=config.walk,
            hard=config.hard_negatives,
            seed=config.seed,
            stores=config.stores,
        )
    opened = Graph.open(graph)
    cold = opened.cold_items()
    if cold is not None:
        write_cold_rows(cold, opened.adjacency(), draft, walk=config.walk, seed=config.seed)
    draft.counts |= neighborhood_counts(draft.path, opened)


def _train(run: Run, draft: Draft, keep_log: Path | None) -> None:
    config = run.config
    graph = Graph.open(run.training_graph.directory)
    check_trackers(config.train.trackers)
    if config.train.validation is not None:
        draw_sample(graph, config.train.validation, seed=config.seed)
    task = train_task(run)
    result = find_result(task)
    if result is None:
        with session(config.ray):
            result = run_training(task)
    shared.pull_file(task.checkpoints / LOG)
    for name in (WEIGHTS, SHAPE):
        with draft.file(name) as path:
            shutil.copyfile(result / name, path)
    last = task.folder.find().path or result
    state = load_progress(last)
    with draft.file(PROGRESS) as path:
        shutil.copyfile(last / PROGRESS, path)
    if keep_log is not None:
        keep_log.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(keep_log) as path:
            shutil.copyfile(task.checkpoints / LOG, path)
        shared.push(keep_log)
    with draft.file(LOG) as path:
        write_repeatable(task.checkpoints / LOG, path, last_step=state.step)
    draft.counts |= {"pairs": task.num_pairs, "steps": best_step(state, config.train)}


def train_task(run: Run) -> TrainTask:
    """Say what every worker of a run's training is told.

    Raises:
        DataError: there are no pairs to train on.
    """
    config = run.config
    graph = Graph.open(run.training_graph.directory)
    pairs = open_pairs(graph, config.train.minibatch.fresh_pairs, seed=config.training_seed)
    return TrainTask(
        producers=ProducerSpec(
            graph=run.training_graph.directory,
            neighborhoods=run.training_neighborhoods.directory,
            minibatch=config.train.minibatch,
            num_layers=config.model.num_layers,
            seed=config.training_seed,
        ),
        model=config.model,
        train=config.train,
        checkpoints=run.checkpoints,
        tensorboard=run.output / "tensorboard" / run.model.directory.name,
        settings=run.model.config
        | {
            "graph": run.training_graph.directory.name,
            "neighborhoods": run.training_neighborhoods.directory.name,
            "feature_width": graph.feature_width,
            "pairs": len(pairs),
        },
        num_pairs=len(pairs),
    )


def _embed(run: Run, draft: Draft, *, here: bool | None) -> None:
    _warn_of_other_directions(run)
    previous = run.previous_embeddings()
    spec = EmbedSpec(
        graph=run.graph.directory,
        neighborhoods=run.neighborhoods.directory,
        model=run.model.directory,
        folder=draft.scratch,
        parts=draft.path,
        config=run.config.embed,
        previous=None if previous is None else previous.path,
    )
    with whole_parents(draft, {} if previous is None else {"previous": previous}):
        embed_all(spec, draft, run.config.ray, here=here)


def _warn_of_other_directions(run: Run) -> None:
    """Tell of structural features that are not those which an older model has learned to read."""
    config = run.config
    if config.embed.model is None or config.graph.structure is None or config.subgraph is not None:
        return
    graph = run.graph.open().manifest
    trained_on = run.model.open().manifest.parents.get("graph")
    if trained_on not in {graph.digest, *graph.parents.values()}:
        _log.warning(
            "embed: %s was trained on another graph, whose structural features have other "
            "directions than this one's, so embeddings will be worse; set graph.structure.basis to "
            "the fingerprint of that graph",
            shown(run.model.directory),
        )


def _index(run: Run, draft: Draft) -> None:
    vectors = read_embeddings(run.embeddings.directory)
    built = build_index(vectors, run.config.index, seed=run.config.seed)
    save_index(built, draft)
    count = min(len(vectors), _RECALL_SAMPLE)
    draw = stream(run.config.seed, Stream.SAMPLE, Sample.RECALL)
    sample = draw.choice(len(vectors), count, replace=False)
    recall = measured_recall(built, k=_RECALL_K, sample=sample)
    metrics.gauge("index_recall", recall, k=str(_RECALL_K))
    draft.counts |= {
        "items": len(vectors),
        **built.about(),
        f"recall@{_RECALL_K}": recall,
    }

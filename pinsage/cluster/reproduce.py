"""The paper's offline tables on data of one's own: every method is an ordinary run of the pipeline.

All methods share one graph and one table of neighborhoods. Each is trained from several seeds, and
what it does on the held-out pairs is published beside the runs: a rerun skips what is done.
"""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from pinsage.base import shared
from pinsage.base.arrays import read_array
from pinsage.base.artifacts import Draft, fingerprint, open_artifact, publish, sole_writer
from pinsage.base.errors import DataError, WorkerTimeoutError
from pinsage.base.logs import Progress
from pinsage.base.machine import ALLOCATOR
from pinsage.base.seeding import Sample, Stream, stream
from pinsage.cluster import drivers
from pinsage.cluster.alone import train_alone
from pinsage.cluster.gpus import find_gpu
from pinsage.cluster.methods import feature_methods
from pinsage.cluster.paper_tables import (
    TRIAL,
    ReproduceConfig,
    Trial,
    by_model,
    ladder_trials,
    minibatch_trials,
    neighbor_trials,
)
from pinsage.cluster.run import Run, Stage
from pinsage.cluster.run_config import RunConfig
from pinsage.cluster.session import require_cpus, session
from pinsage.evaluation.baselines import EmbeddingCosine
from pinsage.evaluation.metrics import hit_values, scaled_reciprocal_values
from pinsage.evaluation.protocol import EvaluationConfig, HeldOut, hold_out, protocol_facts
from pinsage.evaluation.ranking import Ranks, Scorer, rank_and_recommend
from pinsage.evaluation.reproduction import Findings, Outcome, summarize
from pinsage.evaluation.reproduction_page import write_reproduction
from pinsage.evaluation.similarity import similarity_distribution
from pinsage.graph import Graph
from pinsage.graph.powerlaw_tables import write_power_law
from pinsage.graph.schema import LOG_DEGREE, STRUCTURE
from pinsage.inference.export import read_embeddings
from pinsage.training import load_progress
from pinsage.training.scalars import LOG, read_lines

REPRODUCTION = "reproduction"


def reproduce(config: ReproduceConfig) -> Path:
    """Run all that is not there yet, and publish the tables.

    Returns:
        The directory with `reproduce.json`, `reproduce.md`, `reproduce.html` and `ladder.svg`.

    Raises:
        PinsageError: as the stages of the pipeline do, and `check_reproduction`.
    """
    if config.synthetic is not None:
        write_power_law(config.synthetic)
    base = Run(config.run)
    base.save_config()
    drivers.ingest(base)
    check_reproduction(config)
    graph = Graph.open(base.graph.directory)
    groups = [group for group in graph.feature_columns if group not in {LOG_DEGREE, STRUCTURE}]
    tables = (ladder_trials(config, groups), neighbor_trials(config), minibatch_trials(config))
    trials = [trial for table in tables for trial in table]
    missing = {trial.stage.directory: trial for trial in trials if not trial.stage.is_done}
    if missing:
        with session(config.run.ray):
            drivers.walk(base)
            _run_all(list(missing.values()), config)
    return _publish_tables(config, graph, tables)


def check_reproduction(config: ReproduceConfig) -> None:
    """Stop before hours of work if what the tables want is not in the graph.

    Raises:
        ConfigError: there is no GPU though `evaluate.device` asks for one.
        DataError: the graph has no pairs of `evaluate.split`, or no valid ones for table 3.
    """
    # No table holds these baselines, so that nothing of theirs need be there.
    evaluation = config.run.evaluate.model_copy(update={"baselines": ()})
    run = Run(config.run.model_copy(update={"evaluate": evaluation}))
    drivers.check_evaluation(run)
    if config.minibatch_sizes and not Graph.open(run.graph.directory).counts.pairs.valid:
        raise DataError(
            f"{run.graph.directory}: table 3 looks at pairs of split valid while it trains, but "
            "there are none; set minibatch_sizes=[] to leave it out, or change data.pairs or "
            "data.split"
        )


def _run_all(trials: Sequence[Trial], config: ReproduceConfig) -> None:
    """Run trials side by side, those of a model in one process, in order of their start."""
    has_gpu = (
        any(map(wants_gpu, trials))
        and find_gpu("auto", 1, purpose="training", timeout_s=config.run.train.start_timeout_s)
        is not None
    )
    require_cpus(config.cpus_per_trial, purpose="a trial", setting="cpus_per_trial")
    remote = ray.remote(run_trials)

    def start(some: list[Trial]) -> Any:
        task = remote.options(
            num_cpus=config.cpus_per_trial,
            num_gpus=int(has_gpu and wants_gpu(some[0])),
            max_retries=config.run.train.max_failures,
            runtime_env={"env_vars": ALLOCATOR},
        )
        return task.remote(some, config.threads_per_trial)

    with Progress("reproduce", len(trials), "trials") as progress:
        running = {start(some): some for some in by_model(trials)}
        waiting = list(running)
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=config.trial_timeout_s)
            if not ready:
                raise WorkerTimeoutError(
                    f"no trial has ended for {config.trial_timeout_s:g} s; look for a lost node in "
                    "`ray status`, or raise trial_timeout_s"
                )
            ray.get(ready, timeout=config.trial_timeout_s)
            done = running[ready[0]]
            progress.advance(len(done), done[-1].label)


def wants_gpu(trial: Trial) -> bool:
    """Decide whether a trial is to have a GPU where there is one: to train, or to rank if told."""
    config = trial.run.config
    trains = trial.group is None and config.train.device != "cpu"
    return trains or config.evaluate.device == "cuda"


def run_trials(trials: Sequence[Trial], num_threads: int) -> None:
    """Run trials of one model in this process, those that are not published.

    Raises:
        ArtifactError: another process is training that model.
    """
    for trial in trials:
        # A task that Ray starts again, because its node was lost, may have published some.
        if not trial.stage.is_done:
            _run_trial(trial, num_threads)


def _run_trial(trial: Trial, num_threads: int) -> None:
    """Train and embed, if it is to be, rank the held-out pairs, and publish what came out."""
    run = trial.run
    if trial.group is None:
        with sole_writer(run.model.directory):
            if not run.model.is_done:
                train_alone(drivers.train_task(run), num_threads=num_threads)
        drivers.train(run, keep_log=trial.log)
        # In this process: a worker that waits for others would hold the CPUs that those wait for.
        drivers.embed(run, here=True)
    stage = trial.stage
    with publish(
        stage.directory, stage=stage.name, config=stage.config, parents=stage.open_parents()
    ) as draft:
        _measure(trial, draft)


def _measure(trial: Trial, draft: Draft) -> None:
    run = trial.run
    graph = Graph.open(run.graph.directory)
    scorer: Scorer = (
        EmbeddingCosine(read_embeddings(run.embeddings.directory))
        if trial.group is None
        else feature_methods(graph, trial.group)[trial.group]
    )
    held_out = _held_out(run.config, graph)
    ranks = rank_and_recommend(
        scorer,
        held_out.queries,
        held_out.positives,
        k=0,
        pool=held_out.pool,
        device=run.config.evaluate.torch_device(),
    ).ranks
    draft.write_array("ranks.npy", np.stack([ranks.better, ranks.tied]))
    draft.counts |= {
        "method": trial.method,
        "candidates": ranks.num_candidates,
        "similarity": similarity_distribution(
            scorer.vectors, stream(run.config.seed, Stream.SAMPLE, Sample.SIMILARITY)
        )
        if isinstance(scorer, EmbeddingCosine)
        else None,
        "pace": _pace(trial) if trial.group is None else None,
    }


def _held_out(config: RunConfig, graph: Graph) -> HeldOut:
    pairs = graph.pairs(config.evaluate.split)
    return hold_out(pairs, graph.num_items, config.evaluate, seed=config.seed)


def _pace(trial: Trial) -> dict[str, Any]:
    """Read off the training log how long a step took, and how good the model was when."""
    shared.pull_file(trial.log)
    model = trial.run.model.open().path
    # Where that log was cleaned away, the one published with the model has all but the pace.
    lines = read_lines(trial.log) or read_lines(model / LOG)
    size = trial.run.config.train.minibatch.size
    paces = [line["pairs_per_s"] for line in lines if line.get("pairs_per_s")]
    return {
        # Those trained, which the model's own may be fewer than: its weights are the best seen.
        "steps": load_progress(model).step,
        "minibatch_size": size,
        "step_s": size / statistics.median(paces) if paces else None,
        "validations": [
            [line["step"], line["hit_rate"]] for line in lines if line.get("hit_rate") is not None
        ],
    }


def _publish_tables(
    config: ReproduceConfig, graph: Graph, tables: tuple[list[Trial], list[Trial], list[Trial]]
) -> Path:
    trials = [trial for table in tables for trial in table]
    settings = {
        "reproduce": config.model_dump(mode="json", exclude={"run": {"output", "ray"}}),
        "trials": sorted({trial.stage.directory.name for trial in trials}),
    }
    directory = config.run.output.resolve() / REPRODUCTION / fingerprint(REPRODUCTION, settings, {})
    stage = Stage(REPRODUCTION, directory, settings, ())
    if stage.is_done:
        return directory
    held_out = _held_out(config.run, graph)
    evaluation = config.run.evaluate
    protocol = protocol_facts(
        held_out,
        graph.pairs(evaluation.split),
        evaluation,
        data=config.run.name,
        seed=config.run.seed,
    )
    ladder, neighbors, minibatches = (_outcomes(table, evaluation) for table in tables)
    findings = Findings(
        ladder=ladder,
        neighbors=neighbors,
        minibatches=minibatches,
        content=[trial.method for trial in tables[0] if trial.group],
    )
    summary = summarize(
        findings,
        held_out.groups,
        protocol=protocol | {"seeds": list(config.seeds)} | _sizes(config),
        samples=evaluation.bootstrap_samples,
        seed=config.run.seed,
    )
    with publish(directory, stage=stage.name, config=settings, parents={}) as draft:
        write_reproduction(summary, draft)
    return directory


def _sizes(config: ReproduceConfig) -> dict[str, Any]:
    """Say what was trained, for the head of the page."""
    run = config.run
    return {
        "num_layers": run.model.num_layers,
        "projected_width": run.model.projected_width,
        "embedding_width": run.model.embedding_width,
        "num_neighbors": run.train.minibatch.num_neighbors or run.walk.num_neighbors,
        "loss": run.train.loss.kind,
        "epochs": run.train.schedule.epochs,
        "minibatch_size": run.train.minibatch.size,
        "max_hard_negatives": run.train.minibatch.max_hard_negatives,
    }


def _outcomes(trials: Sequence[Trial], evaluation: EvaluationConfig) -> dict[str, Outcome]:
    """Open what the trials published, seed under seed."""
    by_method: dict[str, list[Trial]] = {}
    for trial in trials:
        by_method.setdefault(trial.method, []).append(trial)
    return {method: _outcome(same, evaluation) for method, same in by_method.items()}


def _outcome(trials: Sequence[Trial], evaluation: EvaluationConfig) -> Outcome:
    opened = [open_artifact(trial.stage.directory, stage=TRIAL) for trial in trials]
    values: dict[str, list[np.ndarray]] = {}
    for artifact in opened:
        better, tied = read_array(artifact.path / "ranks.npy")
        ranks = Ranks(better, tied, artifact.manifest.counts["candidates"])
        for metric, of_pairs in _metric_values(ranks, evaluation):
            values.setdefault(metric, []).append(of_pairs)
    counts = [artifact.manifest.counts for artifact in opened]
    return Outcome(
        values={metric: np.stack(rows) for metric, rows in values.items()},
        similarity=counts[0]["similarity"],
        paces=[one["pace"] for one in counts if one["pace"]],
    )


def _metric_values(ranks: Ranks, evaluation: EvaluationConfig) -> Iterator[tuple[str, np.ndarray]]:
    for k in evaluation.ks:
        yield f"hit_rate@{k}", hit_values(ranks, k)
    yield "scaled_mrr", scaled_reciprocal_values(ranks, evaluation.mrr_scale)

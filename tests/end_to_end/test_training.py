"""Training through the real driver on a real local Ray: killed, stopped, shared, impossible."""

import json
import os
import signal
import time
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from benchmarks.processes import actors
from pinsage.base.errors import ConfigError, DataError, NotFiniteError, ResourceError
from pinsage.cluster import drivers
from pinsage.cluster.run import Run
from pinsage.cluster.validator import Validator, draw_sample
from pinsage.evaluation.baselines import EmbeddingCosine
from pinsage.evaluation.metrics import hit_rate
from pinsage.evaluation.ranking import rank_pairs
from pinsage.graph import Graph
from pinsage.inference.export import read_embeddings
from pinsage.model.checkpoint import load_model
from pinsage.training.scalars import LOG, read_lines
from pinsage.training.validation import ValidationConfig
from tests.end_to_end.conftest import Finished
from tests.runs import SMOKE, smoke_run, start_job

pytestmark = pytest.mark.ray

OFTEN = "train.checkpoint_steps=1"


def wait_for_checkpoint(run: Run, *, after: int) -> int:
    """Give the step of a checkpoint later than one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        steps = [int(path.parent.name[5:]) for path in run.checkpoints.glob("step-*/manifest.json")]
        if max(steps, default=0) > after:
            return max(steps)
        time.sleep(0.01)
    raise AssertionError(f"no checkpoint after step {after} within two minutes")


def wait_for_actors(driver: int, name: str) -> list[int]:
    """Give the process ids of a driver's actors once there are some."""
    deadline = time.monotonic() + 120
    while not (found := actors(driver, name)):
        assert time.monotonic() < deadline, f"no {name} within two minutes"
        time.sleep(0.01)
    return found


def kill_actors(driver: int, name: str) -> None:
    found = actors(driver, name)
    assert found, name
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def test_a_run_killed_in_every_part_and_then_stopped_equals_an_unbroken_one_in_every_byte(
    finished: Finished, copy_of_graph: Path
) -> None:
    run = smoke_run(copy_of_graph, OFTEN)
    flags = [flag for setting in (f"output={copy_of_graph}", OFTEN) for flag in ("--set", setting)]
    job = start_job("ray_jobs.train", "--config", str(SMOKE), *flags)
    step = wait_for_checkpoint(run, after=0)
    kill_actors(job.pid, "Producer")
    step = wait_for_checkpoint(run, after=step + 2)
    kill_actors(job.pid, "RayTrainWorker")
    wait_for_checkpoint(run, after=step + 2)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    assert not run.model.is_done

    job = start_job("ray_jobs.train", "--config", str(SMOKE), *flags)
    (worker,) = wait_for_actors(job.pid, "RayTrainWorker")
    # The killed job's worker may have outlived it for a moment, but not until now.
    step = wait_for_checkpoint(run, after=0)
    wait_for_checkpoint(run, after=step)
    # Seventy steps are over in no time, less than finding a process takes: they wait until the
    # driver has heard.
    os.kill(worker, signal.SIGSTOP)
    job.send_signal(signal.SIGINT)
    assert job.stderr is not None
    lines = iter(job.stderr.readline, "")
    before = list(takewhile(lambda line: "stopping" not in line, lines))
    assert job.poll() is None, "".join(before)
    with suppress(ProcessLookupError):
        os.kill(worker, signal.SIGCONT)
    _, told = job.communicate(timeout=120)
    assert job.returncode == 130, told
    assert not run.model.is_done
    drivers.train(run)

    files = [r.model.open().manifest.files for r in (run, finished.run)]
    assert files[0] == files[1]
    assert LOG in files[0]
    assert not run.checkpoints.exists()


def test_two_elastic_workers_train_the_model_of_one(
    finished: Finished, copy_of_graph: Path
) -> None:
    run = smoke_run(
        copy_of_graph,
        "train.num_workers=[1, 2]",
        "train.num_producers=2",
        "train.validation={every_epochs: 4, sample: 100}",
        "train.trackers=[tensorboard]",
    )
    drivers.train(run)
    one, two = (load_file(r.model.directory / "weights.safetensors") for r in (finished.run, run))
    for name, value in one.items():
        # Seventy steps over kinks of ReLU and margin magnify what rounding does to a few weights.
        assert np.linalg.norm(two[name] - value) <= 0.1 * np.linalg.norm(value), name
    losses = [
        json.loads((r.model.directory / "progress.json").read_text())["losses"]
        for r in (finished.run, run)
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.01)
    lines = read_lines(run.model.directory / LOG)
    assert [line["step"] for line in lines] == [10, 20, 30, 36, 40, 50, 60, 70, 72]
    looks = [line["hit_rate"] for line in lines if "hit_rate" in line]
    assert len(looks) == 2
    assert looks[1] > 0.2
    assert list(run.output.glob("tensorboard/*/events*"))


@pytest.mark.parametrize("max_catalog", [300, 299])
def test_validation_finds_what_an_evaluation_of_the_same_pairs_finds(
    finished: Finished, tmp_path: Path, max_catalog: int
) -> None:
    run = finished.run
    graph = Graph.open(run.graph.directory)
    validator = Validator(
        graph=run.graph.directory,
        neighborhoods=run.neighborhoods.directory,
        config=ValidationConfig(sample=10_000, max_catalog=max_catalog),
        num_neighbors=None,
        folder=tmp_path / "rows",
        seed=0,
        device=torch.device("cpu"),
    )
    model = load_model(run.model.directory)
    found = [validator.hit_rate(model) for _ in range(2)]
    pairs = graph.pairs("valid")
    ranks = rank_pairs(
        EmbeddingCosine(read_embeddings(run.embeddings.directory)), pairs.queries, pairs.positives
    )
    assert found[0] == found[1]
    # One candidate less moves a rank by at most one.
    assert found[0] == pytest.approx(hit_rate(ranks, 10), abs=0 if max_catalog == 300 else 0.02)
    assert not (tmp_path / "rows").exists()
    model.second_output.weight.data.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="learning_rate"):
        validator.hit_rate(model)


def test_validation_looks_at_neighborhoods_of_training_whatever_the_catalog(
    finished: Finished, tmp_path: Path
) -> None:
    model = load_model(finished.run.model.directory)

    def look(*, max_catalog: int, num_neighbors: int | None) -> float:
        return Validator(
            graph=finished.run.graph.directory,
            neighborhoods=finished.run.neighborhoods.directory,
            config=ValidationConfig(sample=10_000, max_catalog=max_catalog),
            num_neighbors=num_neighbors,
            folder=tmp_path / "rows",
            seed=0,
            device=torch.device("cpu"),
        ).hit_rate(model)

    few, sampled = (look(max_catalog=size, num_neighbors=1) for size in (300, 299))
    assert few == pytest.approx(sampled, abs=0.02)
    assert few != look(max_catalog=300, num_neighbors=None)


def test_a_loss_that_is_not_finite_is_told_without_retries_or_a_published_model(
    copy_of_graph: Path,
) -> None:
    run = smoke_run(copy_of_graph, "train.schedule.learning_rate=1.0e+38", "train.num_workers=2")
    with pytest.raises(
        NotFiniteError, match=r"step \d of 72, epoch 1: .*train\.schedule\.learning_rate.*failed-"
    ):
        drivers.train(run)
    assert not run.model.is_done
    assert len(list(run.checkpoints.glob("failed-*/manifest.json"))) == 1


@pytest.mark.parametrize(
    ("setting", "error", "words"),
    [
        ("train.trackers=[mlflow]", ConfigError, "mlflow is not installed"),
        ("model.embedding_width=2000000", ResourceError, "cannot fit.*What would fit"),
    ],
)
def test_what_cannot_train_is_told_before_it_starts(
    copy_of_graph: Path, setting: str, error: type[Exception], words: str
) -> None:
    run = smoke_run(copy_of_graph, setting)
    with pytest.raises(error, match=words):
        drivers.train(run)
    assert not list(copy_of_graph.glob("checkpoints/*/step-*"))


def test_validation_without_valid_pairs_is_refused(tmp_path: Path) -> None:
    run = smoke_run(tmp_path, 'data.pairs.where=[[split, "!=", valid]]')
    drivers.ingest(run)
    with pytest.raises(DataError, match=r"none; change data\.pairs.*train\.validation=null"):
        draw_sample(Graph.open(run.graph.directory), ValidationConfig(), seed=0)


def test_training_on_some_contexts_embeds_and_judges_the_whole_catalog(tmp_path: Path) -> None:
    run = smoke_run(
        tmp_path, "subgraph={contexts: 0.3}", "train.schedule.epochs=2", "evaluate.num_sheets=0"
    )
    for job in drivers.JOBS.values():
        job(run)

    part, whole = Graph.open(run.training_graph.directory), Graph.open(run.graph.directory)
    assert part.num_edges < 0.6 * whole.num_edges
    model = run.model.open().manifest
    assert set(model.parents) == {"graph", "neighborhoods"}
    assert model.counts["pairs"] == len(part.pairs("train"))
    assert run.embeddings.open().manifest.counts["items"] == whole.num_items
    assert run.report.open().manifest.counts["candidates"] == whole.num_items - 1

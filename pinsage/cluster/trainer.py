"""What each training worker runs, and the driver that starts them (paper, section 3.3)."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch

from pinsage.base.artifacts import is_published, open_artifact, publish
from pinsage.base.errors import PinsageError, TrainingError, WorkerTimeoutError
from pinsage.base.logs import Progress
from pinsage.base.machine import ALLOCATOR
from pinsage.base.seeding import Stream, stream, stream_key
from pinsage.cluster.board import BoardActor, shown
from pinsage.cluster.producers import MinibatchStream, ProducerActor, ProducerSpec
from pinsage.cluster.session import require_cpus, threads_for
from pinsage.graph import Graph
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.training import (
    TrainConfig,
    TrainingState,
    TrainingStep,
    load_state,
    make_optimizer,
    save_state,
    train,
)

_CHECKPOINT_STAGE = "checkpoint"
_SCALE_SAMPLE = 100_000
_BOARD_INTERVAL_S = 0.3
_GRADIENT_TIMEOUT_S = 300
"""How long ranks wait for each other before the step counts as lost."""


@dataclass(frozen=True)
class TrainTask:
    """What every worker of one training is told."""

    producers: ProducerSpec
    model: ModelConfig
    train: TrainConfig
    checkpoints: Path
    steps_per_epoch: int
    num_workers: int

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.train.schedule.epochs


def run_training(task: TrainTask) -> Path:
    """Train on the cluster, going on from the newest checkpoint if there is one.

    Returns:
        The published checkpoint of the last step.

    Raises:
        ResourceError: the cluster is too small.
        TrainingError: too many workers were lost, or the loss is not finite.
    """
    final = task.checkpoints / _step_name(task.total_steps)
    if is_published(final):
        return final
    use_gpu = _use_gpu(task.train)
    require_cpus(task.num_workers, purpose="training", setting="train.num_workers")
    producers = [ProducerActor.remote(task.producers) for _ in range(task.train.num_producers)]
    board = BoardActor.remote()
    storage = task.checkpoints / ".ray-train"
    trainer = ray.train.torch.TorchTrainer(
        _train_worker,
        train_loop_config={"task": task, "producers": producers, "board": board},
        torch_config=ray.train.torch.TorchConfig(timeout_s=_GRADIENT_TIMEOUT_S),
        scaling_config=ray.train.ScalingConfig(num_workers=task.num_workers, use_gpu=use_gpu),
        run_config=ray.train.RunConfig(
            name="pinsage",
            # Ray Train wants a folder that all nodes share; all that counts is in checkpoints.
            storage_path=str(storage),
            failure_config=ray.train.FailureConfig(max_failures=task.train.max_failures),
            worker_runtime_env={"env_vars": ALLOCATOR},  # type: ignore[call-arg]
        ),
    )
    try:
        with shown(board, Progress("train", task.total_steps, "steps")):
            trainer.fit()
    except SystemExit as error:
        # Ray Train puts its own handler in place of ours: it ends the workers, then the process.
        raise KeyboardInterrupt from error
    except ray.train.TrainingFailedError as error:
        raise TrainingError(
            f"training stopped after {task.train.max_failures} lost workers: {error}; run it again "
            "to go on from the newest checkpoint"
        ) from error
    finally:
        for actor in (*producers, board):
            ray.kill(actor)
        shutil.rmtree(storage, ignore_errors=True)
    return final


def _train_worker(loop_config: dict[str, Any]) -> None:
    """Train as one rank.

    An error that no retry mends goes to the board and is raised, so that Ray Train takes the other
    ranks down too; workers that it then starts again find the board's error, and end at once.
    """
    board = loop_config["board"]
    *_, error = ray.get(board.read.remote(), timeout=60)
    if error is not None:
        return
    try:
        _train_rank(loop_config["task"], loop_config["producers"], board)
    except WorkerTimeoutError:
        raise
    except PinsageError as error:
        ray.get(board.fail.remote(error), timeout=60)
        raise


def _train_rank(task: TrainTask, producers: list[Any], board: Any) -> None:
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(threads_for(task.train.threads_per_worker, world_size))
    device = ray.train.torch.get_device()
    model = initial_model(task).to(device)
    optimizer = make_optimizer(model)
    state = resume(task.checkpoints, model, optimizer)
    minibatches = MinibatchStream(
        producers,
        first_step=state.step,
        last_step=task.total_steps,
        steps_per_epoch=task.steps_per_epoch,
        world_rank=rank,
        world_size=world_size,
        prefetch=task.train.prefetch,
        timeout_s=task.train.request_timeout_s,
        parts=task.train.accumulate,
    )
    started, written = time.monotonic(), 0.0

    def observe(state: TrainingState, *, loss: float) -> None:
        nonlocal written
        now = time.monotonic()
        if rank or (now - written < _BOARD_INTERVAL_S and state.step < task.total_steps):
            return
        written = now
        epoch = (state.step - 1) // task.steps_per_epoch + 1
        share = minibatches.wait_s / max(now - started, 1e-9)
        note = f"epoch {epoch}/{task.train.schedule.epochs}  loss {loss:.4f}  waits {share:.0%}"
        board.write.remote(state.step, note)

    def save(state: TrainingState) -> None:
        if rank == 0:
            save_checkpoint(task, state, model, optimizer)

    train(
        TrainingStep(
            ray.train.torch.prepare_model(model),
            optimizer,
            task.train.loss,
            device=device,
            world_size=world_size,
        ),
        state,
        minibatches,
        steps_per_epoch=task.steps_per_epoch,
        config=task.train,
        observe=observe,
        save=save,
    )
    if rank == 0:
        save_checkpoint(task, state, model, optimizer)


def initial_model(task: TrainTask) -> PinSage:
    """Make the network with its first weights, the same on every rank."""
    graph = Graph.open(task.producers.graph)
    # Torch's own initializers draw from its global stream, so that one is keyed here.
    torch.manual_seed(stream_key(task.producers.seed, Stream.WEIGHTS) >> 1)
    model = PinSage(task.model, graph.feature_width)
    if task.train.scale_features:
        count = min(graph.num_items, _SCALE_SAMPLE)
        chosen = stream(task.producers.seed, Stream.SAMPLE).choice(
            graph.num_items, count, replace=False
        )
        rows = graph.features().gather(np.sort(chosen)).astype(np.float64)
        model.set_feature_scale(
            torch.from_numpy(rows.mean(axis=0)).float(), torch.from_numpy(rows.std(axis=0)).float()
        )
    return model


def save_checkpoint(
    task: TrainTask, state: TrainingState, model: PinSage, optimizer: torch.optim.Optimizer
) -> None:
    """Publish the state after a step, and drop the oldest beyond the configured number."""
    directory = task.checkpoints / _step_name(state.step)
    if not is_published(directory):
        with publish(directory, stage=_CHECKPOINT_STAGE, config={}, parents={}) as draft:
            save_state(state, model, optimizer, draft)
            draft.counts["step"] = state.step
    for old in _published_checkpoints(task.checkpoints)[: -task.train.keep_checkpoints]:
        shutil.rmtree(old)


def resume(checkpoints: Path, model: PinSage, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Go on from the newest whole checkpoint, or from the start.

    Raises:
        ArtifactError: the newest checkpoint's files are not what its manifest says.
    """
    published = _published_checkpoints(checkpoints)
    if not published:
        return TrainingState(step=0, losses=[])
    newest = open_artifact(published[-1], stage=_CHECKPOINT_STAGE, check_digests=True)
    return load_state(newest.path, model, optimizer)


def _published_checkpoints(checkpoints: Path) -> list[Path]:
    return sorted(path for path in checkpoints.glob("step-*") if is_published(path))


def _step_name(step: int) -> str:
    return f"step-{step:09d}"


def _use_gpu(config: TrainConfig) -> bool:
    if config.device == "auto":
        return ray.cluster_resources().get("GPU", 0) >= config.num_workers
    return config.device == "cuda"

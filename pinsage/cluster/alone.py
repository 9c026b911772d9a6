"""Training in one process, without actors: for many small trainings side by side."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from pinsage.base import shared
from pinsage.base.artifacts import publish
from pinsage.cluster.producers import ProducerSpec
from pinsage.cluster.train_task import TrainTask, begin
from pinsage.cluster.trainer import log_values, open_validator
from pinsage.model.threads import kernels_run_side_by_side
from pinsage.sampling.minibatch import Minibatch
from pinsage.training import (
    BackgroundSaver,
    Hooks,
    Snapshot,
    TrainingState,
    TrainingStep,
    save_state,
    train,
)
from pinsage.training.pace import Pace
from pinsage.training.scalars import LOG, JsonLines


def train_alone(task: TrainTask, *, num_threads: int) -> None:
    """Train to the end as one worker would, from the newest checkpoint if there is one.

    It leaves what `run_training` leaves: the last checkpoint, which holds the same weights for the
    same number of threads, and the training log.

    Args:
        task: what to train; `accumulate`, workers and producers are of no account.
        num_threads: threads of the matrix products.

    Raises:
        NotFiniteError: the loss is not a finite number.
        TrainingError: a checkpoint cannot be written.
        ArtifactError: there are checkpoints, and none is whole or they are of other settings.
    """
    torch.set_num_threads(num_threads)
    device = torch.device("cuda" if _uses_gpu(task) else "cpu")
    model, optimizer, state = begin(task, task.folder.find().path, device)
    shared.pull_file(task.checkpoints / LOG)
    saver = BackgroundSaver(
        task.folder, Snapshot(model, optimizer), resumed_at=state.step if state.step else -1
    )
    validator = open_validator(task, device)
    log = JsonLines(task.checkpoints / LOG, first_step=state.step)
    pace, first = Pace(), state.step
    pace.mark(time.monotonic(), 0, 0.0)

    def observe(state: TrainingState, *, loss: float, learning_rate: float) -> None:
        pace.mark(time.monotonic(), (state.step - first) * task.pairs_per_step, 0.0)
        values = log_values(task, state, learning_rate, pace)
        if values:
            log.write(state.step, values)

    def keep_failed(state: TrainingState) -> str:
        directory = task.checkpoints / f"failed-{state.step + 1:09d}"
        if not directory.exists():
            with publish(directory, stage="checkpoint", config=task.settings, parents={}) as draft:
                save_state(state, model, optimizer, draft)
        return f"The state before that step is kept in {directory}"

    def validate() -> float:
        assert validator is not None
        return validator.hit_rate(model)

    try:
        train(
            TrainingStep(model, optimizer, task.train.loss, device=device, world_size=1),
            state,
            minibatches(task.producers, first, task.total_steps, task.steps_per_epoch),
            steps_per_epoch=task.steps_per_epoch,
            pairs_per_step=task.pairs_per_step,
            config=task.train.model_copy(update={"accumulate": 1}),
            hooks=Hooks(observe, saver.save, keep_failed, validate, wants_to_stop=lambda: False),
        )
        saver.save(state)
        saver.finish()
    finally:
        log.close()
        shared.push(task.checkpoints / LOG)


def minibatches(
    spec: ProducerSpec, first: int, last: int, steps_per_epoch: int
) -> Iterator[Minibatch]:
    """Build minibatches in order, the next one while this one is trained on if kernels allow it."""
    builder = spec.builder()

    def build(step: int) -> Minibatch:
        epoch, place = divmod(step, steps_per_epoch)
        return builder.build(epoch, place, world_rank=0, world_size=1)

    if not kernels_run_side_by_side():
        yield from map(build, range(first, last))
        return
    with ThreadPoolExecutor(1, thread_name_prefix="minibatch") as thread:
        coming = thread.submit(build, first) if first < last else None
        for step in range(first, last):
            assert coming is not None
            minibatch = coming.result()
            coming = thread.submit(build, step + 1) if step + 1 < last else None
            yield minibatch


def _uses_gpu(task: TrainTask) -> bool:
    return task.train.device != "cpu" and torch.cuda.is_available()

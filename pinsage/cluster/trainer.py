"""What each training worker runs (paper, section 3.3)."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from torch import distributed

from pinsage.base import shared
from pinsage.base.artifacts import publish
from pinsage.base.errors import (
    DISK_FULL,
    PinsageError,
    TrainingError,
    WorkerTimeoutError,
    what_failed,
)
from pinsage.cluster import metrics, watchdog
from pinsage.cluster.board import Order, Start
from pinsage.cluster.heart import Heart
from pinsage.cluster.producers import MinibatchStream, PlacedProducer, with_nearby
from pinsage.cluster.resume import agreed_step, checkpoint_of, newest_step
from pinsage.cluster.session import threads_for
from pinsage.cluster.train_task import TrainTask, begin
from pinsage.cluster.validator import Validator
from pinsage.model.encoder import PinSage
from pinsage.model.ranks import is_shared
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
from pinsage.training.scalars import LOG, Scalars, open_scalars
from pinsage.training.state import LOG_STEPS

_BOARD_TIMEOUT_S = 60


def train_worker(loop_config: dict[str, Any]) -> None:
    """Train as one rank.

    An error that no retry mends goes to the board and ends this rank without raising, for Ray Train
    would start everything again. Most come to all ranks at once; where one comes to one rank alone,
    the hearts of the others end them, and workers started again find the order to end.
    """
    board = loop_config["board"]
    order = ray.get(board.order.remote(), timeout=_BOARD_TIMEOUT_S)
    if order is not Order.GO_ON:
        return
    try:
        _train_rank(loop_config["task"], loop_config["producers"], board)
    except (PinsageError, OSError, torch.OutOfMemoryError) as error:
        told = lasting(error)
        if told is None:
            raise
        ray.get(board.fail.remote(told), timeout=_BOARD_TIMEOUT_S)


def lasting(error: Exception) -> PinsageError | None:
    """Say what went wrong, if another worker would fare no better; None where one might."""
    if isinstance(error, WorkerTimeoutError):
        return None
    if isinstance(error, PinsageError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return TrainingError(
            f"a GPU has too little memory ({error}); raise train.accumulate or train.num_workers, "
            "which leave the result as it is, and run the same command again; or lower "
            "train.minibatch.size or train.minibatch.num_neighbors, and begin anew"
        )
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return TrainingError(f"{what_failed(error)}; make room, and run the same command again")
    return None


def _train_rank(task: TrainTask, producers: list[PlacedProducer], board: Any) -> None:
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    workers_here = context.get_local_world_size()
    torch.set_num_threads(threads_for(task.train.threads_per_worker, workers_here))
    device = ray.train.torch.get_device()

    def choose() -> int:
        return newest_step(task.folder, lambda text: _warn(board, text))

    step = agreed_step(choose, rank=rank, device=device)
    if step is None:
        # Rank 0 says why, on the board.
        return
    checkpoint = checkpoint_of(task.folder, step, rank=rank)
    model, optimizer, state = begin(task, checkpoint, device)
    ray.get(board.enter.remote(rank, Start(state.step, world_size)), timeout=_BOARD_TIMEOUT_S)
    heart = Heart(board, rank=rank, step=state.step)
    saver = BackgroundSaver(
        task.folder, Snapshot(model, optimizer), resumed_at=state.step if state.step else -1
    )
    try:
        node = ray.get_runtime_context().get_node_id()
        minibatches = MinibatchStream(
            with_nearby(producers, task.producers, node, num=task.train.num_producers),
            node=node,
            first_step=state.step,
            last_step=task.total_steps,
            steps_per_epoch=task.steps_per_epoch,
            world_rank=rank,
            world_size=world_size,
            prefetch=task.train.prefetch,
            timeout_s=task.train.request_timeout_s,
            parts=task.train.accumulate,
        )
        worker = _Worker(task, rank, model, optimizer, device, heart, saver, minibatches)
        training_step = TrainingStep(
            # The buffers are the features' scaling, the same on all ranks for ever.
            ray.train.torch.prepare_model(
                model, parallel_strategy_kwargs={"broadcast_buffers": False}
            ),
            optimizer,
            task.train.loss,
            device=device,
            world_size=world_size,
        )
        worker.run(training_step, state)
    finally:
        heart.close()


class _Worker:
    """The hooks of one rank's loop."""

    def __init__(
        self,
        task: TrainTask,
        rank: int,
        model: PinSage,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        heart: Heart,
        saver: BackgroundSaver,
        minibatches: MinibatchStream,
    ) -> None:
        self._task = task
        self._rank = rank
        self._model = model
        self._optimizer = optimizer
        self._device = device
        self._heart = heart
        self._saver = saver
        self._minibatches = minibatches
        self._pace = Pace()
        self._validator = None if rank else open_validator(task, device)
        self._scalars: Sequence[Scalars] = ()

    def run(self, step: TrainingStep, state: TrainingState) -> None:
        """Train to the end, or until asked to stop; every checkpoint is whole when this returns."""
        task = self._task
        if self._rank == 0:
            shared.pull_file(task.checkpoints / LOG)
            self._scalars = open_scalars(
                task.train.trackers,
                log=task.checkpoints / LOG,
                tensorboard=task.tensorboard,
                name=task.checkpoints.name,
                first_step=state.step,
            )
        self._pace.mark(time.monotonic(), 0, 0.0)
        first = state.step
        try:
            with self._heart.stage(watchdog.STEP):
                train(
                    step,
                    state,
                    self._watched(),
                    steps_per_epoch=task.steps_per_epoch,
                    pairs_per_step=task.pairs_per_step,
                    config=task.train,
                    hooks=Hooks(
                        observe=self._observer(first),
                        save=self.save,
                        keep_failed=self.keep_failed,
                        validate=self.validate,
                        wants_to_stop=self.wants_to_stop,
                    ),
                )
            self.save(state)
            with self._heart.stage(watchdog.SAVING):
                self._saver.finish()
        finally:
            for scalars in self._scalars:
                scalars.close()
            if self._rank == 0:
                shared.push(task.checkpoints / LOG)
                shared.push(task.tensorboard)

    def save(self, state: TrainingState) -> None:
        """Have rank 0 write a checkpoint in the background."""
        if self._rank == 0:
            with self._heart.stage(watchdog.SAVING):
                self._saver.save(state)

    def keep_failed(self, state: TrainingState) -> str:
        """Keep the state before a step that failed, where no resume looks for it."""
        directory = self._task.checkpoints / f"failed-{state.step + 1:09d}"
        if self._rank == 0 and not directory.exists():
            settings = self._task.settings
            with publish(directory, stage="checkpoint", config=settings, parents={}) as draft:
                save_state(state, self._model, self._optimizer, draft)
        return f"The state before that step is kept in {directory}"

    def validate(self) -> float:
        """Have rank 0 look at held-out pairs, and tell the others what it found."""
        found = torch.zeros(1, dtype=torch.float64, device=self._device)
        with self._heart.stage(watchdog.VALIDATING):
            if self._validator is not None:
                found += self._validator.hit_rate(self._model)
            if is_shared():
                distributed.broadcast(found, src=0)
        return found.item()

    def wants_to_stop(self) -> bool:
        """Tell whether this rank was asked to stop."""
        if self._rank == 0:
            self._saver.check()
        return self._heart.stopping

    def _watched(self) -> Iterator[Minibatch]:
        while True:
            with self._heart.stage(watchdog.WAITING):
                minibatch = next(self._minibatches, None)
            if minibatch is None:
                return
            yield minibatch

    def _observer(self, first: int) -> Any:
        task = self._task

        def observe(state: TrainingState, *, loss: float, learning_rate: float) -> None:
            self._heart.stepped(state.step)
            pairs = (state.step - first) * task.pairs_per_step
            self._pace.mark(time.monotonic(), pairs, self._minibatches.wait_s)
            self._heart.note = self._note(state, loss)
            self._log(state, learning_rate)
            self._tell(state, loss, learning_rate)

        return observe

    def _tell(self, state: TrainingState, loss: float, learning_rate: float) -> None:
        rank = str(self._rank)
        metrics.count("train_steps_total", 1, rank=rank)
        metrics.count("train_pairs_total", self._task.pairs_per_step, rank=rank)
        metrics.gauge("train_loss", loss, rank=rank)
        if state.step % LOG_STEPS:
            return
        metrics.gauge("train_learning_rate", learning_rate, rank=rank)
        metrics.count_up_to("train_wait_seconds_total", self._minibatches.wait_s, rank=rank)
        metrics.gauge("train_minibatches_ready", self._minibatches.num_ready(), rank=rank)
        if state.validations and self._task.train.validation is not None:
            k, hit_rate = self._task.train.validation.k, state.validations[-1].hit_rate
            metrics.gauge("train_hit_rate", hit_rate, rank=rank, k=str(k))
        metrics.tell_traffic()

    def _note(self, state: TrainingState, loss: float) -> str:
        epoch = (state.step - 1) // self._task.steps_per_epoch + 1
        parts = [
            f"epoch {epoch}/{self._task.train.schedule.epochs}",
            f"loss {loss:.4f}",
            f"{self._pace.pairs_per_s:,.0f} pairs/s",
            f"waits {self._pace.wait_share:.0%}",
        ]
        if state.validations and self._task.train.validation is not None:
            k = self._task.train.validation.k
            parts.append(f"hit-rate@{k} {state.validations[-1].hit_rate:.3f}")
        return "  ".join(parts)

    def _log(self, state: TrainingState, learning_rate: float) -> None:
        values = log_values(self._task, state, learning_rate, self._pace)
        if values:
            for scalars in self._scalars:
                scalars.write(state.step, values)


def log_values(
    task: TrainTask, state: TrainingState, learning_rate: float, pace: Pace
) -> dict[str, int | float]:
    """Give what the training log says of a step: nothing of most."""
    validated = bool(state.validations) and state.validations[-1].step == state.step
    values: dict[str, int | float] = {}
    if state.step % LOG_STEPS == 0:
        values |= {
            "epoch": (state.step - 1) // task.steps_per_epoch + 1,
            "loss": state.logged_loss / LOG_STEPS,
            "learning_rate": learning_rate,
            "pairs_per_s": round(pace.pairs_per_s, 1),
            "wait_share": round(pace.wait_share, 4),
        }
    if validated:
        values["hit_rate"] = state.validations[-1].hit_rate
    return values


def open_validator(task: TrainTask, device: torch.device) -> Validator | None:
    """Open what looks at held-out pairs; None if training does not look."""
    if task.train.validation is None:
        return None
    return Validator(
        graph=task.producers.graph,
        neighborhoods=task.producers.neighborhoods,
        config=task.train.validation,
        num_neighbors=task.train.minibatch.num_neighbors,
        folder=task.checkpoints / ".validation",
        seed=task.producers.seed,
        device=device,
    )


def _warn(board: Any, text: str) -> None:
    ray.get(board.warn.remote(text), timeout=_BOARD_TIMEOUT_S)

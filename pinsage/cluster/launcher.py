"""Starts the training workers, watches over them, and stops them."""

import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch

from pinsage.base import copies
from pinsage.base.errors import PinsageError, TrainingError, WorkerTimeoutError
from pinsage.base.logs import Progress
from pinsage.base.machine import ALLOCATOR
from pinsage.cluster.board import Beat, BoardActor, Start, View
from pinsage.cluster.gpus import Gpu, find_gpu
from pinsage.cluster.placement import place_beside_caller, require_room, worker_bundle
from pinsage.cluster.producers import start_producers
from pinsage.cluster.session import ray_storage
from pinsage.cluster.train_task import TrainTask
from pinsage.cluster.trainer import train_worker
from pinsage.cluster.watchdog import stuck
from pinsage.graph import Graph
from pinsage.sampling.neighborhood import Neighborhoods
from pinsage.training import best_step, is_finished, load_progress
from pinsage.training.loop import too_few_steps
from pinsage.training.memory import MemoryPlan, TrainingFacts, check_memory, doubts

_log = logging.getLogger(__name__)

_GRADIENT_TIMEOUT_S = 300.0
"""How long ranks wait for each other before the step counts as lost; at least until training counts
as stuck, since one of them may be validating."""

_LOOK_INTERVAL_S = 0.5
_READ_TIMEOUT_S = 60

_STOP_S = 20.0
"""How long the workers have to save a checkpoint and leave."""

_END_S = 20.0
"""How long the workers have to end once the work cannot go on."""

_HEALTH_INTERVAL_S = "0.5"
"""How often Ray Train looks whether a worker is lost; it has no other way to be told."""


def run_training(task: TrainTask) -> Path:
    """Train on the cluster, going on from the newest checkpoint if there is one.

    Interrupted, it has the workers save a checkpoint first.

    Returns:
        The published checkpoint whose weights are the model.

    Raises:
        ConfigError: `train.device` is `cuda`, but there is no GPU that can be used.
        ResourceError: the cluster has no room for the workers in time, or a node no memory.
        TrainingError: too many workers were lost, no step ended for too long, or a checkpoint
            cannot be written.
        NotFiniteError: the loss is not a finite number.
        ArtifactError: no checkpoint is whole, or they are of other settings.
        KeyboardInterrupt: it was interrupted.
    """
    gpu = find_gpu(
        task.train.device,
        task.train.fewest_workers,
        purpose="training",
        timeout_s=task.train.start_timeout_s,
    )
    use_gpu = gpu is not None
    _tell_plan(task, gpu)
    require_room(
        [worker_bundle(use_gpu=use_gpu)] * task.train.fewest_workers,
        purpose="training",
        setting="train.num_workers",
        timeout_setting="train.start_timeout_s",
        timeout_s=task.train.start_timeout_s,
    )
    producers = start_producers(task.producers, num_per_node=task.train.num_producers)
    board = BoardActor.options(scheduling_strategy=place_beside_caller()).remote()
    storage = task.checkpoints / ".ray-train"
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", _HEALTH_INTERVAL_S)
    workers = task.train.num_workers
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"task": task, "producers": producers, "board": board},
        torch_config=ray.train.torch.TorchConfig(
            timeout_s=math.ceil(max(_GRADIENT_TIMEOUT_S, task.train.stuck_after_s))
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,  # type: ignore[arg-type]  # a pair is new
            use_gpu=use_gpu,
            resources_per_worker=dict(worker_bundle(use_gpu=use_gpu)),
            # Near each other where they have GPUs; else on as many nodes' cores as there are.
            placement_strategy="PACK" if use_gpu else "SPREAD",
            elastic_resize_monitor_interval_s=task.train.resize_interval_s,  # type: ignore[call-arg]
        ),
        run_config=ray.train.RunConfig(
            name="pinsage",
            # Ray Train wants a folder that all nodes share; all that counts is in checkpoints.
            **ray_storage(storage),
            failure_config=ray.train.FailureConfig(max_failures=task.train.max_failures),
            worker_runtime_env={"env_vars": ALLOCATOR},  # type: ignore[call-arg]
        ),
    )
    try:
        _fit(trainer.fit, board, Progress("train", task.total_steps, "steps"), task)
    finally:
        for actor in (*(producer.actor for producer in producers), board):
            ray.kill(actor)
        shutil.rmtree(storage, ignore_errors=True)
        copies.remove_sent(storage)
    result = find_result(task)
    if result is None:
        raise TrainingError(
            f"{task.checkpoints}: the workers ended, but the last checkpoint is not there; run the "
            "same command again to go on"
        )
    return result


def _tell_plan(task: TrainTask, gpu: Gpu | None) -> None:
    """Say what training will hold, and warn of what may not fit or not do.

    Raises:
        ResourceError: it cannot fit.
    """
    _log.info("%s", _plan(task, gpu).line())
    few = too_few_steps(task.train, total=task.total_steps, pairs_per_step=task.pairs_per_step)
    if few is not None:
        _log.warning("%s", few)


def _plan(task: TrainTask, gpu: Gpu | None) -> MemoryPlan:
    """Add up what training will hold on a node of the cluster; warn of what may not fit.

    Raises:
        ResourceError: it cannot fit.
    """
    graph = Graph.open(task.producers.graph)
    table = Neighborhoods.open(task.producers.neighborhoods)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    kind = "CPU" if gpu is None else "GPU"
    with_room = [node for node in nodes if node.get(kind)] or nodes
    facts = TrainingFacts(
        num_items=graph.num_items,
        feature_width=graph.feature_width,
        num_pairs=task.num_pairs,
        num_neighbors=table.ids.shape[1],
        num_candidates=table.hard_negatives.shape[1],
        workers_per_node=most_on_a_node(
            task.train.most_workers, [node.get(kind, 0) for node in with_room], packed=bool(gpu)
        ),
        on_gpu=gpu is not None,
    )
    node_bytes, store_bytes = (
        min(int(node.get(memory, 0)) for node in with_room)
        for memory in ("memory", "object_store_memory")
    )
    plan = check_memory(task.model, task.train, facts, node_bytes=node_bytes)
    gpu_bytes = None if gpu is None else gpu.memory_bytes
    for text in doubts(plan, node_bytes=node_bytes, store_bytes=store_bytes, gpu_bytes=gpu_bytes):
        _log.warning("%s", text)
    return plan


def most_on_a_node(num_workers: int, room: Sequence[float], *, packed: bool) -> int:
    """Tell how many workers will share one node's memory, at most.

    Args:
        num_workers: most workers that there will be.
        room: how many of them each node has room for.
        packed: whether they stand together; if not, they are spread.

    >>> most_on_a_node(4, [8, 1], packed=True), most_on_a_node(4, [8, 1], packed=False)
    (4, 3)
    """
    largest = max(1, *map(int, room))
    if packed:
        return min(num_workers, largest)
    even = next(
        (each for each in range(1, largest + 1) if _placed(room, each) >= num_workers), largest
    )
    return min(num_workers, even)


def _placed(room: Sequence[float], each: int) -> int:
    """Count the workers that are placed with no more than so many on a node."""
    return sum(min(int(here), each) for here in room)


def find_result(task: TrainTask) -> Path | None:
    """Find the checkpoint whose weights are the model, if training has come to its end.

    Raises:
        ArtifactError: no checkpoint is whole, or they are of other settings.
    """
    newest = task.folder.find().path
    if newest is None:
        return None
    state = load_progress(newest)
    if not is_finished(state, task.train, total=task.total_steps):
        return None
    return task.folder.require(best_step(state, task.train))


def _fit(fit: Callable[[], Any], board: Any, progress: Progress, task: TrainTask) -> None:
    """Train on a thread, so that this one can show how it goes, and hear when to stop."""
    failures: list[BaseException] = []
    # Not `Thread.join`: one that is interrupted may take a thread that runs for one that has ended.
    ended = threading.Event()

    def work() -> None:
        try:
            fit()
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            failures.append(error)
        finally:
            ended.set()

    fitting = threading.Thread(target=work, name="fit", daemon=True)
    follower = Follower(board, progress, stuck_after_s=task.train.stuck_after_s)
    with progress:
        fitting.start()
        try:
            while not ended.wait(_LOOK_INTERVAL_S) and not follower.has_waited_to_end():
                follower.look()
        except KeyboardInterrupt:
            _stop(board, ended, follower)
            raise
        follower.look()
    if follower.error is not None:
        # Ray's own error, if there is one, only says that a worker failed.
        raise follower.error
    if failures:
        raise explained(failures[0], task) from failures[0]


class Follower:
    """Shows what is on the board, and looks for what is stuck."""

    def __init__(self, board: Any, progress: Progress, *, stuck_after_s: float) -> None:
        self.error: PinsageError | None = None
        self.num_starts = 0
        self._board = board
        self._progress = progress
        self._stuck_after_s = stuck_after_s
        self._warned = 0
        self._failed_at: float | None = None
        self._heard_at = time.monotonic()

    def look(self) -> None:
        """Look once; a board that is late may answer the next time."""
        with suppress(ray.exceptions.GetTimeoutError):
            self._look()

    def _look(self) -> None:
        view: View = ray.get(self._board.read.remote(), timeout=_READ_TIMEOUT_S)
        self.error = view.error
        if view.error is not None and self._failed_at is None:
            self._failed_at = time.monotonic()
        for text in view.warnings[self._warned :]:
            _log.warning("%s", text)
        self._warned = len(view.warnings)
        self._note_starts(view.starts)
        if 0 in view.beats:
            self._progress.set(view.beats[0].step, view.beats[0].note)
        error = self._too_late(list(view.beats.values()))
        if error is not None and view.error is None:
            ray.get(self._board.fail.remote(error), timeout=_READ_TIMEOUT_S)

    def _too_late(self, beats: Sequence[Beat]) -> TrainingError | None:
        """Say what has taken too long; workers that end while they start never say a word."""
        if beats:
            self._heard_at = time.monotonic()
        elif time.monotonic() - self._heard_at > self._stuck_after_s:
            return TrainingError(
                f"no worker has begun to train for {self._stuck_after_s:g} s: they wait for room, "
                "or end while they start; look at `ray status` and at Ray's logs of the workers "
                "(/tmp/ray/session_latest/logs), or raise train.stuck_after_s"
            )
        found = stuck(beats, after_s=self._stuck_after_s)
        if found is None:
            return None
        return TrainingError(
            f"no step has ended for {self._stuck_after_s:g} s ({found}); run the same command "
            "again to go on from the newest checkpoint, or raise train.stuck_after_s"
        )

    def _note_starts(self, starts: Sequence[Start]) -> None:
        if starts and not self.num_starts:
            self._progress.resume_at(starts[0].step)
        for before, now in pairwise(starts[max(self.num_starts - 1, 0) :]):
            _log.info(
                "training goes on from step %d with %d worker(s), before %d",
                now.step,
                now.num_workers,
                before.num_workers,
            )
        self.num_starts = len(starts)

    def has_waited_to_end(self) -> bool:
        """Tell whether the workers had their time to end after an error; one may be frozen."""
        return self._failed_at is not None and time.monotonic() - self._failed_at > _END_S


def _stop(board: Any, ended: threading.Event, follower: Follower) -> None:
    """Have the workers save a checkpoint, and wait until they have left."""
    if not follower.num_starts:
        return
    _log.info("stopping: the workers save a checkpoint")
    started = time.monotonic()
    # A board that is late may hear it all the same.
    with suppress(ray.exceptions.GetTimeoutError):
        ray.get(board.ask_to_stop.remote(), timeout=_READ_TIMEOUT_S)
    if ended.wait(_STOP_S):
        _log.info("saved and left in %.1f s", time.monotonic() - started)
    else:
        _log.warning("no checkpoint was saved within %.0f s; an older one is there", _STOP_S)


def explained(error: BaseException, task: TrainTask) -> PinsageError:
    """Say what an error of Ray Train means."""
    if isinstance(error, ray.train.ControllerError):
        return TrainingError(
            f"the training workers could not be started or brought together: "
            f"{error.controller_failure}; mend that, and run the same command again"
        )
    if isinstance(error, ray.exceptions.RayActorError):
        return TrainingError(
            "the process of Ray Train that leads the workers was lost (out of memory, or killed); "
            "run the same command again to go on from the newest checkpoint"
        )
    failures = getattr(error, "worker_failures", {})
    for failure in failures.values():
        if isinstance(failure, WorkerTimeoutError):
            return WorkerTimeoutError(str(failure))
    return TrainingError(
        f"training stopped: workers failed or were lost more than train.max_failures="
        f"{task.train.max_failures} times, the last time by: {error}; mend that if it is an error, "
        "and run it again to go on from the newest checkpoint"
    )

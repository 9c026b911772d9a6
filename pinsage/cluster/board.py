"""A board on which every training worker says how it does, and reads whether to go on."""

import time
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import ray

from pinsage.base.errors import PinsageError


class Order(Enum):
    """What a worker is to do."""

    GO_ON = "go on"
    STOP = "save a checkpoint, and stop"
    END = "end at once: the work cannot go on"


@dataclass(frozen=True)
class Beat:
    """What a worker says of itself twice a second.

    Attributes:
        rank: which worker.
        step: steps done.
        stage: what it is doing, as in "step" or "waiting for a minibatch".
        for_s: how long it has been doing that.
        since_step_s: how long ago its last step ended.
        note: for the progress line; rank 0's is shown.
        silent_s: how long ago it said so; the board counts.
    """

    rank: int
    step: int
    stage: str
    for_s: float
    since_step_s: float
    note: str = ""
    silent_s: float = 0.0


@dataclass(frozen=True)
class Start:
    """One start of the workers.

    Attributes:
        step: steps done before.
        num_workers: how many of them started.
    """

    step: int
    num_workers: int


@dataclass
class View:
    """All that is on the board.

    Attributes:
        starts: of the workers, in the order they came; every loss and every resize is one more.
        beats: the last one of each rank, its times counted up to now.
        warnings: in the order they came.
        error: why the work cannot go on.
    """

    starts: list[Start] = field(default_factory=list)
    beats: dict[int, Beat] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    error: PinsageError | None = None


class Board:
    """What the workers have said, and what they are to do."""

    def __init__(self) -> None:
        """Start empty."""
        self._view = View()
        self._heard: dict[int, float] = {}
        self._stopping = False

    def enter(self, rank: int, start: Start) -> Order:
        """Say that a worker starts, or starts again; ranks of an earlier start are forgotten."""
        if rank == 0:
            self._view.beats.clear()
            self._view.starts.append(start)
        return self.order()

    def beat(self, beat: Beat) -> Order:
        """Note how a worker does."""
        self._view.beats[beat.rank] = beat
        self._heard[beat.rank] = time.monotonic()
        return self.order()

    def order(self) -> Order:
        """Tell what workers are to do."""
        if self._view.error is not None:
            return Order.END
        return Order.STOP if self._stopping else Order.GO_ON

    def warn(self, text: str) -> None:
        """Say something that a person should read, once."""
        if text not in self._view.warnings:
            self._view.warnings.append(text)

    def fail(self, error: PinsageError) -> None:
        """Say why the work cannot go on, for an error that no retry mends; the first one counts."""
        self._view.error = self._view.error or error

    def ask_to_stop(self) -> None:
        """Have the workers save a checkpoint and stop."""
        self._stopping = True

    def read(self) -> View:
        """Give all of it, times counted up to now."""
        now = time.monotonic()
        beats = {}
        for rank, beat in self._view.beats.items():
            silent_s = now - self._heard[rank]
            beats[rank] = replace(
                beat,
                for_s=beat.for_s + silent_s,
                since_step_s=beat.since_step_s + silent_s,
                silent_s=silent_s,
            )
        return replace(self._view, beats=beats)


BoardActor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board)
"""`Board` behind a mailbox."""

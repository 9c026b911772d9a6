"""A worker's heart: tells the board how it does, and hears whether to go on."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pinsage.cluster.board import Beat, Order
from pinsage.cluster.watchdog import STARTING

_log = logging.getLogger(__name__)

_INTERVAL_S = 0.5
_REPLY_TIMEOUT_S = 60
_GRACE_S = 10.0
"""How long a worker has to end by itself once the work cannot go on."""


class Heart:
    """Beats on a thread of its own, so that a worker that is stuck is heard of, and can be ended.

    Attributes:
        note: for the progress line.
        stopping: True once workers are asked to save and stop.
    """

    def __init__(self, board: Any, *, rank: int, step: int) -> None:
        """Start to beat.

        Args:
            board: handle of a `BoardActor`.
            rank: whose heart.
            step: steps done before.
        """
        self.note = ""
        self.stopping = False
        self._board = board
        self._rank = rank
        self._step = step
        self._stage = (STARTING, time.monotonic())
        self._stepped = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)
        self._thread.start()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say what the worker does inside the block."""
        before = self._stage
        self._stage = (name, time.monotonic())
        try:
            yield
        finally:
            self._stage = (before[0], time.monotonic())

    def stepped(self, step: int) -> None:
        """Count a step."""
        self._step = step
        self._stepped = time.monotonic()

    def close(self) -> None:
        """Beat once more, and stop."""
        self._closed.set()
        self._thread.join(_REPLY_TIMEOUT_S)

    def _beat(self) -> None:
        while True:
            last = self._closed.wait(_INTERVAL_S)
            order = self._ask()
            self.stopping = self.stopping or order is Order.STOP
            if last:
                return
            if order is Order.END:
                # Nothing is asked of the board any more, which may be late, or gone.
                if not self._closed.wait(_GRACE_S):
                    # The main thread is stuck where no exception reaches it.
                    os._exit(1)
                return

    def _ask(self) -> Order:
        """Beat once; a board that is late may answer the next time."""
        try:
            order: Order = ray.get(self._board.beat.remote(self._now()), timeout=_REPLY_TIMEOUT_S)
        except (ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError):
            return Order.GO_ON
        except ray.exceptions.ActorDiedError:
            # Whoever started the work has left, and has taken the board with it.
            return Order.END
        except ray.exceptions.RayError:
            # A worker whose heart stops is taken for lost.
            _log.warning("the board could not be asked; asked again", exc_info=True)
            return Order.GO_ON
        return order

    def _now(self) -> Beat:
        now = time.monotonic()
        stage, since = self._stage
        return Beat(
            rank=self._rank,
            step=self._step,
            stage=stage,
            for_s=now - since,
            since_step_s=now - self._stepped,
            note=self.note,
        )

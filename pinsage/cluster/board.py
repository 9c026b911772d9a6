"""A board that a remote worker writes its progress on, and the driver reads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pinsage.base.errors import PinsageError
from pinsage.base.logs import Progress

_INTERVAL_S = 0.5


class Board:
    """The last word of a worker."""

    def __init__(self) -> None:
        """Start empty."""
        self._done = 0
        self._first: int | None = None
        self._note = ""
        self._error: PinsageError | None = None

    def write(self, done: int, note: str) -> None:
        """Say how much is done."""
        if self._first is None:
            self._first = done
        self._done, self._note = done, note

    def fail(self, error: PinsageError) -> None:
        """Say why the work cannot go on, for an error that no retry mends."""
        self._error = error

    def read(self) -> tuple[int | None, int, str, PinsageError | None]:
        """Give what the first word was, how much is done, the note, and the error if any."""
        return self._first, self._done, self._note, self._error


BoardActor: Any = ray.remote(num_cpus=0, max_restarts=-1)(Board)
"""`Board` behind a mailbox."""


@contextmanager
def shown(board: Any, progress: Progress) -> Iterator[None]:
    """Show a board's content on a progress line while the block runs.

    Raises:
        PinsageError: what the worker wrote as its error.
    """
    ended = threading.Event()

    def follow() -> None:
        resumed = False
        while not ended.wait(_INTERVAL_S):
            first, done, note, _ = ray.get(board.read.remote(), timeout=60)
            if first is None:
                continue
            if not resumed:
                progress.resume_at(first)
                resumed = True
            progress.set(done, note)

    reader = threading.Thread(target=follow, daemon=True)
    with progress:
        reader.start()
        try:
            yield
        finally:
            ended.set()
            reader.join()
            _, done, note, error = ray.get(board.read.remote(), timeout=60)
            progress.set(done, note)
            if error is not None:
                # Ray's own error, if there is one, only says that a worker failed.
                raise error

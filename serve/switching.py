"""What is served is switched to another generation: opened beside it, warmed up, swapped whole."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from pinsage.base import copies
from pinsage.base.addresses import place_of
from pinsage.base.errors import ArtifactError
from serve.answers import Answers
from serve.background import beside_requests
from serve.current import Current
from serve.generation import NEEDED_PARTS, Parts
from serve.generations import (
    Follow,
    UnknownGenerationError,
    decide,
    find,
    newest_digest,
    wanted_digest,
)
from serve.metrics import Metrics
from serve.pointer import Pointer, deciding, read_pointer, write_pointer

logger = logging.getLogger("pinsage.serve")

POLL_S = 0.2
"""How often a server looks whether something else was decided."""

_BUCKET_POLL_S = 5.0
"""The same where every look is two requests that are paid for."""

_RETRY_S = 5.0
_STOP_S = 5.0


class DamagedGenerationError(ArtifactError):
    """A generation that is published cannot be opened."""


class OvertakenError(RuntimeError):
    """While a generation was being opened, another one was decided on."""


@dataclass(frozen=True)
class Opening:
    """How generations become answers.

    Attributes:
        open: makes the answers of one generation, as it was published.
        applied: gives a copy with everything in force that was written since. It is called once the
            generation is open, which may take a while, and again, for the little that came since,
            while the copy is put in force and nobody else replaces what is.
    """

    open: Callable[[Parts], Answers]
    applied: Callable[[Answers], Answers] = lambda answers: answers


@dataclass(frozen=True)
class Failure:
    """A switch that came to nothing.

    Attributes:
        digest: the generation that was asked for.
        reason: why it isn't served.
    """

    digest: str
    reason: str


@dataclass(frozen=True)
class State:
    """What is served, and what is to be.

    Attributes:
        served: the digest of the generation in force here.
        previous: the one that a rollback goes to; None if nothing was decided yet.
        trouble: why what was decided isn't in force here; None if it is.
        failure: what became of the last switch asked for here, if nothing; None once another one is
            begun, or another generation in force.
    """

    served: str
    previous: str | None
    trouble: str | None
    failure: Failure | None


class Switcher:
    """Puts one generation after another in force, and keeps the one before open for a rollback.

    A decision is the file `serving.json`: `switch` writes it once the generation is open here, and
    every other server of the same folder, in a thread of its own, follows within `POLL_S` and the
    time it takes to open. What can't be opened changes nothing.
    """

    def __init__(
        self,
        current: Current,
        first: Answers,
        output: Path,
        opening: Opening,
        metrics: Metrics,
        *,
        follow: Follow,
    ) -> None:
        """Begin with what is in force; nothing is followed before `start`.

        Args:
            current: where answers are put in force.
            first: those in force now, as published.
            output: the run's folder.
            opening: how others are made.
            metrics: where it is told that something can't be followed.
            follow: see `serve.follow`.
        """
        self._current = current
        self._first = first.digest
        self._output = output
        self._opening = opening
        self._metrics = metrics
        self._follow: Follow = follow
        self._open = {first.digest: first}
        self._one_opens = threading.Lock()
        self._one_swaps = threading.Lock()
        self._trouble: str | None = None
        self._failure: Failure | None = None
        self._failed: str | None = None
        self._retry_at = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # ---- what is asked from outside

    @property
    def state(self) -> State:
        """Say what is served, and what is to be."""
        served = self._current.now.digest
        try:
            pointer = read_pointer(self._output)
        except ArtifactError as error:
            return State(served, None, str(error), self._failure)
        previous = pointer.previous if pointer else None
        return State(served, previous, self._trouble, self._failure)

    @property
    def output(self) -> Path:
        """The run's folder."""
        return self._output

    def switch(self, digest: str) -> None:
        """Decide on a generation; returns when it is in force here.

        Args:
            digest: names it.

        Raises:
            UnknownGenerationError: there is none of that name.
            DamagedGenerationError: it cannot be opened. In both cases nothing has changed.
            OvertakenError: another one was decided on meanwhile, which counts.
            OSError: the decision can't be written down.
        """
        before = self._pointer_or_none()
        answers = self._opened(digest)
        with self._one_swaps, deciding(self._output):
            now = self._pointer_or_none()
            if now != before and (now is None or now.generation != digest):
                self._discard(answers)
                raise OvertakenError(
                    f"while generation {digest} was being opened, another one was decided on"
                )
            self._hold(answers)
            self._decide(digest, now)
            self._put_in_force(answers)
            self._told(None)

    def begin(self, digest: str) -> Future[None]:
        """Start `switch` in a thread of its own; at once if the generation is open already."""
        done: Future[None] = Future()
        self._failure = None

        def work() -> None:
            try:
                self.switch(digest)
            except BaseException as error:  # noqa: BLE001 - raised where the answer is waited for
                # Whoever asked may have been answered that it is being opened.
                self._failure = Failure(digest, str(error))
                done.set_exception(error)
                logger.warning("generation %s isn't put in force: %s", digest, error)
            else:
                done.set_result(None)

        if digest in self._open:
            work()
        else:
            # Not of a pool, which would keep a process from ending before all is opened.
            threading.Thread(target=work, name="switch", daemon=True).start()
        return done

    def check(self) -> None:
        """Make sure that decisions are followed and questions answered.

        Raises:
            RuntimeError: the thread that follows has died.
        """
        if self._thread is not None and not self._thread.is_alive():
            raise RuntimeError("the thread that follows serving.json has died; its log says why")
        now = self._current.now
        key = now.starting_key(0.0)
        if key is not None:
            now.similar([key], 1, now.methods[0].name)

    # ---- the thread that follows

    def start(self) -> None:
        """Follow what is decided elsewhere, in a thread of its own."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="follow-generations", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, or leave it behind if it is opening something."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            self._thread = None

    def _run(self) -> None:
        poll_s = POLL_S if place_of(self._output) is None else _BUCKET_POLL_S
        while not self._stopping.wait(poll_s):
            self.follow()

    def follow(self) -> bool:
        """Look once at what is decided, and put it in force; says whether anything changed."""
        served = self._current.now.digest
        wanted = None
        try:
            wanted = self._wanted()
            if wanted is None or wanted == served:
                self._told(None)
                return False
            if wanted == self._failed and time.monotonic() < self._retry_at:
                return False
            return self._follow_to(self._opened(wanted))
        except (ArtifactError, UnknownGenerationError, OSError) as error:
            self._told(f"generation {served} stays in force: {error}")
            self._failed, self._retry_at = wanted, time.monotonic() + _RETRY_S
            return False

    def _follow_to(self, answers: Answers) -> bool:
        with self._one_swaps:
            before = self._pointer_or_none()
            if answers.digest != self._wanted():
                self._discard(answers)
                return False
            self._hold(answers)
            self._note_previous(answers.digest)
            if before is None or before.generation != answers.digest:
                # A newer one was published, and goes live by itself.
                with deciding(self._output):
                    if self._pointer_or_none() != before:
                        self._discard(answers)
                        return False
                    self._decide(answers.digest, before)
            changed = self._put_in_force(answers)
        self._told(None)
        return changed

    # ---- one step each

    def _wanted(self) -> str | None:
        pointer, newest = read_pointer(self._output), newest_digest(self._output)
        return wanted_digest(pointer, newest, first=self._first, follow=self._follow)

    def _pointer_or_none(self) -> Pointer | None:
        """Read the last decision; a damaged one is none, so that it can be mended from here."""
        try:
            return read_pointer(self._output)
        except ArtifactError as error:
            logger.warning("%s", error)
            return None

    def _hold(self, answers: Answers) -> None:
        """Hold the copies again: one closed since these were opened may have let go of them."""
        for stage in NEEDED_PARTS:
            copies.hold(answers.parts.directory(stage))

    def _decide(self, digest: str, before: Pointer | None) -> None:
        if before is not None and before.generation == digest:
            return
        # What was decided before, unless it could not be served.
        is_served = before is not None and self._trouble is None
        previous: str | None = self._current.now.digest
        if before and is_served:
            previous = before.generation
        elif previous == digest:
            # What is served is decided on, so that it stays: a rollback goes where it did before.
            previous = before.previous if before and before.previous != digest else None
        decide(self._output, digest, previous=previous)

    def _note_previous(self, digest: str) -> None:
        """Complete a decision made elsewhere, where nobody knew what was served before it."""
        served = self._current.now.digest
        try:
            with deciding(self._output):
                decided = self._pointer_or_none()
                is_bare = decided is not None and decided.previous is None
                if decided is not None and is_bare and decided.generation == digest != served:
                    write_pointer(self._output, decided.model_copy(update={"previous": served}))
        except OSError as error:
            logger.warning("what was served before, %s, can't be written down: %s", served, error)

    def _opened(self, digest: str) -> Answers:
        """Give the answers of a generation, up to date: it is open, or is opened now."""
        try:
            now = self._current.now
            known = now if now.digest == digest else self._open.get(digest)
            return self._newly_opened(digest) if known is None else self._opening.applied(known)
        except UnknownGenerationError:
            raise
        except Exception as error:
            # Whatever a damaged file makes its reader say.
            raise DamagedGenerationError(
                f"generation {digest} cannot be opened: {error}"
            ) from error

    def _newly_opened(self, digest: str) -> Answers:
        """Open a generation beside what is served."""
        with self._one_opens:
            if (known := self._open.get(digest)) is not None:
                return known
            began = time.monotonic()
            parts = find(self._output, digest)
            with beside_requests():
                answers = self._opening.open(parts)
                answers.warm_up(self._current.now)
                answers = self._opening.applied(answers)
            logger.info("generation %s opened in %.1f s", digest, time.monotonic() - began)
            return answers

    def _put_in_force(self, answers: Answers) -> bool:
        before = self._current.now.digest
        if before == answers.digest:
            self._discard(answers)
            return False
        self._open[answers.digest] = self._current.replace(lambda _: self._opening.applied(answers))
        self._failure = None
        logger.info("generation %s is served now, instead of %s", answers.digest, before)
        kept = {answers.digest, self.state.previous}
        for digest in [digest for digest in self._open if digest not in kept]:
            self._close(self._open.pop(digest))
        return True

    def _discard(self, answers: Answers) -> None:
        """Close what was opened in vain, unless a rollback goes to it."""
        if answers.digest in {self._current.now.digest, self.state.previous}:
            self._open.setdefault(answers.digest, answers)
        elif answers.digest not in self._open:
            self._close(answers)

    def _close(self, answers: Answers) -> None:
        """Close answers, and let go of the copies that only they were made from."""
        answers.close()
        kept = set().union(*(one.parts.directories for one in self._open.values()))
        for directory in answers.parts.directories - kept:
            copies.release(directory)

    def _told(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self._trouble:
            logger.error("%s", trouble)
        self._trouble = trouble
        self._metrics.behind(is_behind=trouble is not None)

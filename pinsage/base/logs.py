"""Log set-up, and one live progress line a stage."""

import logging
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TextIO

_PLAIN_INTERVAL_S = 10.0
"""How often a line is written where lines cannot be rewritten, as in a job's log file."""

_LIVE_INTERVAL_S = 0.1

_SETTLED_S = 1.0
"""A rate measured over less than this says nothing."""


def set_up_logging(level: int = logging.INFO) -> None:
    """Send this project's log records to standard error, one plain line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger("pinsage")
    root.handlers = [handler]
    root.setLevel(level)
    root.propagate = False


progress_watchers: list[Callable[[str, str, int, int], None]] = []
"""Are told of progress lines too: stage, unit, what is done, and of how much."""


@dataclass
class Progress:
    """One line that says what is done, how fast, and how long it will still take.

    On a terminal the line is rewritten in place; elsewhere a new one is written every
    ten seconds and at the end.
    """

    stage: str
    total: int
    unit: str
    out: TextIO = field(default_factory=lambda: sys.stderr)
    done: int = 0
    note: str = ""
    _started: float = field(default_factory=time.monotonic)
    _written: float = 0.0
    _shown: tuple[int, str] | None = None
    _first: int = 0

    def __enter__(self) -> "Progress":
        """Write the first line."""
        self._write(force=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the last line, and end it."""
        if self.out.isatty() or self._shown != (self.done, self.note):
            self._write(force=True)
        if self.out.isatty():
            self.out.write("\n")
            self.out.flush()

    def resume_at(self, done: int) -> None:
        """Say what an earlier run had done, so that the rate counts this run alone."""
        self.done = self._first = done
        self._started = time.monotonic()

    def set(self, done: int, note: str = "") -> None:
        """Move to `done` of `total`, with a note such as the current loss."""
        self.done = done
        self.note = note
        self._write(force=False)

    def advance(self, amount: int, note: str = "") -> None:
        """Move on by `amount`."""
        self.set(self.done + amount, note)

    def line(self) -> str:
        """Describe the state in one line."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = (self.done - self._first) / elapsed
        share = self.done / self.total if self.total else 1.0
        bar = ("#" * round(20 * share)).ljust(20, ".")
        parts = [
            f"{self.stage:<9} [{bar}] {share:4.0%}",
            f"{self.done:,}/{self.total:,} {self.unit}",
        ]
        if elapsed >= _SETTLED_S:
            parts.append(f"{_rate(rate)}/s")
        if 0 < self.done < self.total and rate > 0 and elapsed >= _SETTLED_S:
            parts.append(f"ETA {_duration((self.total - self.done) / rate)}")
        else:
            parts.append(_duration(elapsed))
        if self.note:
            parts.append(self.note)
        return "  ".join(parts)

    def _write(self, *, force: bool) -> None:
        live = self.out.isatty()
        now = time.monotonic()
        interval = _LIVE_INTERVAL_S if live else _PLAIN_INTERVAL_S
        if not force and now - self._written < interval:
            return
        self._written = now
        self._shown = (self.done, self.note)
        for tell in progress_watchers:
            tell(self.stage, self.unit, self.done, self.total)
        # A line that wraps could not be rewritten in place.
        width = shutil.get_terminal_size().columns - 1
        self.out.write(f"\r\x1b[2K{self.line()[:width]}" if live else f"{self.line()}\n")
        self.out.flush()


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"

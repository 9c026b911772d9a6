"""Log set-up, and one live progress line a stage; or, for log stores, one JSON object a line."""

import json
import logging
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

from pinsage.base.config import Config

_log = logging.getLogger(__name__)

_PLAIN_INTERVAL_S = 10.0
"""How often a line is written where lines cannot be rewritten, as in a job's log file."""

_LIVE_INTERVAL_S = 0.1

_SETTLED_S = 1.0
"""A rate measured over less than this says nothing."""


class LogConfig(Config):
    """How the log is written. No result depends on it."""

    format: Literal["text", "json"] = "text"
    """`text` is for people. With `json`, jobs, their workers and the server write one JSON object a
    line, with the run's id, and progress as numbers."""
    run_id: str | None = None
    """Names the run in every line of `json`; None takes the time of its start and a random end."""

    def resolved(self) -> "LogConfig":
        """Give the run an id if it has none."""
        now = datetime.now(UTC)
        named = self.run_id or f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        return self.model_copy(update={"run_id": named})


class JsonLine(logging.Formatter):
    """A record as one JSON object: when, how bad, who, which run, what; and numbers of progress."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id
        self._node = socket.gethostname()

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "run": self._run_id,
            "logger": record.name,
            "node": self._node,
            "process": record.process,
            "message": record.getMessage(),
        }
        progress = getattr(record, "progress", None)
        if progress is not None:
            told |= {"progress": progress}
        if record.exc_info:
            told |= {"exception": self.formatException(record.exc_info)}
        return json.dumps(told, default=str)


def set_up_logging(config: LogConfig | None = None, level: int = logging.INFO) -> LogConfig:
    """Send this project's log records to standard error, one line each.

    Returns:
        How it is written, with the run's id, for the workers of a run.
    """
    config = (config or LogConfig()).resolved()
    handler = logging.StreamHandler(sys.stderr)
    if config.format == "json":
        handler.setFormatter(JsonLine(str(config.run_id)))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger("pinsage")
    root.handlers = [handler]
    root.setLevel(level)
    root.propagate = False
    return config


def writes_json() -> bool:
    """Tell whether this process's log is JSON."""
    handlers = logging.getLogger("pinsage").handlers
    return any(isinstance(handler.formatter, JsonLine) for handler in handlers)


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
        if self.out.isatty() and not writes_json():
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
        live = self.out.isatty() and not writes_json()
        now = time.monotonic()
        interval = _LIVE_INTERVAL_S if live else _PLAIN_INTERVAL_S
        if not force and now - self._written < interval:
            return
        self._written = now
        self._shown = (self.done, self.note)
        for tell in progress_watchers:
            tell(self.stage, self.unit, self.done, self.total)
        if writes_json():
            numbers = {"stage": self.stage, "done": self.done, "total": self.total}
            numbers |= {"unit": self.unit, "note": self.note}
            _log.info("%s", self.line(), extra={"progress": numbers})
            return
        # A line that wraps could not be rewritten in place.
        width = shutil.get_terminal_size().columns - 1
        # Nobody may be there to read any more; the work goes on.
        with suppress(OSError):
            self.out.write(f"\r\x1b[2K{self.line()[:width]}" if live else f"{self.line()}\n")
            self.out.flush()


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"

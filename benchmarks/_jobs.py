"""Jobs of this project as processes, what they tell, and how far their trainings are."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinsage.cluster.run import Run
from pinsage.training.scalars import LOG, read_lines

_ROOT = Path(__file__).parents[1]
_LOOK_S = 0.05
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Told:
    """One line of a job, and when it came, by the monotonic clock."""

    at: float
    text: str


class Job:
    """A job that runs, and what it has told.

    Attributes:
        process: the job.
        told: its lines on the standard error, oldest first.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Listen to a process."""
        self.process = process
        self.told: list[Told] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_for(self, happened: Callable[[], Any], what: str) -> Any:
        """Wait until a function finds something.

        Raises:
            RuntimeError: it did not within minutes, or the job has ended.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while not (found := happened()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                lines = "\n".join(told.text for told in self.told[-20:])
                raise RuntimeError(f"waited in vain for {what}; the job told:\n{lines}")
            time.sleep(_LOOK_S)
        return found

    def find(self, text: str) -> Told | None:
        """Give the newest line that has a text."""
        return next((told for told in reversed(self.told) if text in told.text), None)

    @property
    def workers(self) -> list[int]:
        """Tell how many workers trained in turn; nothing if they started only once."""
        text = "\n".join(told.text for told in self.told)
        starts = re.findall(r"with (\d+) worker\(s\), before (\d+)", text)
        return [int(before) for _, before in starts[:1]] + [int(now) for now, _ in starts]

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(Told(time.monotonic(), line.rstrip()))


@contextmanager
def job(address: str, module: str, recipe: Path, *settings: str) -> Iterator[Job]:
    """Run `python -m <module>` on a cluster; it ends with the block.

    Args:
        address: the cluster's.
        module: the job.
        recipe: its `--config`.
        settings: further `a.b=value`.
    """
    command = [sys.executable, "-m", module, "--config", str(recipe)]
    process = subprocess.Popen(
        [*command, *(part for setting in settings for part in ("--set", setting))],
        cwd=_ROOT,
        env=os.environ | {"RAY_ADDRESS": address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Job(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def last_step(run: Run) -> int:
    """Read how far a training that runs has logged its steps; 0 before it starts."""
    log = run.checkpoints / LOG
    lines = read_lines(log) if log.exists() else []
    return int(lines[-1]["step"]) if lines else 0

"""A job of this project whose processes are killed, and which is started again and again."""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import actors, is_alive

_ROOT = Path(__file__).parents[1]
_LOOK_S = 0.01
_PATIENCE_S = 300.0
"""How long nothing may move before a benchmark gives up."""


@dataclass
class KilledJob:
    """A job on one output folder, started as often as need be.

    Attributes:
        module: `ray_jobs.train`, say.
        recipe: its `--config`.
        output: the folder.
        settings: further `a.b=value`.
        progress: how far the job has come.
        starts: how often it was started.
        process: the job's driver.
    """

    module: str
    recipe: Path
    output: Path
    settings: list[str]
    progress: Callable[[Path], int]
    starts: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start the driver."""
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self.starts += 1
        with (self.output / f"driver-{self.starts}.log").open("wb") as log:
            self.process = subprocess.Popen(
                command(self.module, self.recipe, self.output, self.settings),
                cwd=_ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def come_so_far(self) -> int:
        """Ask how far the job has come."""
        return self.progress(self.output)

    def kill(self, kind: str, title: str, rng: random.Random) -> None:
        """Kill a process, and start the driver again if it was that.

        Args:
            kind: `driver`, or what else to call a process.
            title: how the titles of Ray's processes of that kind begin; for the driver, those of
                the processes that it leaves behind.
            rng: chooses one of several.
        """
        if kind == "driver":
            left = actors(self.process.pid, title)
            self.process.kill()
            self.process.wait()
            self.start()
            # Ray takes seconds to notice, and until then the old workers go on.
            self.wait(lambda: not any(map(is_alive, left)))
            return
        found: list[int] = []

        def there() -> bool:
            found[:] = actors(self.process.pid, title)
            return bool(found)

        self.wait(there)
        os.kill(rng.choice(found), signal.SIGKILL)

    def wait(self, is_true: Callable[[], bool]) -> None:
        """Wait for something to happen to a job that is getting on.

        Raises:
            RuntimeError: it failed, or nothing moved for minutes.
        """
        last, since = -1, time.monotonic()
        while not is_true():
            code = self.process.poll()
            if code is not None and not (code == 0 and is_true()):
                log = self.output / f"driver-{self.starts}.log"
                raise RuntimeError(f"the job ended with {code}: {log.read_text()[-2000:]}")
            now = self.come_so_far()
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() - since > _PATIENCE_S:
                raise RuntimeError(f"nothing moved for {_PATIENCE_S:g} s at {now}")
            time.sleep(_LOOK_S)

    def wait_for_end(self) -> None:
        """Wait until the job is done.

        Raises:
            RuntimeError: it failed, or nothing moved for minutes.
        """
        self.wait(lambda: self.process.poll() is not None)


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        kind: what was killed.
        at: how far the job had come.
        back_s: seconds until it was further.
    """

    kind: str
    at: int
    back_s: float


def kill_when(
    job: KilledJob, kind: str, title: str, wanted: int, rng: random.Random, *, later_s: float
) -> Kill:
    """Kill a process once the job has come so far, and wait until it gets on.

    Args:
        job: that runs.
        kind: as for `KilledJob.kill`.
        title: as for `KilledJob.kill`.
        wanted: how far the job must have come.
        rng: chooses the process, and the moment.
        later_s: how long after that at most.
    """
    job.wait(lambda: job.come_so_far() >= wanted)
    time.sleep(rng.random() * later_s)
    started = time.monotonic()
    job.kill(kind, title, rng)
    at = job.come_so_far()
    job.wait(lambda: job.come_so_far() > at or job.process.poll() == 0)
    back_s = time.monotonic() - started
    print(f"killed a {kind} at {at}: {back_s:.1f} s", file=sys.stderr, flush=True)
    return Kill(kind, at, back_s)


def command(module: str, recipe: Path, output: Path, settings: Iterable[str]) -> list[str]:
    """Write a job's command line."""
    flags = [flag for one in (f"output={output}", *settings) for flag in ("--set", one)]
    return [sys.executable, "-m", module, "--config", str(recipe), *flags]


def run_before(stages: Iterable[str], recipe: Path, output: Path, settings: Iterable[str]) -> None:
    """Run the stages that come before the one that is killed."""
    for stage in stages:
        asked = command(f"ray_jobs.{stage}", recipe, output, settings)
        subprocess.run(asked, cwd=_ROOT, check=True, capture_output=True)


def published(output: Path, folder: str) -> dict[str, str]:
    """Give the digests of the files of a stage's one result."""
    (path,) = output.glob(f"{folder}/*/manifest.json")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    return {name: entry["sha256"] for name, entry in manifest["files"].items()}


def by_kind(kills: Iterable[Kill]) -> dict[str, list[float]]:
    """Group the seconds that kills cost."""
    found: dict[str, list[float]] = defaultdict(list)
    for kill in kills:
        found[kill.kind].append(kill.back_s)
    return found


def figures_of(
    kills: Sequence[Kill], chaos: KilledJob, *, is_equal: bool, alone_s: float, chaos_s: float
) -> dict[str, Any]:
    """Say what kills cost, and whether they changed anything.

    Args:
        kills: of the job.
        chaos: the job.
        is_equal: whether it published what the one that was left alone did.
        alone_s: how long that one took.
        chaos_s: how long the killed one took.
    """
    return {
        "bit_equal": int(is_equal),
        "kills": len(kills),
        "seconds_lost_per_kill": round((chaos_s - alone_s) / max(len(kills), 1), 2),
        "seconds_alone": round(alone_s, 1),
        "seconds_killed": round(chaos_s, 1),
        "driver_starts": chaos.starts,
        "seconds_back": {
            kind: round(statistics.median(found), 2) for kind, found in by_kind(kills).items()
        },
    }


def rows_of(kills: Iterable[Kill]) -> list[list[object]]:
    """Tabulate kills, with a head."""
    head: list[object] = ["killed", "times", "seconds to get back, median", "worst"]
    return [head] + [
        [kind, len(found), f"{statistics.median(found):.1f}", f"{max(found):.1f}"]
        for kind, found in by_kind(kills).items()
    ]

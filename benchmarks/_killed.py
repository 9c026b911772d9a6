"""A job of this project whose processes are killed, and which is started again and again."""

import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._timing import report
from benchmarks.processes import actors, is_alive

_ROOT = Path(__file__).parents[1]
_PUBLISHES = {"ingest": "graph", "walk": "neighborhoods", "train": "model", "embed": "embeddings"}
"""The folder of each stage's results."""

_LOOK_S = 0.01
_PATIENCE_S = 300.0
"""How long nothing may move before a benchmark gives up."""


@dataclass
class KilledJob:
    """A job on one output folder, started as often as need be.

    Attributes:
        stage: `train`, say.
        recipe: its `--config`.
        output: the folder.
        settings: further `a.b=value`.
        progress: how far the job has come.
        starts: how often it was started.
        process: the job's driver.
    """

    stage: str
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
                command(self.stage, self.recipe, self.output, self.settings),
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


def killed_beside(
    alone: KilledJob, chaos: KilledJob, kill_all: Callable[[KilledJob], list[Kill]]
) -> tuple[dict[str, Any], list[Kill]]:
    """Run a job and leave it alone, run it once more and kill it, and compare what they publish.

    Args:
        alone: the job that is left alone; the stages before it are run in its folder.
        chaos: the same job on another folder, which is to have the same inputs.
        kill_all: kills what runs as that, and tells.
    """
    for job in (alone, chaos):
        job.output.mkdir()
    for stage in itertools.takewhile(lambda stage: stage != alone.stage, _PUBLISHES):
        asked = command(stage, alone.recipe, alone.output, ())
        subprocess.run(asked, cwd=_ROOT, check=True, capture_output=True)
        made = _PUBLISHES[stage]
        (chaos.output / made).symlink_to(alone.output / made, target_is_directory=True)
    started = time.monotonic()
    alone.start()
    alone.wait_for_end()
    alone_s = time.monotonic() - started
    started = time.monotonic()
    chaos.start()
    kills = kill_all(chaos)
    chaos.wait_for_end()
    chaos_s = time.monotonic() - started
    is_equal = _published(alone) == _published(chaos)
    return _figures_of(kills, chaos, is_equal=is_equal, alone_s=alone_s, chaos_s=chaos_s), kills


def report_kills(
    what: str, kills: Sequence[Kill], figures: Mapping[str, Any], *, as_json: bool
) -> None:
    """Print what was killed, what it cost, and whether the result is the same.

    Args:
        what: the result.
        kills: of the job.
        figures: of `killed_beside`.
        as_json: whether to end with one line of JSON.
    """
    equal = "equal in every byte" if figures["bit_equal"] else "NOT EQUAL"
    title = (
        f"Killed {len(kills)} times, the {what}: {equal}; {figures['seconds_killed']} s instead of "
        f"{figures['seconds_alone']} s, {figures['seconds_lost_per_kill']} s a kill"
    )
    report(title, _rows_of(kills), figures, as_json=as_json)


def command(stage: str, recipe: Path, output: Path, settings: Iterable[str]) -> list[str]:
    """Write a stage's command line."""
    flags = [flag for one in (f"output={output}", *settings) for flag in ("--set", one)]
    return [sys.executable, "-m", f"ray_jobs.{stage}", "--config", str(recipe), *flags]


def _published(job: KilledJob) -> dict[str, str]:
    """Give the digests of the files of a stage's one result."""
    (path,) = job.output.glob(f"{_PUBLISHES[job.stage]}/*/manifest.json")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    return {name: entry["sha256"] for name, entry in manifest["files"].items()}


def _by_kind(kills: Iterable[Kill]) -> dict[str, list[float]]:
    """Group the seconds that kills cost."""
    found: dict[str, list[float]] = defaultdict(list)
    for kill in kills:
        found[kill.kind].append(kill.back_s)
    return found


def _figures_of(
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
            kind: round(statistics.median(found), 2) for kind, found in _by_kind(kills).items()
        },
    }


def _rows_of(kills: Iterable[Kill]) -> list[list[object]]:
    """Tabulate kills, with a head."""
    head: list[object] = ["killed", "times", "seconds to get back, median", "worst"]
    return [head] + [
        [kind, len(found), f"{statistics.median(found):.1f}", f"{max(found):.1f}"]
        for kind, found in _by_kind(kills).items()
    ]

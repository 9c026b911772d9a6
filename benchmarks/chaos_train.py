"""Training that is killed again and again, beside the same training left alone.

A made-up catalog is trained on twice by the real job on a Ray of its own. In the second run, at
random steps, a worker, a producer and the driver are killed in turn with SIGKILL. Ray and the job
bring back workers and producers; a driver is what a person would start again by the same command,
and this benchmark does. It reports whether the weights are equal in every bit, and what a kill
costs.
"""

import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._timing import parser, report
from benchmarks.processes import actors, is_alive

_ROOT = Path(__file__).parents[1]
_RECIPE = _ROOT / "ray_jobs" / "recipes" / "smoke.yaml"
_KINDS = {"worker": "RayTrainWorker", "producer": "Producer", "driver": ""}
_STEPS_PER_EPOCH = 9
_STEPS_BETWEEN_KILLS = 150
_LOOK_S = 0.02
_PATIENCE_S = 300.0
"""How long nothing may move before the benchmark gives up."""


@dataclass
class Job:
    """`ray_jobs.train` on one output folder, started as often as need be."""

    output: Path
    settings: list[str]
    starts: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start the driver."""
        flags = [flag for setting in self.settings for flag in ("--set", setting)]
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self.starts += 1
        with (self.output / f"driver-{self.starts}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ray_jobs.train", "--config", str(_RECIPE), *flags],
                cwd=_ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def step(self) -> int:
        """Read how far the training log has come; 0 before it starts."""
        for log in self.output.glob("checkpoints/*/train-log.jsonl"):
            for line in reversed(log.read_text(encoding="utf-8").splitlines()):
                try:
                    return int(json.loads(line)["step"])
                except ValueError:
                    # A kill cut the line.
                    continue
        return 0

    def files(self) -> dict[str, str]:
        """Digests of the published model's files."""
        (path,) = self.output.glob("model/*/manifest.json")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return {name: entry["sha256"] for name, entry in manifest["files"].items()}


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        kind: what was killed.
        step: where the training log stood.
        back_s: seconds until it stood beyond.
    """

    kind: str
    step: int
    back_s: float


def main() -> None:
    """Train, train and kill, compare."""
    flags = parser(__doc__)
    flags.add_argument("--kills", type=int, default=20, help="how many")
    flags.add_argument("--seed", type=int, default=0, help="decides the moments")
    arguments = flags.parse_args()
    with tempfile.TemporaryDirectory(prefix="pinsage-chaos-") as folder:
        _run(Path(folder), arguments.kills, arguments.seed, as_json=arguments.json)


def _run(folder: Path, kills: int, seed: int, *, as_json: bool) -> None:
    epochs = -(-(kills + 1) * _STEPS_BETWEEN_KILLS // _STEPS_PER_EPOCH)
    alone = _job(folder, "alone", epochs)
    for stage in ("ingest", "walk"):
        subprocess.run(
            [
                sys.executable,
                "-m",
                f"ray_jobs.{stage}",
                "--config",
                str(_RECIPE),
                "--set",
                f"output={alone.output}",
            ],
            cwd=_ROOT,
            check=True,
            capture_output=True,
        )
    started = time.monotonic()
    alone.start()
    _wait(alone, lambda: alone.process.poll() is not None)
    alone_s = time.monotonic() - started
    chaos = _job(folder, "chaos", epochs)
    for stage in ("graph", "neighborhoods"):
        (chaos.output / stage).symlink_to(alone.output / stage, target_is_directory=True)
    started = time.monotonic()
    done = list(_kill_all(chaos, kills, epochs * _STEPS_PER_EPOCH, random.Random(seed)))
    _wait(chaos, lambda: chaos.process.poll() is not None)
    chaos_s = time.monotonic() - started
    _report(alone, chaos, done, alone_s=alone_s, chaos_s=chaos_s, as_json=as_json)


def _job(folder: Path, name: str, epochs: int) -> Job:
    output = folder / name
    output.mkdir()
    settings = [
        f"output={output}",
        f"train.schedule.epochs={epochs}",
        "train.schedule.decay=0.99",
        "train.checkpoint_steps=10",
        "train.max_failures=-1",
        "train.num_producers=2",
    ]
    return Job(output, settings)


def _kill_all(job: Job, kills: int, total: int, rng: random.Random) -> Iterator[Kill]:
    """Kill in turn, each time at a random step of its stretch of the run."""
    job.start()
    stretch = total // (kills + 1)
    for number, kind in zip(range(kills), itertools.cycle(_KINDS), strict=False):
        step = number * stretch + rng.randrange(5, stretch)
        _wait(job, lambda: job.step() >= step)  # noqa: B023 - called before the next one
        time.sleep(rng.random() * 0.3)
        started = time.monotonic()
        _kill(job, kind, rng)
        at = job.step()
        _wait(job, lambda: job.step() > at)  # noqa: B023 - called before the next one
        back_s = time.monotonic() - started
        print(f"killed a {kind} at step {at}: {back_s:.1f} s", file=sys.stderr, flush=True)
        yield Kill(kind, at, back_s)


def _kill(job: Job, kind: str, rng: random.Random) -> None:
    if kind == "driver":
        workers = actors(job.process.pid, _KINDS["worker"])
        job.process.kill()
        job.process.wait()
        job.start()
        # Ray takes seconds to notice, and until then the old workers go on.
        _wait(job, lambda: not any(map(is_alive, workers)))
        return
    found: list[int] = []

    def there() -> bool:
        found[:] = actors(job.process.pid, _KINDS[kind])
        return bool(found)

    _wait(job, there)
    os.kill(rng.choice(found), signal.SIGKILL)


def _wait(job: Job, is_true: Callable[[], bool]) -> None:
    """Wait for something to happen to a job that is getting on.

    Raises:
        RuntimeError: it failed, or nothing moved for minutes.
    """
    last, since = -1, time.monotonic()
    while not is_true():
        code = job.process.poll()
        if code is not None and not (code == 0 and is_true()):
            log = job.output / f"driver-{job.starts}.log"
            raise RuntimeError(f"the job ended with {code}: {log.read_text()[-2000:]}")
        step = job.step()
        if step != last:
            last, since = step, time.monotonic()
        if time.monotonic() - since > _PATIENCE_S:
            raise RuntimeError(f"nothing moved for {_PATIENCE_S:g} s at step {step}")
        time.sleep(_LOOK_S)


def _report(
    alone: Job, chaos: Job, done: list[Kill], *, alone_s: float, chaos_s: float, as_json: bool
) -> None:
    by_kind: dict[str, list[float]] = defaultdict(list)
    for kill in done:
        by_kind[kill.kind].append(kill.back_s)
    rows: list[list[object]] = [["killed", "times", "seconds to get back, median", "worst"]]
    rows += [
        [kind, len(found), f"{statistics.median(found):.1f}", f"{max(found):.1f}"]
        for kind, found in by_kind.items()
    ]
    figures = {
        "bit_equal": int(alone.files() == chaos.files()),
        "kills": len(done),
        "seconds_lost_per_kill": round((chaos_s - alone_s) / max(len(done), 1), 2),
        "seconds_alone": round(alone_s, 1),
        "seconds_killed": round(chaos_s, 1),
        "driver_starts": chaos.starts,
        "seconds_back": {kind: round(statistics.median(s), 2) for kind, s in by_kind.items()},
    }
    equal = "equal in every byte" if figures["bit_equal"] else "NOT EQUAL"
    title = (
        f"Killed {len(done)} times: the model is {equal}; {chaos_s:.0f} s instead of {alone_s:.0f} "
        f"s, {figures['seconds_lost_per_kill']} s a kill"
    )
    report(title, rows, figures, as_json=as_json)


if __name__ == "__main__":
    main()

"""Training that is killed again and again, beside the same training left alone.

A made-up catalog is trained on twice by the real job on a Ray of its own. In the second run, at
random steps, a worker, a producer and the driver are killed in turn with SIGKILL. Ray and the job
bring back workers and producers; a driver is what a person would start again by the same command,
and this benchmark does. It reports whether the weights are equal in every bit, and what a kill
costs.
"""

import itertools
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._killed import (
    Kill,
    KilledJob,
    figures_of,
    kill_when,
    published,
    rows_of,
    run_before,
)
from benchmarks._timing import parser, report

_RECIPE = Path(__file__).parents[1] / "ray_jobs" / "recipes" / "smoke.yaml"
_KINDS = {"worker": "RayTrainWorker", "producer": "Producer", "driver": "RayTrainWorker"}
_STEPS_PER_EPOCH = 9
_STEPS_BETWEEN_KILLS = 150


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
    alone, chaos = (_job(folder / name, epochs) for name in ("alone", "chaos"))
    run_before(("ingest", "walk"), _RECIPE, alone.output, ())
    started = time.monotonic()
    alone.start()
    alone.wait_for_end()
    alone_s = time.monotonic() - started
    for stage in ("graph", "neighborhoods"):
        (chaos.output / stage).symlink_to(alone.output / stage, target_is_directory=True)
    started = time.monotonic()
    done = list(_kill_all(chaos, kills, epochs * _STEPS_PER_EPOCH, random.Random(seed)))
    chaos.wait_for_end()
    chaos_s = time.monotonic() - started
    _report(alone, chaos, done, alone_s=alone_s, chaos_s=chaos_s, as_json=as_json)


def _job(output: Path, epochs: int) -> KilledJob:
    output.mkdir()
    settings = [
        f"train.schedule.epochs={epochs}",
        "train.schedule.decay=0.99",
        "train.checkpoint_steps=10",
        "train.max_failures=-1",
        "train.num_producers=2",
    ]
    return KilledJob("ray_jobs.train", _RECIPE, output, settings, _last_step)


def _last_step(output: Path) -> int:
    """Read how far the training log has come; 0 before it starts."""
    for log in output.glob("checkpoints/*/train-log.jsonl"):
        for line in reversed(log.read_text(encoding="utf-8").splitlines()):
            try:
                return int(json.loads(line)["step"])
            except ValueError:
                # A kill cut the line.
                continue
    return 0


def _kill_all(job: KilledJob, kills: int, total: int, rng: random.Random) -> Iterator[Kill]:
    """Kill in turn, each time at a random step of its stretch of the run."""
    job.start()
    stretch = total // (kills + 1)
    for number, kind in zip(range(kills), itertools.cycle(_KINDS), strict=False):
        step = number * stretch + rng.randrange(5, stretch)
        yield kill_when(job, kind, _KINDS[kind], step, rng, later_s=0.3)


def _report(
    alone: KilledJob,
    chaos: KilledJob,
    done: list[Kill],
    *,
    alone_s: float,
    chaos_s: float,
    as_json: bool,
) -> None:
    is_equal = published(alone.output, "model") == published(chaos.output, "model")
    figures = figures_of(done, chaos, is_equal=is_equal, alone_s=alone_s, chaos_s=chaos_s)
    equal = "equal in every byte" if is_equal else "NOT EQUAL"
    title = (
        f"Killed {len(done)} times: the model is {equal}; {chaos_s:.0f} s instead of {alone_s:.0f} "
        f"s, {figures['seconds_lost_per_kill']} s a kill"
    )
    report(title, rows_of(done), figures, as_json=as_json)


if __name__ == "__main__":
    main()

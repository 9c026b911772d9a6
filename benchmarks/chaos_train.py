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
from pathlib import Path

from benchmarks._killed import Kill, KilledJob, kill_when, killed_beside, report_kills
from benchmarks._timing import parser

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
    epochs = -(-(arguments.kills + 1) * _STEPS_BETWEEN_KILLS // _STEPS_PER_EPOCH)
    with tempfile.TemporaryDirectory(prefix="pinsage-chaos-") as folder:
        alone, chaos = (_job(Path(folder) / name, epochs) for name in ("alone", "chaos"))
        figures, kills = killed_beside(
            alone,
            chaos,
            lambda job: _kill_all(job, epochs * _STEPS_PER_EPOCH, arguments.kills, arguments.seed),
        )
    report_kills("model", kills, figures, as_json=arguments.json)


def _job(output: Path, epochs: int) -> KilledJob:
    settings = [
        f"train.schedule.epochs={epochs}",
        "train.schedule.decay=0.99",
        "train.checkpoint_steps=10",
        "train.max_failures=-1",
        "train.num_producers=2",
    ]
    return KilledJob("train", _RECIPE, output, settings, _last_step)


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


def _kill_all(job: KilledJob, total: int, kills: int, seed: int) -> list[Kill]:
    """Kill in turn, each time at a random step of its stretch of the run."""
    rng = random.Random(seed)
    stretch = total // (kills + 1)
    done = []
    for number, kind in zip(range(kills), itertools.cycle(_KINDS), strict=False):
        step = number * stretch + rng.randrange(5, stretch)
        done.append(kill_when(job, kind, _KINDS[kind], step, rng, later_s=0.3))
    return done


if __name__ == "__main__":
    main()

"""How much time it saves that producers build minibatches while consumers train.

Run: `python -m benchmarks.overlap [--json]`.

A producer actor and a consumer of one thread each, on the shape of `benchmarks.train_step`. There a
step takes far longer than building its minibatch, so here the producer builds every one as many
times over as makes both sides cost the same. With the overlap off, a minibatch is asked for when
the step before it is done; with it on, as in training, while that step runs. Wall time, in turns.

`saved_share`: the share of the time that the overlap saves (wanted: >= 0.40; the paper: almost a
half). `cost_ratio`: a minibatch's time over a step's, with the overlap off.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba

from benchmarks import _training
from benchmarks._timing import median_ratio, parser, report, take_turns
from pinsage.sampling.minibatch import Minibatch, MinibatchBuilder
from pinsage.training import TrainingStep

_CALIBRATION = 8
_STEPS = 25
_PREFETCH = 2


@dataclass(frozen=True)
class CostlySpec:
    """A spec whose builder takes longer.

    Attributes:
        spec: of what it builds.
        times: how often it builds every minibatch.
    """

    spec: _training.WorldSpec
    times: int

    def builder(self) -> "CostlyBuilder":
        """Map the files, in the producer."""
        numba.set_num_threads(1)
        return CostlyBuilder(self.spec.builder(), self.times)


class CostlyBuilder:
    """Builds every minibatch several times."""

    def __init__(self, builder: MinibatchBuilder, times: int) -> None:
        """Hold the builder."""
        self._builder = builder
        self._times = times

    def build(self, epoch: int, step: int, *, world_rank: int, world_size: int) -> Minibatch:
        """Build one, and give the last of them."""
        for _ in range(self._times - 1):
            self._builder.build(epoch, step, world_rank=world_rank, world_size=world_size)
        return self._builder.build(epoch, step, world_rank=world_rank, world_size=world_size)


def main() -> None:
    """Time both, and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--rounds", type=int, default=5, help="turns of each candidate")
    flags.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "pinsage-benchmarks",
        help="where the graph, its table and features are kept between runs (0.5 GB)",
    )
    asked = flags.parse_args()
    _training.as_a_worker_starts()
    spec = _training.prepare(asked.folder)
    step = _training.make_step()
    with _training.producers_of(CostlySpec(spec, 1), 1) as producers:
        times = equal_cost(spec, producers, step)
    with _training.producers_of(CostlySpec(spec, times), 1) as producers:
        costs = []
        seconds = take_turns(
            {
                "off": lambda: costs.append(without_overlap(producers, step, _STEPS)),
                "on": lambda: with_overlap(producers, step),
            },
            rounds=asked.rounds,
            clock=time.perf_counter,
        )
    saved = 1 - 1 / median_ratio(seconds["off"], seconds["on"])
    cost_ratio = statistics.median(built / trained for built, trained in costs)
    off, on = (statistics.median(seconds[name]) / _STEPS * 1e3 for name in ("off", "on"))
    rows: list[tuple[object, ...]] = [
        ("what", "ms a step"),
        ("overlap off", f"{off:.1f}"),
        ("overlap on", f"{on:.1f}"),
        ("time saved (wanted: >= 40%)", f"{saved:.1%}"),
        ("minibatch's cost over step's", f"{cost_ratio:.2f}"),
    ]
    figures = {
        "saved_share": round(saved, 4),
        "cost_ratio": round(cost_ratio, 3),
        "off_ms": round(off, 1),
        "on_ms": round(on, 1),
        "builds_per_minibatch": times,
    }
    report("Producers and consumers, wall time", rows, figures, as_json=asked.json)


def equal_cost(spec: _training.WorldSpec, producers: list[Any], step: TrainingStep) -> int:
    """Find how often a minibatch must be built to take as long as a step."""
    without_overlap(producers, step, 2)
    got, trained = without_overlap(producers, step, _CALIBRATION)
    builder = spec.builder()
    builder.build(0, 0, world_rank=0, world_size=1)
    started = time.perf_counter()
    for number in range(_CALIBRATION):
        builder.build(0, number, world_rank=0, world_size=1)
    return 1 + max(round((trained - got) / (time.perf_counter() - started)), 0)


def without_overlap(producers: list[Any], step: TrainingStep, count: int) -> tuple[float, float]:
    """Train with one thing after another; gives the seconds for minibatches, and for steps."""
    got = trained = 0.0
    for number in range(count):
        started = time.perf_counter()
        minibatch = next(
            _training.minibatch_stream(producers, first=number, last=number + 1, prefetch=1)
        )
        ready = time.perf_counter()
        step.run(minibatch, learning_rate=1e-4)
        got += ready - started
        trained += time.perf_counter() - ready
    return got, trained


def with_overlap(producers: list[Any], step: TrainingStep) -> None:
    """Train as training does."""
    stream = _training.minibatch_stream(producers, first=0, last=_STEPS, prefetch=_PREFETCH)
    for minibatch in stream:
        step.run(minibatch, learning_rate=1e-4)


if __name__ == "__main__":
    main()

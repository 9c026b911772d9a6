"""One training step beside its own matrix products, and whether producers keep up with it.

Run: `python -m benchmarks.train_step [--json] [--dgl-python PATH --dgl-example FOLDER]`.

The shape is that of DGL's PinSAGE example on graph M (1M items, 10M edges): 512 pairs and 512
negatives, 64 features, hidden width 128, 2 layers of 10 neighbors. One thread, with the allocator
that training workers get.

`ratio_floor`: the step (forward, loss, backward, Adam) over its floor, which is nothing but the
matrix products of its linear layers, forward and back, on matrices of the same shapes; CPU time,
in turns. `wait_share`: of the wall time of steps fed by a producer actor, what was spent waiting
for it. `ratio_dgl`: the example's step, which walks for itself, over ours with the building of
the minibatch from the walked table; CPU time, in turns.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch

from benchmarks import _training
from benchmarks._timing import median_ratio, parser, report, take_turns
from pinsage.sampling.minibatch import Minibatch

_BUILT = 8
_WARM_UP, _FED = 10, 100


def main() -> None:
    """Time the step, and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--rounds", type=int, default=15, help="turns of each candidate")
    flags.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "pinsage-benchmarks",
        help="where the graph, its table and features are kept between runs (0.5 GB)",
    )
    flags.add_argument("--dgl-python", type=Path, help="an interpreter that has DGL 2.1")
    flags.add_argument("--dgl-example", type=Path, help="DGL's examples/pytorch/pinsage")
    asked = flags.parse_args()
    if (asked.dgl_python is None) != (asked.dgl_example is None):
        flags.error("--dgl-python and --dgl-example go together")
    _training.as_a_worker_starts()
    spec = _training.prepare(asked.folder)
    figures: dict[str, object] = {}
    rows: list[tuple[object, ...]] = [("what", "ms", "against it")]
    dgl = None
    if asked.dgl_python is not None:
        dgl = DglExample(asked.dgl_python, asked.folder / "M", asked.dgl_example)
    rows += time_step(spec, dgl, asked.rounds, figures)
    figures["wait_share"] = round(wait_share(spec), 4)
    rows.append(("waits for producers (wanted: < 0.05)", "", figures["wait_share"]))
    title = "A training step, graph M, batch 512, T=10, K=2, 64 to 128; one thread, CPU time"
    report(title, rows, figures, as_json=asked.json)


def time_step(
    spec: _training.WorldSpec,
    dgl: "DglExample | None",
    rounds: int,
    figures: dict[str, object],
) -> list[tuple[object, ...]]:
    """Time the step, the floor, the building, and the example if there is one, in turns."""
    builder = spec.builder()
    built = [builder.build(0, step, world_rank=0, world_size=1) for step in range(_BUILT)]
    step, minibatches, steps = _training.make_step(), cycle(built), cycle(range(_BUILT))
    candidates: dict[str, Callable[[], object]] = {
        "floor": matrix_products(built[0]),
        "step": lambda: step.run(next(minibatches), learning_rate=1e-4),
        "build": lambda: builder.build(0, next(steps), world_rank=0, world_size=1),
    }
    if dgl is not None:
        candidates["dgl"] = dgl.step
    seconds = take_turns(
        candidates,
        rounds=rounds,
        clock=lambda: time.process_time() + (dgl.cpu_s if dgl is not None else 0),
    )
    took = {name: statistics.median(found) * 1e3 for name, found in seconds.items()}
    figures |= {f"{name}_ms": round(found, 1) for name, found in took.items()}
    ratio = figures["ratio_floor"] = round(median_ratio(seconds["step"], seconds["floor"]), 3)
    rows: list[tuple[object, ...]] = [
        ("matrix products alone", f"{took['floor']:.1f}", ""),
        ("step (wanted: <= 1.25)", f"{took['step']:.1f}", f"{ratio:.2f}x"),
        ("building its minibatch", f"{took['build']:.1f}", ""),
    ]
    if dgl is not None:
        dgl.close()
        both = [a + b for a, b in zip(seconds["step"], seconds["build"], strict=True)]
        figures["ratio_dgl"] = round(median_ratio(seconds["dgl"], both), 2)
        rows.append((
            "DGL's example, against step and building (wanted: >= 6)",
            f"{took['dgl']:.1f}",
            f"{figures['ratio_dgl']}x",
        ))
    return rows


def matrix_products(minibatch: Minibatch) -> Callable[[], None]:
    """Make what runs the products of the step's linear layers, as a plain network has them."""
    width, hidden = _training.FEATURES, _training.HIDDEN
    shapes: list[tuple[int, int, int, bool]] = []
    for block in minibatch.blocks:
        # Features want no gradient, so the lowest projection has no product back to its input.
        wanted = bool(shapes)
        shapes += [
            (block.num_sources, width, hidden, wanted),
            (len(block.neighbors), width + hidden, hidden, True),
        ]
        width = hidden
    shapes += [(minibatch.num_seeds, hidden, hidden, True)] * 2
    layers = [
        (
            torch.randn(rows, wide),
            torch.randn(out, wide),
            torch.randn(rows, out),
            (torch.empty(rows, out), torch.empty(out, wide), torch.empty(rows, wide)),
            wanted,
        )
        for rows, wide, out, wanted in shapes
    ]

    def run() -> None:
        for inputs, weight, gradient, (outputs, to_weight, to_inputs), wanted in layers:
            torch.mm(inputs, weight.T, out=outputs)
            torch.mm(gradient.T, inputs, out=to_weight)
            if wanted:
                torch.mm(gradient, weight, out=to_inputs)

    return run


def wait_share(spec: _training.WorldSpec) -> float:
    """Train on what one producer actor builds, and tell the share of time spent waiting."""
    with _training.producers_of(spec, 1) as producers:
        minibatches = _training.minibatch_stream(
            producers, first=0, last=_WARM_UP + _FED, prefetch=2
        )
        step = _training.make_step()
        for _ in range(_WARM_UP):
            step.run(next(minibatches), learning_rate=1e-4)
        started, waited = time.perf_counter(), minibatches.wait_s
        for minibatch in minibatches:
            step.run(minibatch, learning_rate=1e-4)
        share: float = (minibatches.wait_s - waited) / (time.perf_counter() - started)
        return share


class DglExample:
    """DGL's example in an interpreter of its own, asked over a pipe."""

    def __init__(self, python: Path, graph_prefix: Path, example: Path) -> None:
        """Start the interpreter, load the graph and the example there.

        Raises:
            RuntimeError: it did not come up.
        """
        shape = {
            "pairs": _training.PAIRS,
            "features": _training.FEATURES,
            "hidden": _training.HIDDEN,
            "layers": _training.LAYERS,
            "num_neighbors": _training.NEIGHBORS,
            "num_walks": _training.NUM_WALKS,
            "walk_length": _training.WALK_LENGTH,
            "restart": _training.RESTART,
        }
        worker = Path(__file__).parent / "_dgl_train_worker.py"
        self._process = subprocess.Popen(
            [python, "-W", "ignore", worker, graph_prefix, example, json.dumps(shape)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
        self.cpu_s = 0.0
        self._answer()

    def step(self) -> None:
        """Have a step made, there; `cpu_s` grows by what it took."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.cpu_s += self._answer()

    def close(self) -> None:
        """End the interpreter."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{self._process.args!r} ended without an answer; is DGL 2.1 installed there, and "
                "is the folder its examples/pytorch/pinsage?"
            )
        return float(json.loads(line)["cpu_s"])


if __name__ == "__main__":
    main()

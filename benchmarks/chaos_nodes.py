"""Training on a cluster whose nodes go and come, beside the same training left alone.

Several Ray nodes on this machine, one CPU each. A made-up catalog is trained on by two workers on
two nodes, undisturbed; then again, while a node comes and one that trains is lost; then with one
to two workers (`train.num_workers=[1, 2]`), while one of two nodes is lost, and while a second
one comes. It reports how many workers there were at the end, what the change cost, and whether the
weights are those of the undisturbed run: with as many workers they must be, in every bit. With
others, gradients round differently, which hundreds of steps make large, so the loss is compared.
"""

import logging
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster
from safetensors.numpy import load_file

from benchmarks._timing import parser, report
from benchmarks.processes import actors
from pinsage.base.config import load_config
from pinsage.cluster import drivers
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig
from pinsage.model.checkpoint import WEIGHTS
from pinsage.training import load_progress
from pinsage.training.scalars import LOG, read_lines

_RECIPE = Path(__file__).parents[1] / "ray_jobs" / "recipes" / "smoke.yaml"
_NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
_LOOK_S = 0.1
_STORED_BYTES = 100 * 2**20


@dataclass(frozen=True)
class Outcome:
    """What came of one training.

    Attributes:
        name: what happened to it.
        seconds: from its start to its end.
        workers: how many worked at the end.
        equal: the weights are the undisturbed run's in every bit.
        loss: mean of the last epoch.
    """

    name: str
    seconds: float
    workers: int
    equal: bool
    loss: float


class Scene:
    """The cluster, and the folder its trainings publish into."""

    def __init__(self, folder: Path, epochs: int) -> None:
        """Start a head without CPUs and two nodes with one each."""
        self.folder = folder
        self.epochs = epochs
        head = {"num_cpus": 0, "object_store_memory": _STORED_BYTES}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add_node() for _ in range(2)]
        ray.init(self.cluster.address, log_to_driver=False, logging_level=logging.ERROR)

    def add_node(self) -> Any:
        """Add a node with one CPU."""
        node = self.cluster.add_node(**_NODE)
        self.cluster.wait_for_nodes()
        return node

    def lose_node(self) -> None:
        """Kill the oldest node with a CPU."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)

    def run(self, name: str, *settings: str) -> Run:
        """Describe a training of its own that shares the graph and its neighborhoods."""
        output = self.folder / name.replace(" ", "-")
        run = Run(
            load_config(
                RunConfig,
                _RECIPE,
                [
                    f"output={output}",
                    f"train.schedule.epochs={self.epochs}",
                    "train.schedule.decay=0.99",
                    "train.checkpoint_steps=10",
                    "train.max_failures=-1",
                    *settings,
                ],
            )
        )
        first = self.folder / "undisturbed"
        if output != first:
            output.mkdir()
            for stage in ("graph", "neighborhoods"):
                (output / stage).symlink_to(first / stage, target_is_directory=True)
        return run

    def train(self, name: str, happen: Callable[[], None], *settings: str) -> Outcome:
        """Train on a thread, and let something happen in the middle on this one.

        Ray wants nodes to be added on the main thread.
        """
        run = self.run(name, *settings)
        drivers.ingest(run)
        drivers.walk(run)
        middle = self.epochs * 9 // 2
        seen = [0]
        started = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            training = pool.submit(drivers.train, run)
            while not training.done() and _step_of(run) < middle:
                time.sleep(_LOOK_S)
            happen()
            while not training.done():
                seen.append(_num_workers(self.cluster) or seen[-1])
                time.sleep(_LOOK_S)
            training.result()
        ours, theirs = _weights(run.model.directory), _weights(self.run_of_undisturbed())
        return Outcome(
            name,
            seconds=time.monotonic() - started,
            workers=seen[-1],
            equal=all(np.array_equal(ours[name], theirs[name]) for name in theirs),
            loss=load_progress(run.model.directory).losses[-1],
        )

    def run_of_undisturbed(self) -> Path:
        """Find the model that all others are compared with."""
        (path,) = (self.folder / "undisturbed" / "model").glob("*/")
        return path


def main() -> None:
    """Train four times, and compare."""
    flags = parser(__doc__)
    flags.add_argument("--epochs", type=int, default=150, help="of 9 steps each")
    arguments = flags.parse_args()
    with tempfile.TemporaryDirectory(prefix="pinsage-nodes-") as folder:
        scene = Scene(Path(folder), arguments.epochs)
        try:
            outcomes = _four_trainings(scene)
        finally:
            ray.shutdown()
            scene.cluster.shutdown()
    _report(outcomes, as_json=arguments.json)


def _four_trainings(scene: Scene) -> list[Outcome]:
    def replace_a_node() -> None:
        scene.nodes.append(scene.add_node())
        scene.lose_node()

    def add() -> None:
        scene.nodes.append(scene.add_node())

    fixed, elastic = "train.num_workers=2", "train.num_workers=[1, 2]"
    happenings: list[tuple[str, Callable[[], None], str]] = [
        ("undisturbed", lambda: None, fixed),
        ("a node lost, another there", replace_a_node, fixed),
        ("one of two nodes lost", scene.lose_node, elastic),
        ("a second node came", add, elastic),
    ]
    outcomes = []
    for name, happen, workers in happenings:
        outcomes.append(scene.train(name, happen, workers))
    return outcomes


def _step_of(run: Run) -> int:
    log = run.checkpoints / LOG
    lines = read_lines(log) if log.exists() else []
    return int(lines[-1]["step"]) if lines else 0


def _num_workers(cluster: Cluster) -> int:
    roots = [
        process.process.pid
        for node in cluster.list_all_nodes()
        for process in node.all_processes.get("raylet", [])
    ]
    return sum(len(actors(root, "RayTrainWorker")) for root in roots)


def _weights(model: Path) -> dict[str, np.ndarray]:
    return load_file(model / WEIGHTS)


def _report(outcomes: list[Outcome], *, as_json: bool) -> None:
    rows: list[list[object]] = [["training", "seconds", "workers at the end", "loss", "weights"]]
    for outcome in outcomes:
        equal = "equal in every bit" if outcome.equal else "not the same"
        rows.append([
            outcome.name,
            f"{outcome.seconds:.0f}",
            outcome.workers,
            f"{outcome.loss:.4f}",
            equal,
        ])
    undisturbed, replaced, fewer, more = outcomes
    figures = {
        "bit_equal": int(replaced.equal),
        "seconds_to_replace": round(replaced.seconds - undisturbed.seconds, 1),
        "workers_after_a_loss": fewer.workers,
        "loss_ratio_after_a_loss": round(fewer.loss / undisturbed.loss, 4),
        "workers_after_growth": more.workers,
        "loss_ratio_after_growth": round(more.loss / undisturbed.loss, 4),
    }
    report("Nodes that go and come while training", rows, figures, as_json=as_json)


if __name__ == "__main__":
    main()

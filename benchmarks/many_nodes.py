"""One run on one machine and on a cluster of nodes that are lost and come: the same bytes?

Run: `python -m benchmarks.many_nodes [--json] [--quick] [--scenes ...] [--stages ...]`.

A made-up catalog goes through ingest, walk, train (two workers) and embed (two workers) on a Ray of
this machine alone. Then on a cluster of a head and three worker nodes (Ray nodes on this machine,
one CPU each), with the same recipe:

- `same`: as a submitted job, and nothing happens;
- `lost`: in each stage, in the middle of it, a worker node that works on it is killed, and a new
  one comes after the stage (`--stages` leaves some out);
- `elastic`: training with one to two workers on one node; a second node comes, then one is lost;
- `serve`: three replicas under load, one of whose nodes is killed.

`equal` says by scene and stage whether all published files have the same SHA-256 as those of the
one machine. `lost_s` is how much longer than in `same` a stage took that lost a node. `workers` is
how many trained in turn; `grown_s` is the time from the node's coming to a start of two workers,
`shrunk_s` from the loss to a start of one, and `loss_ratio` compares the last loss with the same
step's of the undisturbed training. Of the server, `requests` were answered, `failed` were not or
otherwise than with 200, for `failing_s` seconds, and after `back_s` there were three replicas
again. `--quick` is a small catalog, which one process walks and embeds on the one machine;
`--noticed-soon` has Ray notice lost nodes after 2 s.
"""

import json
import logging
import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks._jobs import Job, job, last_step
from benchmarks._load import Load, get, load
from benchmarks._nodes import Nodes, nodes
from benchmarks._served import write_served
from benchmarks._timing import parser, report
from benchmarks.serve import K, running
from pinsage.base.config import load_config
from pinsage.cluster import drivers
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RayConfig, RunConfig
from pinsage.cluster.session import session
from pinsage.graph.synthetic import write_tables
from pinsage.training.scalars import LOG, read_lines

SCENES = ("same", "lost", "elastic", "serve")
NUM_WORKERS = 3
_LOOK_S = 0.05
_PATIENCE_S = 300.0
_TITLES = {"ingest": "ray::", "walk": "ray::Store", "train": "ray::RayTrainWorker",
           "embed": "MapBatches"}  # fmt: skip
"""What the processes that work on a stage are called; whichever node has the first is lost."""

_FOLDERS = {"ingest": "graph", "walk": "neighborhoods", "train": "model", "embed": "embeddings"}
_PARTS = {"ingest": "structure/*.done", "walk": "weights-*", "embed": "*-*.done"}
"""What the parts of a stage's work leave behind."""

_CONNECTIONS = 8
_QUESTIONS = 2000


@dataclass(frozen=True)
class Size:
    """How large the catalog is, and how long things last.

    Attributes:
        items: in the catalog.
        epochs: of nine steps each.
        served: items that the server answers for.
        load_s: how long the server is under load.
        here: settings of the run on one machine alone.
    """

    items: int
    epochs: int
    served: int
    load_s: float
    here: tuple[str, ...] = ()


FULL = Size(items=40_000, epochs=30, served=20_000, load_s=60.0)
QUICK = Size(
    items=17_000,
    epochs=10,
    served=2_000,
    load_s=30.0,
    here=("stores.mode=local", "embed.num_workers=null"),
)


@dataclass
class Scene:
    """The folder that all runs publish into, their recipe, and what came of them.

    Attributes:
        folder: one folder in it for each run.
        size: of the catalog.
        stages: those in which `lost` loses a node.
        seconds: by scene and stage.
        equal: by scene and stage, whether the files are those of the one machine.
        figures: all else, for the report.
    """

    folder: Path
    size: Size
    stages: Sequence[str] = tuple(_TITLES)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    equal: dict[str, dict[str, bool]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> Path:
        """The one recipe of all runs."""
        return self.folder / "recipe.yaml"

    def run(self, name: str, *settings: str) -> Run:
        """Describe a run with a folder of its own."""
        return Run(load_config(RunConfig, self.recipe, [f"output={self.folder / name}", *settings]))

    def note(self, name: str, stage: str, seconds: float) -> None:
        """Keep how long a stage took, and compare what it published."""
        self.seconds.setdefault(name, {})[stage] = round(seconds, 1)
        ours, theirs = (_digests(self.run(one), stage) for one in (name, "here"))
        self.equal.setdefault(name, {})[stage] = ours == theirs


def write_recipe(scene: Scene) -> None:
    """Make the tables up, and write the recipe, in which work comes in many small parts."""
    data = write_tables(
        scene.folder / "tables", num_items=scene.size.items, num_contexts=scene.size.items // 4
    )
    recipe = {
        "name": "many nodes",
        "output": str(scene.folder / "run"),
        "data": data.model_dump(mode="json"),
        "graph": {
            "num_shards": NUM_WORKERS,
            "structure": {"width": 8, "passes": 2},
            "build": {"spread": True, "rows_per_part": 2_000, "edges_per_bucket": 2_000},
        },
        "walk": {"num_walks": 50, "num_neighbors": 10, "items_per_chunk": scene.size.items // 30},
        "hard_negatives": {
            "first_rank": 20, "last_rank": 60, "num_walks": 100, "num_candidates": 8,
        },
        "stores": {
            "mode": "sharded", "request_timeout_s": 120, "max_attempts": 20,
            # One chunk goes at a time.
            "visits_per_round": 100 * 8 * math.ceil(scene.size.items / 30 / NUM_WORKERS),
        },
        "model": {"num_layers": 2, "projected_width": 64, "embedding_width": 32},
        "train": {
            "minibatch": {"size": 256, "shared_negatives": 64, "max_hard_negatives": 2},
            "schedule": {"epochs": scene.size.epochs, "learning_rate": 0.01, "decay": 0.95},
            "num_workers": 2, "checkpoint_steps": 10, "max_failures": -1,
            "start_timeout_s": 120, "resize_interval_s": 5,
        },
        "embed": {"num_workers": 2, "items_per_chunk": 8_192, "start_timeout_s": 120},
    }  # fmt: skip
    scene.recipe.write_text(yaml.safe_dump(recipe), encoding="utf-8")


def stages_here(scene: Scene) -> None:
    """Run all stages on a Ray of this machine alone."""
    run = scene.run("here", *scene.size.here)
    with session(RayConfig(address="local")):
        for stage in _TITLES:
            drivers.JOBS[stage](run)


def stages_undisturbed(scene: Scene, cluster: Nodes) -> None:
    """Run all stages on the cluster, as one submitted job."""
    output = scene.folder / "same"
    commands = [
        f"{sys.executable} -m ray_jobs.{stage} --config {scene.recipe} --set output={output}"
        for stage in _TITLES
    ]
    for line in cluster.submit(" && ".join(commands)).splitlines():
        if line.startswith("{"):
            said = json.loads(line)
            stage = next(job for job, folder in _FOLDERS.items() if folder == said["stage"])
            scene.note("same", stage, said["seconds"])


def stages_losing_nodes(scene: Scene, cluster: Nodes) -> None:
    """Run all stages on the cluster, each of which loses a node."""
    run = scene.run("lost")
    run.output.mkdir()
    for stage, title in _TITLES.items():
        if stage not in scene.stages:
            _share(scene, run, stage)
            continue
        seconds = _losing_a_node(cluster, run, stage, title)
        scene.note("lost", stage, seconds)
        cluster.to(NUM_WORKERS)
    if "same" in scene.seconds:
        scene.figures["lost_s"] = {
            stage: round(seconds - scene.seconds["same"][stage], 1)
            for stage, seconds in scene.seconds["lost"].items()
        }


def _share(scene: Scene, run: Run, stage: str) -> None:
    """Let a run find what the one machine has published of a stage."""
    folder = _FOLDERS[stage]
    (run.output / folder).symlink_to(scene.folder / "here" / folder, target_is_directory=True)


def _losing_a_node(cluster: Nodes, run: Run, stage: str, title: str) -> float:
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(drivers.JOBS[stage], run)
        # Found once: the process may end before its node does.
        while not (is_under_way(run, stage) and (node := cluster.find(title))):
            if working.done():
                working.result()
                raise RuntimeError(f"{stage} ended before a node could be lost")
            time.sleep(_LOOK_S)
        cluster.lose(node)
        working.result()
    return time.monotonic() - started


def is_under_way(run: Run, stage: str) -> bool:
    """Tell whether a part of a stage's work is done."""
    if stage == "train":
        return last_step(run) >= 3 * run.config.train.schedule.epochs
    pattern = f".*.partial/.scratch/{_PARTS[stage]}"
    return len(list((run.output / _FOLDERS[stage]).glob(pattern))) >= 3


def _digests(run: Run, stage: str) -> dict[str, str]:
    (published,) = (one for one in run.stages if one.name == _FOLDERS[stage])
    return {name: entry.sha256 for name, entry in published.open().manifest.files.items()}


def train_elastic(scene: Scene, cluster: Nodes) -> None:
    """Train with one to two workers while a node comes, and while one is lost; then stop."""
    cluster.to(1)
    settings = ["train.num_workers=[1, 2]", "train.schedule.epochs=100000"]
    run = scene.run("elastic", *settings)
    settings.append(f"output={run.output}")
    reference = scene.run("here")
    run.output.mkdir()
    for stage in ("ingest", "walk"):
        _share(scene, run, stage)
    with job(cluster.address, "ray_jobs.train", scene.recipe, *settings) as training:
        training.wait_for(lambda: last_step(run) >= 20, "step 20")
        came_at = time.monotonic()
        cluster.to(2)
        grown = training.wait_for(lambda: training.find("with 2 worker(s)"), "two workers")
        _wait_for_steps(training, run, 20)
        lost_at = time.monotonic()
        cluster.lose(cluster.find("ray::RayTrainWorker"))
        shrunk = training.wait_for(lambda: training.find("with 1 worker(s)"), "one worker")
        _wait_for_steps(training, run, 20)
        training.process.send_signal(signal.SIGINT)
        status = training.process.wait(_PATIENCE_S)
        workers = training.workers
    step, ratio = _loss_ratio(run, reference)
    scene.figures |= {
        "workers": workers,
        "grown_s": round(grown.at - came_at, 1),
        "shrunk_s": round(shrunk.at - lost_at, 1),
        "loss_ratio": ratio,
        "compared_at_step": step,
        "saved_when_stopped": bool(list(run.checkpoints.glob("step-*/manifest.json"))),
        "stopped_with": status,
    }
    cluster.to(NUM_WORKERS)


def _wait_for_steps(training: Job, run: Run, count: int) -> None:
    last = last_step(run) + count
    training.wait_for(lambda: last_step(run) >= last, f"step {last}")


def _loss_ratio(run: Run, reference: Run) -> tuple[int, float]:
    """Compare the losses of the last step that both training logs have."""
    ours = {line["step"]: line["loss"] for line in read_lines(run.checkpoints / LOG)}
    theirs = {line["step"]: line["loss"] for line in read_lines(reference.model.directory / LOG)}
    step = max(ours.keys() & theirs.keys())
    return int(step), round(ours[step] / theirs[step], 4)


def serve_losing_a_node(scene: Scene, cluster: Nodes) -> None:
    """Put load on three replicas on three nodes, and kill one of the nodes."""
    served = write_served(scene.folder / "served", num_items=scene.size.served, width=64)
    ids = np.random.default_rng(1).integers(0, served.num_items, _QUESTIONS)
    questions = [get(f"/v1/items/{served.key(int(i))}/similar?k={K}") for i in ids]
    settings = f"ray.address={cluster.address}"
    with running("proxy", served, settings, replicas=NUM_WORKERS) as server:
        _wait_until(lambda: sum(cluster.spread("ServeReplica")) == NUM_WORKERS)
        spread = cluster.spread("ServeReplica")
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(
                load, server.port, questions, connections=_CONNECTIONS, seconds=scene.size.load_s
            )
            time.sleep(scene.size.load_s / 4)
            cluster.lose(cluster.find("ServeReplica"))
            lost_at = time.monotonic()
            back = _wait_until(lambda: sum(cluster.spread("ServeReplica")) == NUM_WORKERS)
            back_s = round(time.monotonic() - lost_at, 1) if back else None
            met = loading.result()
    scene.figures |= _served_figures(met, spread, back_s)
    cluster.to(NUM_WORKERS)


def _served_figures(met: Load, spread: list[int], back_s: float | None) -> dict[str, Any]:
    times = met.failed_at_s
    return {
        "replicas_on_nodes": spread,
        "requests": len(met.latencies_s),
        "failed": met.failed,
        "failing_s": round(max(times) - min(times), 2) if times else 0.0,
        "slowest_s": round(max(met.latencies_s), 2),
        "back_s": back_s,
    }


def _wait_until(is_true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


_PLAYED: dict[str, Callable[[Scene, Nodes], None]] = {
    "same": stages_undisturbed,
    "lost": stages_losing_nodes,
    "elastic": train_elastic,
    "serve": serve_losing_a_node,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Play the scenes, and report."""
    flags = parser(__doc__)
    flags.add_argument("--quick", action="store_true", help="a small catalog")
    flags.add_argument("--noticed-soon", action="store_true", help="after 2 s, not after Ray's 15")
    flags.add_argument("--scenes", nargs="+", default=[*SCENES], choices=SCENES)
    flags.add_argument("--stages", nargs="+", default=[*_TITLES], choices=[*_TITLES])
    options = flags.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with tempfile.TemporaryDirectory(prefix="pinsage-nodes-") as folder:
        scene = Scene(Path(folder), QUICK if options.quick else FULL, options.stages)
        write_recipe(scene)
        stages_here(scene)
        takes_jobs = "same" in options.scenes
        with nodes(
            NUM_WORKERS, noticed_soon=options.noticed_soon, takes_jobs=takes_jobs
        ) as cluster:
            for name in options.scenes:
                _PLAYED[name](scene, cluster)
    _report(scene, as_json=options.json)


def _report(scene: Scene, *, as_json: bool) -> None:
    rows = [["scene", "stage", "seconds", "files"]]
    for name, stages in scene.seconds.items():
        for stage, seconds in stages.items():
            is_equal = "equal" if scene.equal[name][stage] else "not equal"
            rows.append([name, stage, f"{seconds:.1f}", is_equal])
    rows += [["", name, "", str(value)] for name, value in scene.figures.items()]
    figures = {"equal": scene.equal, "seconds": scene.seconds, **scene.figures}
    report("One machine beside a cluster that loses nodes", rows, figures, as_json=as_json)


if __name__ == "__main__":
    main()

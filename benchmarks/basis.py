"""An old model on a grown graph: with structural features in its own directions, and without.

On the bundled books, one epoch: a model is trained while only some of the shelves are there; then
the rest comes, and the whole graph is embedded with that model. `basis` gives items structural
features in the directions that the model has learned (`graph.structure.basis`); `none` finds
directions of the whole graph's own, as a run would without it. `before` is the model on its own
graph, `anew` one trained on the whole. hit-rates on valid pairs.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from benchmarks._timing import parser, report
from benchmarks.quality import metrics_of
from pinsage.base.config import load_config
from pinsage.cluster.drivers import JOBS
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig
from pinsage.cluster.session import session

_ROOT = Path(__file__).parents[1]
_RECIPE = _ROOT / "ray_jobs" / "recipes" / "goodbooks.yaml"
_SHELVES = _ROOT / "data" / "goodbooks" / "shelves.parquet"
_STAGES = ("ingest", "walk", "train", "embed", "evaluate")


def main() -> None:
    """Train on some shelves, embed all, and tabulate."""
    flags = parser(__doc__)
    flags.add_argument("--share", type=float, default=0.7, help="of the shelves, in training")
    flags.add_argument("--seed", type=int, default=0)
    arguments = flags.parse_args()
    with tempfile.TemporaryDirectory(prefix="pinsage-basis-") as name:
        found = measure(Path(name), arguments.share, arguments.seed)
    names = [metric for metric in found["anew"] if metric.startswith("hit_rate@")]
    rows: list[list[object]] = [["run", *names]]
    rows += [[run, *(f"{of[metric]:.4f}" for metric in names)] for run, of in found.items()]
    figures = {f"{run}_{metric}": of[metric] for run, of in found.items() for metric in names}
    title = f"Books, valid pairs: {arguments.share:.0%} of the shelves, then all"
    report(title, rows, {"share": arguments.share} | figures, as_json=arguments.json)


def measure(folder: Path, share: float, seed: int) -> dict[str, dict[str, float]]:
    """Give every run's metrics."""
    some = folder / "shelves.parquet"
    _write_some(some, share)

    def run(shelves: Path, *settings: str) -> Run:
        return _run(folder / "output", shelves, seed, settings)

    before = run(some)
    model = f"embed.model={before.model.directory.name}"
    basis = f"graph.structure.basis={before.graph.directory.name}"
    runs = {
        "before": before,
        "none": run(_SHELVES, model),
        "basis": run(_SHELVES, model, basis),
        "anew": run(_SHELVES),
    }
    return {name: metrics_of(one) for name, one in runs.items()}


def _write_some(path: Path, share: float) -> None:
    shelves = pq.read_table(_SHELVES)
    contexts = np.sort(pc.unique(shelves["context_id"]).to_numpy(zero_copy_only=False))
    kept = contexts[np.random.default_rng(0).random(len(contexts)) < share]
    pq.write_table(shelves.filter(pc.is_in(shelves["context_id"], pa.array(kept))), path)


def _run(output: Path, shelves: Path, seed: int, settings: tuple[str, ...]) -> Run:
    edges = yaml.safe_load(_RECIPE.read_text(encoding="utf-8"))["data"]["edges"]
    edges[0] |= {"path": str(shelves)}
    common = [
        f"output={output}",
        f"data.edges={json.dumps(edges)}",
        f"seed={seed}",
        "train.schedule.epochs=1",
        "train.schedule.warmup_epochs=0.4",
        "evaluate.split=valid",
        "evaluate.baselines=[popularity]",
    ]
    run = Run(load_config(RunConfig, _RECIPE, [*common, *settings]))
    with session(run.config.ray):
        for stage in _STAGES:
            JOBS[stage](run)
    return run


if __name__ == "__main__":
    main()

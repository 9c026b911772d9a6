"""What buys quality on the bundled books: one setting changed at a time, judged on valid pairs.

Every row is a run of the pipeline's own stages with the default recipe and the settings that the
row names, so it can be asked for by name and is found again once it is published. Nothing is chosen
on test pairs. `docs/quality.md` says what came of it.
"""

import json
from pathlib import Path

from benchmarks._timing import parser, report
from pinsage.base.config import load_config
from pinsage.cluster.drivers import JOBS
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig
from pinsage.cluster.session import session

_RECIPE = Path(__file__).parents[1] / "ray_jobs" / "recipes" / "goodbooks.yaml"

_STAGES = ("ingest", "walk", "train", "embed", "evaluate")

STUDIES: dict[str, dict[str, list[str]]] = {
    "structure": {
        "none": ["graph.structure=null"],
        "128, powers .5": ["graph.structure={width: 128}"],
        "256, powers .5": ["graph.structure={width: 256}"],
        "128, powers .3": ["graph.structure.width=128"],
        "256, powers .3": ["graph.structure.width=256"],
        "512, powers .3": [],
    },
    "scaling": {
        "by group": [],
        "by column": ["train.scale_features=columns"],
        "none": ["train.scale_features=null"],
    },
    "pairs": {
        "fresh every epoch": [],
        "the same every epoch": ["train.minibatch.fresh_pairs=null"],
    },
    "loss": {
        "softmax": [],
        "max-margin": ["train.loss={kind: max_margin, margin: 0.1}"],
        "cross-entropy": ["train.loss={kind: cross_entropy}"],
        "softmax, in-batch": ["train.loss.in_batch_negatives=true", "train.minibatch.size=4096"],
    },
    "temperature": {
        str(value): [f"train.loss.temperature={value}"] for value in (0.035, 0.05, 0.07)
    },
    "negatives": {
        "500 shared": ["train.minibatch.shared_negatives=500"],
        "1000 shared": [],
        "2000 shared": ["train.minibatch.shared_negatives=2000"],
        "no hard ones": ["train.minibatch.max_hard_negatives=0"],
    },
    "minibatch": {
        "2048": ["train.minibatch.size=2048", "train.schedule.learning_rate=5.0e-4"],
        "8192": [],
    },
    "neighbors": {
        "T = 10": ["train.minibatch.num_neighbors=10", "embed.num_neighbors=10"],
        "T = 20": ["train.minibatch.num_neighbors=20", "embed.num_neighbors=20"],
        "T = 50": [],
        "two layers, T = 10": ["model.num_layers=2", "train.minibatch.num_neighbors=10"],
        "no convolution": ["model.num_layers=0"],
    },
    "width": {
        "d = 128": ["model.embedding_width=128"],
        "d = 256": [],
        "d = 512": ["model.embedding_width=512"],
        "m = 1024": ["model.projected_width=1024"],
    },
}
"""Study to rows, each a name and how it differs from the recipe."""


def main() -> None:
    """Run the studies asked for, and tabulate them."""
    flags = parser(__doc__)
    flags.add_argument("--study", choices=sorted(STUDIES), action="append", help="may be repeated")
    flags.add_argument("--output", type=Path, default=Path("runs/quality"), help="a folder")
    flags.add_argument("--epochs", type=int, default=2, help="of every row")
    flags.add_argument("--seed", type=int, default=0)
    arguments = flags.parse_args()
    rows: list[list[object]] = []
    figures: dict[str, dict[str, float]] = {}
    for study in arguments.study or STUDIES:
        for name, settings in STUDIES[study].items():
            run = _run(arguments.output, settings, epochs=arguments.epochs, seed=arguments.seed)
            found = metrics_of(run)
            names = [metric for metric in found if metric.startswith("hit_rate@")]
            names.append("scaled_mrr")
            rows = rows or [["study", "row", *names]]
            rows.append([study, name, *(f"{found[metric]:.4f}" for metric in names)])
            figures[f"{study}: {name}"] = {metric: found[metric] for metric in names}
    title = f"Books, valid pairs, {arguments.epochs} epochs, seed {arguments.seed}"
    report(title, rows, figures, as_json=arguments.json)


def _run(output: Path, settings: list[str], *, epochs: int, seed: int) -> Run:
    run = Run(
        load_config(
            RunConfig,
            _RECIPE,
            [
                f"output={output}",
                f"seed={seed}",
                f"train.schedule.epochs={epochs}",
                "evaluate.split=valid",
                "evaluate.baselines=[popularity]",
                *settings,
            ],
        )
    )
    with session(run.config.ray):
        for stage in _STAGES:
            JOBS[stage](run)
    return run


def metrics_of(run: Run) -> dict[str, float]:
    """Read what a run's report says of PinSage."""
    text = (run.report.directory / "report.json").read_text(encoding="utf-8")
    metrics: dict[str, float] = json.loads(text)["metrics"]["pinsage"]
    return metrics


if __name__ == "__main__":
    main()

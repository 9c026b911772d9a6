"""How good a recipe made by `ray_jobs.recipe` is: on tables alone, without a hand at the settings.

For every data set, `ray_jobs.recipe` finds the columns and chooses the settings, the pipeline's
stages run, and every method ranks the held-out pairs: valid pairs by default, on which the rules
were found. `--set` changes settings of every recipe, to try another rule.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._timing import parser, report
from pinsage.base.config import load_config
from pinsage.cluster.drivers import JOBS
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig
from pinsage.cluster.session import session
from pinsage.cluster.starter import recipe_text
from pinsage.graph.guess import Guess, Told, guess_tables

_DATA = Path(__file__).parents[1] / "data"
_STAGES = ("ingest", "walk", "train", "embed", "evaluate")
_MAX_PAIRS = 20_000


def main() -> None:
    """Run the data sets asked for, and tabulate every method on each."""
    flags = parser(__doc__)
    flags.add_argument("--data", choices=DATA_SETS, action="append", help="may be repeated")
    flags.add_argument("--output", type=Path, default=Path("runs/starter"), help="a folder")
    flags.add_argument("--split", default="valid", choices=["valid", "test"])
    flags.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = flags.parse_args()
    rows: list[list[object]] = []
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name in arguments.data or DATA_SETS:
        settings = [f"evaluate.split={arguments.split}", *arguments.settings]
        found = _run(arguments.output / name, DATA_SETS[name], settings)
        figures[name] = {}
        for method, metrics in found.items():
            kept = {
                metric: value
                for metric, value in metrics.items()
                if metric.startswith("hit_rate@") or metric == "scaled_mrr"
            }
            figures[name][method] = kept
            rows = rows or [["data", "method", *kept]]
            rows.append([name, method, *(f"{value:.3f}" for value in kept.values())])
    title = (
        f"Recipes made by ray_jobs.recipe, {arguments.split} pairs, {' '.join(arguments.settings)}"
    )
    report(title, rows, figures, as_json=arguments.json)


def _run(
    folder: Path, tables: Callable[[Path], Guess], settings: list[str]
) -> dict[str, dict[str, float]]:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe_text(folder.name, tables(folder)), encoding="utf-8")
    sizes = [f"output={folder}", f"evaluate.max_pairs={_MAX_PAIRS}", "evaluate.map_items=100"]
    run = Run(load_config(RunConfig, recipe, [*sizes, *settings]))
    with session(run.config.ray):
        for stage in _STAGES:
            JOBS[stage](run)
    content = json.loads((run.report.directory / "report.json").read_text(encoding="utf-8"))
    found: dict[str, dict[str, float]] = content["metrics"]
    return found


def _bundled(
    name: str, *, edges: str = "edges", pairs: bool, npy: tuple[str, ...] = ()
) -> Callable[[Path], Guess]:
    """Take tables of this repository as they are."""

    def tables(_folder: Path) -> Guess:
        base = _DATA / name
        arrays = {file.partition("_")[0]: str(base / f"{file}.npy") for file in npy}
        return guess_tables(
            str(base / "items.parquet"),
            str(base / f"{edges}.parquet"),
            str(base / "pairs.parquet") if pairs else None,
            Told(npy=arrays),
        )

    return tables


def _sparse(folder: Path) -> Guess:
    """Text keys and nothing else: 2,000 items of 20 groups, 3,000 contexts of 1 to 3 items."""
    rng = np.random.default_rng(0)
    keys = [f"pin/{number} é?&" for number in range(2000)]
    contexts, items = [], []
    for context in range(3000):
        first = rng.integers(20) * 100
        for item in rng.choice(100, rng.integers(1, 4), replace=False):
            contexts.append(f"board:{context}")
            items.append(keys[first + item])
    return _written(folder, {"pin": keys}, {"pin": items, "board": contexts})


def _dense(folder: Path) -> Guess:
    """Whole numbers and times: 300 items, 2,000 users who each took more than half of them."""
    rng = np.random.default_rng(0)
    keys = rng.choice(2**62, 300, replace=False) - 2**61
    groups, tastes = rng.integers(0, 6, 300), rng.integers(0, 6, 2000)
    taken = rng.random((2000, 300)) < np.where(groups == tastes[:, None], 0.8, 0.45)
    users, items = np.nonzero(taken)
    times = pa.array(rng.integers(0, 30_000_000, len(users)) * 1_000_000, pa.timestamp("us"))
    visual = (np.eye(6)[groups] + rng.normal(0, 0.7, (300, 6))).astype(np.float16)
    return _written(
        folder,
        {"id": keys, "visual": pa.FixedSizeListArray.from_arrays(pa.array(visual.ravel()), 6)},
        {"id": keys[items], "user": users, "at": times},
    )


def _sessions(folder: Path) -> Guess:
    """Texts and times: 800 users who come to five places each of a hidden circle of 1,000 items.

    From each place they take eight steps to items near the last one.
    """
    rng = np.random.default_rng(0)
    circle = rng.permutation(1000)
    steps = rng.integers(1, 6, (800, 5, 8)) * rng.choice([-1, 1], (800, 5, 8))
    places = (rng.integers(0, 1000, (800, 5, 1)) + np.cumsum(steps, axis=2)).reshape(800, 40)
    keys = np.array([f"page {number}" for number in range(1000)])
    users = np.repeat(np.arange(800), 40)
    starts = rng.integers(1_600_000_000, 1_700_000_000, (800, 1))
    times = (starts + np.arange(40) * 60).ravel()
    taken = keys[circle[places % 1000]].ravel()
    return _written(folder, {"page": keys}, {"page": taken, "user": users, "viewed_at": times})


def _noise(folder: Path) -> Guess:
    """Baskets of 10 to 30 of 200 products at random, each at one time: chance is all there is."""
    rng = np.random.default_rng(3)
    keys = np.array([f"S{number}" for number in rng.permutation(200)])
    baskets = [rng.choice(200, rng.integers(10, 31), replace=False) for _ in range(1500)]
    sizes = [len(basket) for basket in baskets]
    numbers = np.repeat(np.arange(1500), sizes)
    edges = {"sku": keys[np.concatenate(baskets)], "basket": numbers}
    return _written(folder, {"sku": keys}, edges | {"bought_at": 1_700_000_000 + numbers * 600})


def _newcomers(folder: Path) -> Guess:
    """Vectors of 20 groups: 600 items in 600 baskets of one group each, more or less, 100 in none.

    Train pairs are of the 600; of valid and test pairs, the positive is one of the 100.
    """
    rng = np.random.default_rng(5)
    groups = rng.integers(0, 20, 700)
    vectors = rng.standard_normal((20, 16))[groups] + 0.6 * rng.standard_normal((700, 16))
    keys = np.array([f"k{number:04d}" for number in range(700)])
    old, new = np.arange(600), np.arange(600, 700)

    def alike(item: int) -> int:
        return int(rng.choice(old[(groups[old] == groups[item]) & (old != item)]))

    baskets = []
    for group in rng.integers(0, 20, 600):
        some = rng.choice(old[groups[old] == group], rng.integers(5, 14))
        baskets.append(np.union1d(some, rng.choice(old, 2)))
    trained = [(item, alike(item)) for item in rng.choice(old, 3300).tolist()]
    held_out = [(alike(item), item) for item in rng.choice(new, 800).tolist()]
    queries, positives = np.array([*trained, *held_out]).T
    return _written(
        folder,
        {"sku": keys, "vector": list(vectors.astype(np.float32))},
        {
            "sku": keys[np.concatenate(baskets)],
            "basket": np.repeat(np.arange(600), [len(basket) for basket in baskets]),
        },
        {
            "query": keys[queries],
            "positive": keys[positives],
            "split": ["train"] * 3300 + ["valid", "test"] * 400,
        },
    )


def _written(
    folder: Path,
    items: Mapping[str, object],
    edges: Mapping[str, object],
    pairs: Mapping[str, object] | None = None,
) -> Guess:
    paths: dict[str, str | None] = {"pairs": None}
    for name, columns in {"items": items, "edges": edges, "pairs": pairs}.items():
        if columns is not None:
            paths[name] = str(folder / f"{name}.parquet")
            pq.write_table(pa.table(columns), paths[name])
    return guess_tables(str(paths["items"]), str(paths["edges"]), paths["pairs"], Told())


DATA_SETS: dict[str, Callable[[Path], Guess]] = {
    "smoke": _bundled("smoke", pairs=True),
    "sparse": _sparse,
    "dense": _dense,
    "sessions": _sessions,
    "noise": _noise,
    "newcomers": _newcomers,
    "openclipart": _bundled("openclipart", pairs=True, npy=("visual", "text_384")),
    "openclipart, no pairs": _bundled("openclipart", pairs=False, npy=("visual", "text_384")),
    "awesome, no text": _bundled("awesome", pairs=False),
    "awesome": _bundled("awesome", pairs=True, npy=("text_svd_128",)),
    "books, shelves alone": _bundled("goodbooks", edges="shelves", pairs=False),
}


if __name__ == "__main__":
    main()

"""Embedding that is killed again and again, beside the same embedding left alone.

A made-up catalog is embedded twice by the real job, by two workers on a Ray of its own. In the
second run, at random moments, a worker and the driver are killed in turn with SIGKILL; the driver
is started again by the same command, as a person would.

`bit_equal` says whether all published files have the same SHA-256, and `chunks_done_again` how many
chunks, of those that were marked as done when a kill came, were written once more afterwards.
"""

import itertools
import random
import tempfile
from pathlib import Path

import yaml

from benchmarks._killed import Kill, KilledJob, kill_when, killed_beside, report_kills
from benchmarks._timing import parser
from pinsage.graph.synthetic import write_tables
from pinsage.inference.export import PART_ROWS

_KINDS = {"worker": "MapBatches", "driver": "MapBatches"}
_ITEMS_PER_CHUNK = 8_192
_PASSES = 2
"""Before the last one: a projection, and the first convolution with the next projection."""


def main() -> None:
    """Embed, embed and kill, compare."""
    flags = parser(__doc__)
    flags.add_argument("--kills", type=int, default=10, help="how many")
    flags.add_argument("--items", type=int, default=500_000, help="in the catalog")
    flags.add_argument("--seed", type=int, default=0, help="decides the moments")
    arguments = flags.parse_args()
    total = -(-arguments.items // _ITEMS_PER_CHUNK) * _PASSES + -(-arguments.items // PART_ROWS)
    counted = {"chunks": total}
    with tempfile.TemporaryDirectory(prefix="pinsage-chaos-") as name:
        folder = Path(name)
        recipe = _write_recipe(folder, arguments.items)
        alone, chaos = (
            KilledJob("embed", recipe, folder / one, [], _chunks_done) for one in ("alone", "chaos")
        )
        figures, kills = killed_beside(
            alone,
            chaos,
            lambda job: _kill_all(job, total, arguments.kills, arguments.seed, counted),
        )
    report_kills("embeddings", kills, figures | counted, as_json=arguments.json)


def _write_recipe(folder: Path, num_items: int) -> Path:
    data = write_tables(
        folder / "tables", num_items=num_items, num_contexts=num_items // 4, feature_width=64
    )
    recipe = {
        "name": "killed",
        "output": str(folder / "run"),
        "data": data.model_dump(mode="json"),
        "walk": {"num_walks": 20, "num_neighbors": 10},
        "hard_negatives": None,
        "model": {"num_layers": 2, "projected_width": 128, "embedding_width": 64},
        "train": {
            "minibatch": {"size": 256, "shared_negatives": 64, "max_hard_negatives": 0},
            "schedule": {"epochs": 1},
        },
        "embed": {"num_workers": 2, "cpus_per_worker": 1, "items_per_chunk": _ITEMS_PER_CHUNK},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def _kill_all(
    job: KilledJob, total: int, kills: int, seed: int, figures: dict[str, int]
) -> list[Kill]:
    """Kill in turn, each time somewhere in its stretch of the chunks, and count in the figures."""
    rng = random.Random(seed)
    done, repeated = [], 0
    for number, kind in zip(range(kills), itertools.cycle(_KINDS), strict=False):
        wanted = rng.randrange(
            number * total // (kills + 1) + 1, (number + 1) * total // (kills + 1)
        )
        before = _marks(job.output)
        done.append(kill_when(job, kind, _KINDS[kind], wanted, rng, later_s=0.05))
        after = _marks(job.output)
        repeated += sum(after.get(name, time_ns) != time_ns for name, time_ns in before.items())
    figures["chunks_done_again"] = repeated
    return done


def _chunks_done(output: Path) -> int:
    """Count the chunks that are marked as done, of all passes."""
    return len(_marks(output))


def _marks(output: Path) -> dict[str, int]:
    """Tell when each chunk was marked as done, in ns."""
    found = {}
    for mark in output.glob("embeddings/.*.partial/.scratch/*-*-*.done"):
        try:
            found[mark.name] = mark.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()

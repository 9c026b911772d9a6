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
import time
from pathlib import Path
from typing import Any

import yaml

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
    with tempfile.TemporaryDirectory(prefix="pinsage-chaos-") as folder:
        recipe = _write_recipe(Path(folder), arguments.items)
        figures, kills = _run(
            Path(folder), recipe, arguments.items, arguments.kills, arguments.seed
        )
    equal = "equal in every byte" if figures["bit_equal"] else "NOT EQUAL"
    title = f"Killed {len(kills)} times: the embeddings are {equal}"
    report(title, rows_of(kills), figures, as_json=arguments.json)


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


def _run(
    folder: Path, recipe: Path, num_items: int, kills: int, seed: int
) -> tuple[dict[str, Any], list[Kill]]:
    alone, chaos = (_job(folder / name, recipe) for name in ("alone", "chaos"))
    run_before(("ingest", "walk", "train"), recipe, alone.output, ())
    started = time.monotonic()
    alone.start()
    alone.wait_for_end()
    alone_s = time.monotonic() - started
    for stage in ("graph", "neighborhoods", "model"):
        (chaos.output / stage).symlink_to(alone.output / stage, target_is_directory=True)
    rng = random.Random(seed)
    total = -(-num_items // _ITEMS_PER_CHUNK) * _PASSES + -(-num_items // PART_ROWS)
    done, repeated = [], 0
    started = time.monotonic()
    chaos.start()
    for number, kind in zip(range(kills), itertools.cycle(_KINDS), strict=False):
        wanted = rng.randrange(
            number * total // (kills + 1) + 1, (number + 1) * total // (kills + 1)
        )
        before = _marks(chaos.output)
        done.append(kill_when(chaos, kind, _KINDS[kind], wanted, rng, later_s=0.05))
        after = _marks(chaos.output)
        repeated += sum(after.get(name, time_ns) != time_ns for name, time_ns in before.items())
    chaos.wait_for_end()
    chaos_s = time.monotonic() - started
    is_equal = published(alone.output, "embeddings") == published(chaos.output, "embeddings")
    figures = figures_of(done, chaos, is_equal=is_equal, alone_s=alone_s, chaos_s=chaos_s)
    return figures | {"chunks": total, "chunks_done_again": repeated}, done


def _job(output: Path, recipe: Path) -> KilledJob:
    output.mkdir()
    return KilledJob("ray_jobs.embed", recipe, output, [], _chunks_done)


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

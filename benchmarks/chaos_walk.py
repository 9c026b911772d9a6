"""Walks over store actors that are killed again and again, beside the same walks left alone.

The graph of a made-up catalog lies in shards, a store actor each, on a Ray of its own; the real job
walks from every item, the walkers going from store to store. In the second run, at random moments,
a store and the driver are killed in turn with SIGKILL. A store comes back by itself, from the files
of its shard, and the walks that it had a part in go again; the driver is started again by the same
command, as a person would.

`bit_equal` says whether the neighborhoods are those of the walks left alone, in every byte.
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

_KINDS = {"store": "Store", "driver": "Store"}
_NUM_SHARDS = 2
_ITEMS_PER_CHUNK = 8_192


def main() -> None:
    """Walk, walk and kill, compare."""
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
    title = f"Killed {len(kills)} times: the neighborhoods are {equal}"
    report(title, rows_of(kills), figures, as_json=arguments.json)


def _write_recipe(folder: Path, num_items: int) -> Path:
    data = write_tables(folder / "tables", num_items=num_items, num_contexts=num_items // 4)
    recipe = {
        "name": "killed",
        "output": str(folder / "run"),
        "data": data.model_dump(mode="json"),
        "graph": {"num_shards": _NUM_SHARDS},
        "walk": {"num_walks": 200, "num_neighbors": 50, "items_per_chunk": _ITEMS_PER_CHUNK},
        "hard_negatives": None,
        "stores": {"mode": "sharded", "max_attempts": 20},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def _run(
    folder: Path, recipe: Path, num_items: int, kills: int, seed: int
) -> tuple[dict[str, Any], list[Kill]]:
    alone, chaos = (_job(folder / name, recipe) for name in ("alone", "chaos"))
    run_before(("ingest",), recipe, alone.output, ())
    started = time.monotonic()
    alone.start()
    alone.wait_for_end()
    alone_s = time.monotonic() - started
    (chaos.output / "graph").symlink_to(alone.output / "graph", target_is_directory=True)
    rng = random.Random(seed)
    total = -(-num_items // _ITEMS_PER_CHUNK)
    done = []
    started = time.monotonic()
    chaos.start()
    for number, kind in zip(range(kills), itertools.cycle(_KINDS), strict=False):
        wanted = rng.randrange(number * total // (kills + 1), (number + 1) * total // (kills + 1))
        done.append(kill_when(chaos, kind, _KINDS[kind], wanted, rng, later_s=0.3))
    chaos.wait_for_end()
    chaos_s = time.monotonic() - started
    is_equal = published(alone.output, "neighborhoods") == published(chaos.output, "neighborhoods")
    figures = figures_of(done, chaos, is_equal=is_equal, alone_s=alone_s, chaos_s=chaos_s)
    return figures | {"chunks": total}, done


def _job(output: Path, recipe: Path) -> KilledJob:
    output.mkdir()
    return KilledJob("ray_jobs.walk", recipe, output, [], _chunks_done)


def _chunks_done(output: Path) -> int:
    """Count the chunks that the stores have written, by the parts of all."""
    parts = output.glob("neighborhoods/.*.partial/.scratch/weights-*.npy")
    return len(list(parts)) // _NUM_SHARDS


if __name__ == "__main__":
    main()

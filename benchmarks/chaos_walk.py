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
from pathlib import Path

import yaml

from benchmarks._killed import Kill, KilledJob, kill_when, killed_beside, report_kills
from benchmarks._timing import parser
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
    total = -(-arguments.items // _ITEMS_PER_CHUNK)
    with tempfile.TemporaryDirectory(prefix="pinsage-chaos-") as name:
        folder = Path(name)
        recipe = _write_recipe(folder, arguments.items)
        alone, chaos = (
            KilledJob("walk", recipe, folder / one, [], _chunks_done) for one in ("alone", "chaos")
        )
        figures, kills = killed_beside(
            alone, chaos, lambda job: _kill_all(job, total, arguments.kills, arguments.seed)
        )
    figures["chunks"] = total
    report_kills("neighborhoods", kills, figures, as_json=arguments.json)


def _write_recipe(folder: Path, num_items: int) -> Path:
    data = write_tables(folder / "tables", num_items=num_items, num_contexts=num_items // 4)
    recipe = {
        "name": "killed",
        "output": str(folder / "run"),
        "data": data.model_dump(mode="json"),
        "graph": {"num_shards": _NUM_SHARDS},
        "walk": {"num_walks": 200, "num_neighbors": 50, "items_per_chunk": _ITEMS_PER_CHUNK},
        "hard_negatives": None,
        "stores": {
            "mode": "sharded",
            "max_attempts": 20,
            # One chunk goes at a time, so that most of them are done before the last kill.
            "visits_per_round": 200 * 2 * _ITEMS_PER_CHUNK // _NUM_SHARDS,
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def _kill_all(job: KilledJob, total: int, kills: int, seed: int) -> list[Kill]:
    """Kill in turn, each time somewhere in its stretch of the chunks."""
    rng = random.Random(seed)
    done = []
    for number, kind in zip(range(kills), itertools.cycle(_KINDS), strict=False):
        wanted = rng.randrange(number * total // (kills + 1), (number + 1) * total // (kills + 1))
        done.append(kill_when(job, kind, _KINDS[kind], wanted, rng, later_s=0.3))
    return done


def _chunks_done(output: Path) -> int:
    """Count the chunks that the stores have written, by the parts of all."""
    parts = output.glob("neighborhoods/.*.partial/.scratch/weights-*.npy")
    return len(list(parts)) // _NUM_SHARDS


if __name__ == "__main__":
    main()

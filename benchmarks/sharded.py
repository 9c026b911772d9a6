"""Walks by rounds over 1, 2 and 4 shards of the M graph, beside one process that holds it whole.

Every shard is an actor that reads its own rows alone; what shards say to each other goes through
Ray's object store, as between nodes. Both sides make the whole table (200 walks of at most 2 steps,
50 neighbors, 1M items) and both may use every core, so wall seconds are compared. Where other work
shares the cores, the ratio of CPU seconds is steadier; it leaves out Ray's own processes. In the
first rounds the stores use memory that nobody has used before, hence as many.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import ray

from benchmarks._graphs import cached_graph
from benchmarks._timing import Seconds, median_ratio, parser, report, take_turns
from pinsage.base.artifacts import publish
from pinsage.cluster.run_config import RayConfig
from pinsage.cluster.session import session
from pinsage.cluster.store_actor import Kept, Spent
from pinsage.cluster.stores import StoreConfig, Stores, open_stores
from pinsage.graph.adjacency import AdjacencyShard, BipartiteAdjacency
from pinsage.graph.choice import ChoiceConfig
from pinsage.kernels.packing import pack
from pinsage.kernels.walks import walk_neighborhoods
from pinsage.sampling.messages import SeedRange, ranges_of

SHARDS = (1, 2, 4)
NUM_WALKS, WALK_LENGTH, RESTART, NUM_NEIGHBORS = 200, 2, 0.5, 50
ITEMS_PER_CHUNK = 65_536
KEY = 17


def main() -> None:
    """Time all sides in turns, and print what each took."""
    arguments = parser(__doc__)
    arguments.add_argument("--graphs", type=Path, default=Path("runs/benchmarks"))
    arguments.add_argument("--rounds", type=int, default=9)
    flags = arguments.parse_args()
    graph = cached_graph(flags.graphs, "M")
    num_items = graph.num_items
    whole_us: list[float] = []
    walk_whole = _whole(graph)

    def whole() -> None:
        started = time.process_time()
        walk_whole()
        whole_us.append((time.process_time() - started) / num_items * 1e6)

    sides: dict[int, _Side] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(session(RayConfig(address="local", object_store_bytes=3 * 2**30)))
        for number in SHARDS:
            # One side at a time: what other stores hold would be in the way.
            with _stores(folder, graph, number) as stores:
                sides[number] = _compare(whole, stores, num_items, rounds=flags.rounds)
    rows, figures = _table(sides, statistics.median(whole_us), num_items)
    title = (
        f"M graph, whole table: {NUM_WALKS} walks of {WALK_LENGTH} steps, T={NUM_NEIGHBORS}; CPU "
        "seconds a seed over all stores"
    )
    report(title, rows, figures, as_json=flags.json)


class _Side(NamedTuple):
    """What walks over shards took, and those over the whole graph in turn with them."""

    seconds: Seconds
    cost: "_Cost"


def _compare(whole: Callable[[], None], stores: Stores, num_items: int, *, rounds: int) -> _Side:
    costs: list[_Cost] = []
    seconds = take_turns(
        {"whole": whole, "shards": lambda: costs.append(_walk_by_rounds(stores, num_items))},
        rounds=rounds,
        clock=time.perf_counter,
    )
    return _Side(seconds, costs[-1])


def _table(
    sides: dict[int, _Side], whole_us: float, num_items: int
) -> tuple[list[list[object]], dict[str, object]]:
    """Lay the results out as rows to print, and as figures."""
    whole_s = statistics.median(took for side in sides.values() for took in side.seconds["whole"])
    rows: list[list[object]] = [
        ["shards", "items/s", "of whole", "by CPU s", "bytes/seed", "walk us/seed", "transport us"],
        [
            "whole",
            f"{num_items / whole_s:,.0f}",
            "",
            "",
            "",
            f"{whole_us:.2f}",
            "",
        ],
    ]
    figures: dict[str, object] = {"seeds_per_s": round(num_items / whole_s)}
    for number in SHARDS:
        seconds, cost = sides[number]
        ratio = median_ratio(seconds["whole"], seconds["shards"])
        cpu_ratio = whole_us / (cost.walk_us + cost.transport_us)
        rate = num_items / statistics.median(seconds["shards"])
        rows.append([
            number,
            f"{rate:,.0f}",
            f"{ratio:.2f}",
            f"{cpu_ratio:.2f}",
            f"{cost.sent_bytes:,.0f}",
            f"{cost.walk_us:.2f}",
            f"{cost.transport_us:.2f}",
        ])
        figures |= {
            f"ratio_{number}": round(ratio, 3),
            f"cpu_ratio_{number}": round(cpu_ratio, 3),
            f"seeds_per_s_{number}": round(rate),
            f"bytes_per_seed_{number}": round(cost.sent_bytes),
            f"walk_us_{number}": round(cost.walk_us, 2),
            f"transport_us_{number}": round(cost.transport_us, 2),
        }
    figures["bytes_per_seed"] = figures[f"bytes_per_seed_{SHARDS[-1]}"]
    return rows, figures


class _Cost:
    """What a walk from every item took, a seed."""

    def __init__(self, before: list[Spent], after: list[Spent], num_items: int) -> None:
        def total(name: str) -> float:
            return sum(
                getattr(one, name) - getattr(zero, name)
                for zero, one in zip(before, after, strict=True)
            )

        self.sent_bytes = total("sent_bytes") / num_items
        self.walk_us = total("walk_s") / num_items * 1e6
        self.transport_us = total("total_s") / num_items * 1e6 - self.walk_us


def _whole(graph: BipartiteAdjacency) -> Callable[[], None]:
    packed = pack(graph.item_starts, graph.item_contexts, graph.context_starts, graph.context_items)

    def walk() -> None:
        for start in range(0, packed.num_items, ITEMS_PER_CHUNK):
            walk_neighborhoods(
                packed,
                np.arange(start, min(start + ITEMS_PER_CHUNK, packed.num_items)),
                key=KEY,
                num_walks=NUM_WALKS,
                walk_length=WALK_LENGTH,
                restart=RESTART,
                num_neighbors=NUM_NEIGHBORS,
            )

    return walk


@contextmanager
def _stores(folder: Path, graph: BipartiteAdjacency, num_shards: int) -> Iterator[Stores]:
    """Publish the graph in shards, and open their stores."""
    directory = folder / f"{num_shards:012d}"
    with publish(directory, stage="graph", config={}, parents={}) as draft:
        for shard in range(num_shards):
            AdjacencyShard.cut(graph, shard, num_shards).write(draft)
        draft.counts |= {
            "items": graph.num_items,
            "contexts": graph.num_contexts,
            "edges": graph.num_edges,
            "shards": num_shards,
            "pairs": {"train": 0, "valid": 0, "test": 0},
            "feature_groups": {},
            "cold_items": 0,
            "repeated_edges": 0,
            "left_out_edges": {},
            "dropped": {},
        }
    with open_stores(directory, ChoiceConfig(), StoreConfig()) as stores:
        yield stores


def _walk_by_rounds(stores: Stores, num_items: int) -> _Cost:
    """Walk from every item, several ranges of them under way."""
    every = SeedRange(
        0, num_items, key=KEY, num_walks=NUM_WALKS, walk_length=WALK_LENGTH, restart=RESTART
    )
    ranges = ranges_of(every, num_shards=len(stores.actors), visits_per_shard=stores.share.visits)

    def walk(seeds: SeedRange) -> None:
        stores.walk((seeds.first, 0, 0), seeds, Kept(NUM_NEIGHBORS))
        stores.forget(seeds.first)

    before = _spent(stores)
    with ThreadPoolExecutor(stores.share.under_way) as pool:
        for _ in pool.map(walk, ranges):
            pass
    return _Cost(before, _spent(stores), num_items)


def _spent(stores: Stores) -> list[Spent]:
    return ray.get([actor.spent.remote() for actor in stores.actors], timeout=60)


if __name__ == "__main__":
    main()

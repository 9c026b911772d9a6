"""How fast importance neighborhoods are made, beside other ways and beside what memory can do.

Run: `python -m benchmarks.neighborhoods [--json] [--dgl-python PATH]`.

One thread, seconds of CPU time, in turns; ratios are medians over rounds. Every candidate makes
whole neighborhoods of 4,096 seeds a call: walks, visit counts, the top T, importance weights.

A random step is half of item -> context -> item: a visit takes two of them. They are useful if they
end in a visit that is counted. The chase makes as many random reads as it can of 1 GiB, in 32
chains.

DGL 2.1.0 needs an interpreter of its own, with: `pip install 'numpy<2' scipy networkx requests tqdm
psutil pandas pyyaml pydantic torch==2.2.1`, then `pip install --no-deps dgl==2.1 torchdata==0.7.1`.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from benchmarks._graphs import SIZES, cached_graph, in_locality_order
from benchmarks._peers import Chase, DglSampler, TorchWalks, naive_neighborhoods
from benchmarks._timing import median_ratio, parser, report, take_turns
from pinsage.graph.adjacency import ARRAYS, BipartiteAdjacency
from pinsage.kernels import (
    PackedAdjacency,
    importance_weights,
    pack,
    random_walks,
    walk_neighborhoods,
)
from pinsage.sampling.neighborhood import HardNegativeConfig, hard_negative_candidates

_SEEDS_A_CALL = 4_096
_OUR_CALLS = 16
"""One after another, to be timed for as long as the others: all ratios are to ours."""
_LONG_SEEDS = 256
_CHAINS = 32
_READS = 4_000_000
_WALK: dict[str, Any] = {"num_walks": 200, "walk_length": 2, "restart": 0.5}
_KEY = 1
_OURS = {"ours": "", "ordered": "_ordered"}
"""Our candidates, to what is added to the names of ratios with them."""
_UNORDERED = ("weighted", "long")
"""Ours too, on the graph as given; they are not compared with ours in locality order."""


def main() -> None:
    """Time all candidates, and print how they compare."""
    flags = parser(__doc__)
    flags.add_argument("--graph", choices=SIZES, default="M", help="how large a graph")
    flags.add_argument("--rounds", type=int, default=9, help="turns of each candidate")
    flags.add_argument("--num-neighbors", type=int, default=50, help="T")
    flags.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "pinsage-benchmarks",
        help="where graphs are kept between runs",
    )
    flags.add_argument("--dgl-python", type=Path, help="an interpreter that has DGL 2.1")
    asked = flags.parse_args()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    graph = cached_graph(asked.folder, asked.graph)
    dgl = {
        f"dgl{bits}": DglSampler(asked.dgl_python, asked.folder / asked.graph, bits)
        for bits in (64, 32)
        if asked.dgl_python is not None
    }
    calls, units = _candidates(graph, dgl, asked.num_neighbors)
    seconds = take_turns(
        calls,
        rounds=asked.rounds,
        clock=lambda: time.process_time() + sum(worker.cpu_s for worker in dgl.values()),
    )
    for worker in dgl.values():
        worker.close()
    per_unit = {name: [s / units[name] for s in taken] for name, taken in seconds.items()}
    _report(asked.graph, asked.num_neighbors, per_unit, as_json=asked.json)


def _candidates(
    graph: BipartiteAdjacency, dgl: dict[str, DglSampler], num_neighbors: int
) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    """Give what to time, and how many seeds, or reads of the chase, one call is good for."""
    chosen = np.random.default_rng(7).permutation(graph.num_items)
    seeds, more = chosen[:_SEEDS_A_CALL], chosen[: _OUR_CALLS * _SEEDS_A_CALL]
    uniform = pack(*(getattr(graph, name) for name in ARRAYS))
    weighted = _weighted(graph)
    moved = in_locality_order(graph)
    ordered = pack(*(getattr(moved, name) for name in ARRAYS))
    firsts = np.linspace(0, graph.num_items - _SEEDS_A_CALL, _OUR_CALLS).astype(np.int64)
    runs = (firsts[:, None] + np.arange(_SEEDS_A_CALL)).reshape(-1)
    walk = {**_WALK, "num_neighbors": num_neighbors}
    chase = Chase(_CHAINS)
    calls: dict[str, Callable[[], object]] = {
        "ours": partial(_ours, uniform, more, num_neighbors),
        "chase": partial(chase.read, _READS),
        "ordered": partial(_ours, ordered, runs, num_neighbors),
        "weighted": partial(_ours, weighted, more, num_neighbors),
        "naive": partial(naive_neighborhoods, graph, seeds, **walk),
        "torch": partial(TorchWalks(graph).neighborhoods, seeds, **walk),
        "long": partial(
            hard_negative_candidates,
            uniform,
            chosen[:_LONG_SEEDS],
            hard=HardNegativeConfig(),
            seed=_KEY,
        ),
    }
    units: dict[str, float] = dict.fromkeys([*calls, *dgl], len(seeds))
    units |= {"ours": len(more), "ordered": len(more), "weighted": len(more), "long": _LONG_SEEDS}
    # Steps a seed times seeds a read: the chase is then counted in seeds as well.
    visits = random_walks(uniform, seeds, key=_KEY, **_WALK)
    units["chase"] = _READS / (2 * float((visits >= 0).sum()) / len(seeds))
    for name, worker in dgl.items():
        calls[name] = partial(worker.neighborhoods, seeds, **walk)
    return calls, units


def _ours(packed: PackedAdjacency, seeds: np.ndarray, num_neighbors: int) -> None:
    for start in range(0, len(seeds), _SEEDS_A_CALL):
        _, counts = walk_neighborhoods(
            packed,
            seeds[start : start + _SEEDS_A_CALL],
            key=_KEY,
            num_neighbors=num_neighbors,
            **_WALK,
        )
        importance_weights(counts)


def _weighted(graph: BipartiteAdjacency) -> PackedAdjacency:
    """Weigh the edges of both directions at random, over two orders of magnitude."""
    rng = np.random.default_rng(3)
    of_items, of_contexts = (np.exp(rng.normal(0, 1.2, graph.num_edges)) for _ in range(2))
    return pack(
        graph.item_starts,
        graph.item_contexts,
        graph.context_starts,
        graph.context_items,
        item_chances=of_items,
        context_chances=of_contexts,
    )


def _report(
    graph: str, num_neighbors: int, per_unit: dict[str, list[float]], *, as_json: bool
) -> None:
    peers = {name: taken for name, taken in per_unit.items() if name not in _OURS}
    ratios = {
        f"ratio_{name}{suffix}": median_ratio(taken, per_unit[ours])
        for ours, suffix in _OURS.items()
        for name, taken in peers.items()
        if not (suffix and name in _UNORDERED)
    }
    gain = median_ratio(per_unit["ours"], per_unit["ordered"])
    rows: list[tuple[object, ...]] = [
        ("candidate", "us a seed", "seeds/s", "ours against it", "ours, ordered")
    ]
    for name, taken in per_unit.items():
        typical = statistics.median(taken)
        against = [ratios.get(f"ratio_{name}{suffix}") for suffix in _OURS.values()]
        if name == "ordered":
            against = [None, gain]
        cells = ["" if ratio is None else f"{ratio:.2f}x" for ratio in against]
        rows.append((_named(name), f"{typical * 1e6:.2f}", f"{1 / typical:,.0f}", *cells))
    figures: dict[str, object] = {name: round(ratio, 3) for name, ratio in ratios.items()}
    figures |= {"gain_ordered": round(gain, 3)}
    figures |= {
        f"us_{name}": round(statistics.median(taken) * 1e6, 3) for name, taken in per_unit.items()
    }
    title = (
        f"Neighborhoods on graph {graph} {tuple(SIZES[graph])}, {_WALK}, T={num_neighbors}; "
        "one thread, CPU time, medians"
    )
    report(title, rows, figures, as_json=as_json)


def _named(name: str) -> str:
    return {
        "ours": "pinsage.kernels",
        "chase": f"pointer chase, {_CHAINS} chains, as many reads as ours takes steps",
        "ordered": "ours, ids in locality order",
        "weighted": "ours, edges weighted both ways (wanted: <= 1.5)",
        "naive": "naive Numba kernel (wanted: >= 9)",
        "torch": "vectorized Torch (wanted: >= 16)",
        "long": "hard-negative ranks, the default long walks",
        "dgl64": "DGL PinSAGESampler, int64 (wanted: >= 30)",
        "dgl32": "DGL PinSAGESampler, int32 (wanted: >= 20)",
    }[name]


if __name__ == "__main__":
    main()

"""What a graph costs as it grows: building it, holding it, walking on it.

Run: `python -m benchmarks.scale [--json] [--edges 1e6 1e7 1e8 3e8] [--docs docs]`.

Every graph has power-law degrees and communities; it has a tenth as many items as edges and three
hundredths as many contexts, so the mean degrees stay the same. Edges are written as Parquet with
whole numbers for keys, then ingested as any user's tables are, all cores at work, then walked over
with one: 200 walks of length 2 from a sample of the items, T = 50. Each stage has a process of its
own; peak memory is its own memory, mapped files left out. Beside the walks' time stands that of
one random read of as much memory as the packed graph takes, in 32 chains, in the same process.
"""

import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._peers import Chase
from benchmarks._plot import write_chart
from benchmarks._timing import parser, report, take_turns, written_table
from pinsage.base.artifacts import publish
from pinsage.evaluation.plots import Series
from pinsage.graph import DataConfig, Graph
from pinsage.graph.adjacency import ARRAYS
from pinsage.graph.ingest import ingest
from pinsage.graph.powerlaw import PowerLaw
from pinsage.kernels import pack, walk_neighborhoods

_WALK: dict[str, Any] = {
    "num_walks": 200,
    "walk_length": 2,
    "restart": 0.5,
    "num_neighbors": 50,
    "key": 1,
}
_SEEDS = 60_000
_SEEDS_A_CALL = 4_000
_ROUNDS = 5
_CHAINS = 32
_READS = 4_000_000
_FINGERPRINT = "0" * 12
_SAMPLED_EVERY_S = 0.01
_PAIRS = 1_000


@dataclass
class Peak:
    """The most memory that this process had for itself while it was watched."""

    num_bytes: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Look again and again until told to stop."""
        while not self._done.wait(_SAMPLED_EVERY_S):
            self.num_bytes = max(self.num_bytes, _own_bytes())

    def stop(self) -> None:
        """Stop watching."""
        self._done.set()


def main() -> None:
    """Run every stage at every size, and tabulate what it took."""
    flags = parser(__doc__)
    flags.add_argument(
        "--edges", type=float, nargs="+", default=[1e6, 1e7, 1e8], help="sizes of graphs"
    )
    flags.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "pinsage-benchmarks" / "scale",
        help="where the largest graph's tables and files fit: 40 bytes an edge",
    )
    flags.add_argument("--docs", type=Path, help="write the table and two charts there too")
    asked = flags.parse_args()
    measured = [_measure(asked.folder, int(edges)) for edges in asked.edges]
    rows = _rows(measured)
    each_us = [one["us_per_seed"] for one in measured]
    figures = {
        "edges": [one["edges"] for one in measured],
        "us_per_seed": each_us,
        "edges_per_s": [one["edges_per_s"] for one in measured],
        "build_peak_gib": [one["build_peak_gib"] for one in measured],
        "ratio_us_per_seed": round(max(each_us) / min(each_us), 2),
    }
    report("Cost by the size of the graph", rows, figures, as_json=asked.json)
    if asked.docs is not None:
        _write_docs(asked.docs, rows, measured)


def _measure(folder: Path, num_edges: int) -> dict[str, Any]:
    here = folder / f"{num_edges}"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    try:
        _alone(_write_tables, here, num_edges)
        built = _alone(_build, here)
        return built | _alone(_walk, here)
    finally:
        shutil.rmtree(here)


def _alone(stage: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """Run a stage in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(stage, *arguments).result()


def _write_tables(folder: Path, num_edges: int) -> dict[str, Any]:
    shape = PowerLaw(
        num_items=num_edges // 10, num_contexts=num_edges * 3 // 100, num_edges=num_edges
    )
    pq.write_table(pa.table({"item_id": np.arange(shape.num_items)}), folder / "items.parquet")
    (folder / "edges").mkdir()
    num_parts = shape.num_parts()
    for part in range(num_parts):
        items, contexts = shape.edges_of_part(part, num_parts)
        table = pa.table({"item_id": items, "context_id": contexts})
        pq.write_table(table, folder / "edges" / f"part-{part:05d}.parquet")
    queries, positives = shape.pairs(0, _PAIRS)
    splits = np.array(["train", "valid", "test"])[np.arange(_PAIRS) % 3]
    columns = {"query_item": queries, "positive_item": positives, "split": splits}
    pq.write_table(pa.table(columns), folder / "pairs.parquet")
    return {}


def _build(folder: Path) -> dict[str, Any]:
    config = DataConfig.model_validate({
        "items": {"path": str(folder / "items.parquet")},
        "edges": [{"path": str(folder / "edges")}],
        "pairs": {"path": str(folder / "pairs.parquet"), "split": "split"},
    })
    started = time.perf_counter()
    with (
        _watched() as peak,
        publish(folder / _FINGERPRINT, stage="graph", config={}, parents={}) as draft,
    ):
        ingest(config, draft, num_shards=1, seed=0)
    seconds = time.perf_counter() - started
    graph = Graph.open(folder / _FINGERPRINT)
    files = graph.artifact.manifest.files
    adjacency = sum(
        entry.size_bytes
        for name, entry in files.items()
        if name.startswith("shard-") and "features" not in name
    )
    return {
        "edges": graph.num_edges,
        "build_s": round(seconds, 1),
        "edges_per_s": round(graph.num_edges / seconds),
        "build_peak_gib": round(peak.num_bytes / 2**30, 2),
        "disk_bytes_per_edge": round(adjacency / graph.num_edges, 1),
    }


def _walk(folder: Path) -> dict[str, Any]:
    numba.set_num_threads(1)
    graph = Graph.open(folder / _FINGERPRINT)
    started = time.perf_counter()
    whole = graph.adjacency()
    packed = pack(*(getattr(whole, name) for name in ARRAYS))
    pack_s = time.perf_counter() - started
    step = max(1, packed.num_items // _SEEDS)
    seeds = np.arange(0, packed.num_items, step)[:_SEEDS]

    def walk() -> None:
        for first in range(0, len(seeds), _SEEDS_A_CALL):
            walk_neighborhoods(packed, seeds[first : first + _SEEDS_A_CALL], **_WALK)

    # A power of two, as near to the graph's size as there is.
    chase = Chase(_CHAINS, 1 << round(float(np.log2(packed.nbytes))))
    candidates = {"walk": walk, "chase": lambda: chase.read(_READS)}
    seconds = take_turns(candidates, rounds=_ROUNDS)
    return {
        "packed_gib": round(packed.nbytes / 2**30, 3),
        "packed_bytes_per_edge": round(packed.nbytes / graph.num_edges, 1),
        "pack_s": round(pack_s, 1),
        "us_per_seed": round(statistics.median(seconds["walk"]) / len(seeds) * 1e6, 2),
        "read_ns": round(statistics.median(seconds["chase"]) / _READS * 1e9, 1),
    }


@contextmanager
def _watched() -> Any:
    peak = Peak()
    watcher = threading.Thread(target=peak.watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        peak.stop()
        watcher.join()


def _own_bytes() -> int:
    """Memory of this process that no file backs."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def _rows(measured: Sequence[dict[str, Any]]) -> list[tuple[object, ...]]:
    head = (
        "edges",
        "build, s",
        "edges/s",
        "peak memory, GiB",
        "disk, B/edge",
        "packed, GiB",
        "packed, B/edge",
        "pack, s",
        "walk, us/item",
        "one read, ns",
    )
    names = (
        "build_s",
        "edges_per_s",
        "build_peak_gib",
        "disk_bytes_per_edge",
        "packed_gib",
        "packed_bytes_per_edge",
        "pack_s",
        "us_per_seed",
        "read_ns",
    )
    return [head, *((f"{one['edges']:,}", *(one[name] for name in names)) for one in measured)]


def _write_docs(
    folder: Path, rows: Sequence[Sequence[object]], measured: Sequence[dict[str, Any]]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    edges = [one["edges"] / 1e6 for one in measured]
    write_chart(
        folder / "scale-walk.svg",
        [Series("walk", 0, edges, [one["us_per_seed"] for one in measured])],
        names=("million edges", "microseconds an item, one core"),
    )
    write_chart(
        folder / "scale-build.svg",
        [Series("build", 0, edges, [one["edges_per_s"] / 1e6 for one in measured])],
        names=("million edges", "million edges a second, ingest"),
    )
    (folder / "scale-table.md").write_text(written_table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()

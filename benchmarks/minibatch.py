"""Building minibatches from the neighborhood table against np.unique; gathering against memcpy.

The graph has 1M items, 300k contexts and 10M edges; its table is walked once and kept in a folder.
A minibatch is 1024 queries, 1024 positives and 500 shared negatives, and two layers of T neighbors.
All figures are CPU seconds of one thread, in turns.

`ratio_T`: how many times as long the same layers take through np.unique, which is given the drawn
ids for nothing. `gather_share`: bytes gathered a second from a memory-mapped feature store, as a
share of what np.copyto writes, both into memory that is in use already.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numba import set_num_threads

from benchmarks._timing import median_ratio, parser, report, take_turns
from pinsage.base.files import whole_file
from pinsage.base.seeding import Stream, stream
from pinsage.graph.features import FEATURES_FILE, FeatureShard, FeatureStore
from pinsage.graph.partition import shard_name
from pinsage.graph.powerlaw import PowerLaw
from pinsage.kernels import Scratch, build_csr, pack, transpose, unique_ids
from pinsage.sampling.block import build_blocks, cut_table
from pinsage.sampling.minibatch import MinibatchBuilder, MinibatchConfig
from pinsage.sampling.negatives import shared_negatives
from pinsage.sampling.neighborhood import Neighborhoods, WalkConfig, walk_chunk
from pinsage.sampling.pair_sources import FixedPairs
from pinsage.sampling.pairs import epoch_order, rank_share

PAIRS, SHARED, LAYERS, STEPS = 1_024, 500, 2, 8
GRAPH = PowerLaw()
ALLOCATOR = {
    # As in training: what is freed is used again, not returned to the system and zeroed by it.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_THRESHOLD_": str(2**32 - 1),
    "MALLOC_TRIM_THRESHOLD_": str(2**32 - 1),
}
WRITE_ROWS = 65_536


class NoFeatures:
    """Rows of no width, so that only the building is timed."""

    num_items = GRAPH.num_items

    def gather(self, item_ids: np.ndarray) -> np.ndarray:
        """Give an empty row an item."""
        return np.empty((len(item_ids), 0), np.float32)


def main() -> None:
    """Time both, and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--rounds", type=int, default=15, help="how often each takes its turn")
    flags.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "pinsage-minibatch",
        help="where the walked table and the features are kept (2 GB)",
    )
    arguments = flags.parse_args()
    if not ALLOCATOR.items() <= os.environ.items():
        # The allocator reads its settings once, when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ALLOCATOR)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    table = walked_table(arguments.folder)
    set_num_threads(1)
    figures: dict[str, object] = {}
    rows: list[tuple[object, ...]] = [("what", "size", "ours", "other", "ratio")]
    rows.extend(time_building(table, width, arguments.rounds, figures) for width in (10, 20, 50))
    rows += time_gathering(arguments.folder, table, arguments.rounds, figures)
    report("Minibatches: CPU time of one thread", rows, figures, as_json=arguments.json)


def walked_table(folder: Path) -> Neighborhoods:
    """Map the table of 50 neighbors an item; walk it first if it is not there."""
    names = ("neighbor_ids.npy", "weights.npy")
    if not all((folder / name).exists() for name in names):
        parts = [GRAPH.edges_of_part(part, GRAPH.num_parts()) for part in range(GRAPH.num_parts())]
        items, contexts = (np.concatenate(side) for side in zip(*parts, strict=True))
        by_item = build_csr(items, contexts, GRAPH.num_items)
        adjacency = pack(*by_item, *transpose(*by_item, GRAPH.num_contexts))
        walked = walk_chunk(
            adjacency, np.arange(GRAPH.num_items), walk=WalkConfig(), hard=None, seed=0
        )
        for name, values in zip(names, (walked.ids, walked.weights), strict=True):
            with whole_file(folder / name) as path, path.open("wb") as file:
                np.save(file, values, allow_pickle=False)
    ids, weights = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in names)
    return Neighborhoods(ids, weights, np.empty((len(ids), 0), np.int32))


def training_pairs(table: Neighborhoods) -> tuple[np.ndarray, np.ndarray]:
    """Draw queries, and for each one of its five nearest items."""
    draw = stream(0, Stream.SYNTHETIC, 200)
    queries = draw.integers(0, GRAPH.num_items, STEPS * PAIRS)
    positives = table.ids[queries, draw.integers(0, 5, len(queries))].astype(np.int64)
    return queries, np.where(positives < 0, queries, positives)


def time_building(
    table: Neighborhoods, width: int, rounds: int, figures: dict[str, object]
) -> tuple[object, ...]:
    """Build the same minibatches both ways."""
    ids, weights = cut_table(table.ids, table.weights, width)
    queries, positives = training_pairs(table)
    builder = MinibatchBuilder(
        pairs=FixedPairs(queries, positives),
        features=NoFeatures(),
        neighborhoods=Neighborhoods(ids, weights, np.empty((len(ids), 0), np.int32)),
        config=MinibatchConfig(size=PAIRS, shared_negatives=SHARED, max_hard_negatives=0),
        num_layers=LAYERS,
        seed=0,
    )
    drawn = [drawn_items(queries, positives, step) for step in range(STEPS)]
    inputs = [builder.build(0, step, world_rank=0, world_size=1) for step in range(STEPS)]
    for items, minibatch in zip(drawn, inputs, strict=True):
        assert build_by_unique(items, ids, weights) == minibatch.blocks[0].num_sources
    seconds = take_turns(
        {
            "ours": in_turn(lambda step: builder.build(0, step, world_rank=0, world_size=1)),
            "np.unique": in_turn(lambda step: build_by_unique(drawn[step], ids, weights)),
        },
        rounds=rounds,
    )
    ratio = median_ratio(seconds["np.unique"], seconds["ours"])
    ours, other = (statistics.median(seconds[name]) * 1e3 for name in ("ours", "np.unique"))
    num_inputs = round(statistics.mean(one.blocks[0].num_sources for one in inputs))
    figures |= {
        f"ratio_{width}": round(ratio, 2),
        f"build_ms_{width}": round(ours, 2),
        f"inputs_{width}": num_inputs,
    }
    return (
        f"build, T={width}",
        f"{num_inputs:,} inputs",
        f"{ours:.2f} ms",
        f"{other:.1f} ms",
        f"{ratio:.1f}x",
    )


def drawn_items(queries: np.ndarray, positives: np.ndarray, step: int) -> np.ndarray:
    """Give the items that a step of the builder starts from, as int32."""
    order = epoch_order(len(queries), seed=0, epoch=0)
    share = rank_share(order, step, minibatch_size=PAIRS, world_rank=0, world_size=1)
    shared = shared_negatives(GRAPH.num_items, SHARED, seed=0, epoch=0, step=step)
    return np.concatenate([queries[share], positives[share], shared]).astype(np.int32)


def in_turn(run: Callable[[int], object]) -> Callable[[], object]:
    """Run one step after another, and begin again."""
    count = 0

    def next_step() -> object:
        nonlocal count
        count += 1
        return run(count % STEPS)

    return next_step


def build_by_unique(drawn: np.ndarray, ids: np.ndarray, weights: np.ndarray) -> int:
    """Build the layers with np.unique, whose slots go by id; gives the number of input items."""
    nodes, _ = np.unique(drawn, return_inverse=True)
    for _ in range(LAYERS):
        neighbors = ids[nodes]
        present = neighbors >= 0
        sources, inverse = np.unique(
            np.concatenate([nodes, neighbors[present]]), return_inverse=True
        )
        slots = np.zeros(neighbors.shape, np.int32)
        slots[present] = inverse[len(nodes) :]
        assert weights[nodes].shape == slots.shape
        nodes = sources
    return len(nodes)


def time_gathering(
    folder: Path, table: Neighborhoods, rounds: int, figures: dict[str, object]
) -> list[tuple[object, ...]]:
    """Gather what a minibatch of ten neighbors reads, from stores of several shapes."""
    scratch = Scratch.of(GRAPH.num_items)
    queries, positives = training_pairs(table)
    seeds, _ = unique_ids(drawn_items(queries, positives, 0), scratch)
    _, item_ids = build_blocks(
        seeds, *cut_table(table.ids, table.weights, 10), num_layers=LAYERS, scratch=scratch
    )
    rows: list[tuple[object, ...]] = []
    for name, width, num_shards in (
        ("gather_share", 256, 1),
        ("gather_share_128", 128, 1),
        ("gather_share_4_shards", 256, 4),
    ):
        store = feature_store(folder, width, num_shards)
        out = store.gather(item_ids)
        source = np.ones_like(out)
        target = np.zeros_like(source)
        candidates: dict[str, Callable[[], object]] = {
            "gather": partial(store.gather, item_ids, out),
            "copy": partial(np.copyto, target, source),
        }
        seconds = take_turns(candidates, rounds=rounds)
        share = median_ratio(seconds["copy"], seconds["gather"])
        rates = {key: out.nbytes / statistics.median(s) / 1e9 for key, s in seconds.items()}
        figures |= {name: round(share, 3), name.replace("share", "gbps"): round(rates["gather"], 2)}
        rows.append((
            f"gather, {num_shards} shard(s)",
            f"{len(item_ids):,} x {width}",
            f"{rates['gather']:.1f} GB/s",
            f"{rates['copy']:.1f} GB/s",
            f"{share:.2f}",
        ))
    return rows


def feature_store(folder: Path, width: int, num_shards: int) -> FeatureStore:
    """Map shards of features, written first if they are not there; item v's begin with v."""
    directory = folder / f"features-{width}"
    shards = []
    for number in range(num_shards):
        path = directory / shard_name(number, num_shards) / FEATURES_FILE
        items = np.arange(number, GRAPH.num_items, num_shards, dtype=np.float32)
        if not path.exists():
            write_features(path, items, width)
        shards.append(FeatureShard.open(directory, number, num_shards))
    store = FeatureStore(shards)
    assert (store.gather(np.arange(GRAPH.num_items))[:, 0] == np.arange(GRAPH.num_items)).all()
    return store


def write_features(path: Path, items: np.ndarray, width: int) -> None:
    """Write rows as ingest does, and read them back from the disk as a later run would.

    What was just written stays in memory in smaller pages than what is read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(items), width)}
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(items), WRITE_ROWS):
            file.write(np.repeat(items[start : start + WRITE_ROWS], width).data)
    with path.open("rb") as written:
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()

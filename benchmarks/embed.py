"""Embedding a catalog: ours beside a bare loop over the same arrays, and beside Algorithm 2.

The catalog has 10 edges an item, power-law and in topics, 128 random features an item, T = 20
neighbors; the model two convolutions, m = 256, d = 128. All sides may use every core, so wall
seconds are compared.

`ratio_bare`: how many times as long our stage takes, from opened directories to published Parquet
files with their digests, as one process that holds every array in memory and runs the same matrix
products through plain PyTorch, into one `.npy` file. Should the catalog be large enough for Ray
workers, Ray is started before; `ratio_bare_worker` is the same with one Ray worker in any case.

`ratio_minibatch`: how many times as long embedding every item takes by minibatches of 1,024 seeds,
with the blocks of Algorithm 2; a sample of minibatches is timed, and its time scaled up.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks._catalog import (
    Published,
    publish_graph,
    publish_model,
    publish_neighborhoods,
    random_features,
)
from benchmarks._graphs import GraphSize, make_graph
from benchmarks._timing import median_ratio, parser, report, take_turns
from pinsage.cluster.run_config import RayConfig
from pinsage.cluster.session import session
from pinsage.graph import Graph
from pinsage.inference.export import read_embeddings
from pinsage.inference.layerwise import EmbedConfig
from pinsage.kernels.reindex import Scratch
from pinsage.model.checkpoint import load_model
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.model.inputs import to_device_block
from pinsage.sampling.block import build_blocks
from pinsage.sampling.neighborhood import Neighborhoods, WalkConfig

FEATURES = 128
MODEL = ModelConfig(num_layers=2, projected_width=256, embedding_width=128)
WALK = WalkConfig(num_walks=100, num_neighbors=20)
SEEDS = 1_024
CHUNK = 16_384


def main() -> None:
    """Time all sides in turns, check that they agree, and print what each took."""
    flags = parser(__doc__)
    flags.add_argument("--items", type=int, default=200_000, help="items of the catalog")
    flags.add_argument("--rounds", type=int, default=3, help="how often each takes its turn")
    flags.add_argument("--minibatches", type=int, default=20, help="how many are timed")
    arguments = flags.parse_args()
    with tempfile.TemporaryDirectory(prefix="pinsage-embed-") as name:
        folder = Path(name)
        catalog = make_catalog(folder, arguments.items)
        with session(RayConfig(address="local", object_store_bytes=256 * 2**20)):
            figures = measure(folder, catalog, arguments.rounds, arguments.minibatches)
    rows: list[tuple[object, ...]] = [("what", "seconds", "items a second", "times ours")]
    names = {"ours": 1.0, "bare": 0.0, "worker": 0.0, "minibatch": 0.0}
    for side in names:
        seconds = figures[f"seconds_{side}"]
        ratio = seconds / figures["seconds_ours"]
        rows.append((side, f"{seconds:.1f}", f"{arguments.items / seconds:,.0f}", f"{ratio:.2f}"))
    title = f"Embedding {arguments.items:,} items: two convolutions, T=20, m=256, d=128"
    report(title, rows, {"items": arguments.items} | figures, as_json=arguments.json)


def make_catalog(folder: Path, num_items: int) -> Published:
    """Publish the graph, the neighborhoods and the model."""
    graph = make_graph(GraphSize(num_items, num_items * 3 // 10, num_items * 10))
    features = random_features(num_items, FEATURES)
    return Published(
        publish_graph(folder / "graph", graph, features, None),
        publish_neighborhoods(folder / "neighborhoods", graph, WALK),
        publish_model(folder / "model", MODEL, FEATURES),
    )


def measure(folder: Path, catalog: Published, rounds: int, minibatches: int) -> dict[str, float]:
    """Time all sides."""
    targets: list[Path] = []

    def ours(num_workers: int | None) -> None:
        # A directory of its own every time: to remove an old one is no part of embedding.
        targets.append(folder / f"embeddings-{len(targets)}")
        catalog.embed(targets[-1], EmbedConfig(num_workers=num_workers))

    seconds = take_turns(
        {
            "bare": lambda: embed_bare(catalog, folder / "bare.npy"),
            "ours": lambda: ours(None),
            "worker": lambda: ours(1),
        },
        rounds=rounds,
        clock=time.perf_counter,
    )
    made = read_embeddings(targets[-1])
    difference = float(np.abs(made - np.load(folder / "bare.npy")).max())
    by_minibatch, checked = embed_by_minibatches(catalog, minibatches)
    difference = max(difference, float(np.abs(made[checked.ids] - checked.rows).max()))
    sides = {side: statistics.median(times) for side, times in seconds.items()}
    return {
        "ratio_bare": round(median_ratio(seconds["ours"], seconds["bare"]), 3),
        "ratio_bare_worker": round(median_ratio(seconds["worker"], seconds["bare"]), 3),
        "ratio_minibatch": round(by_minibatch / sides["ours"], 1),
        "max_difference": difference,
        **{f"seconds_{side}": round(taken, 2) for side, taken in sides.items()},
        "seconds_minibatch": round(by_minibatch, 1),
    }


@torch.inference_mode()
def embed_bare(catalog: Published, path: Path) -> None:
    """Layer by layer in one process, everything in memory."""
    model = load_model(catalog.model).eval()
    hidden = model.scale_features(torch.from_numpy(features_of(catalog)))
    table = Neighborhoods.open(catalog.neighborhoods)
    ids = torch.from_numpy(np.maximum(table.ids, 0))
    weights = torch.from_numpy(np.array(table.weights))
    for layer in model.convolutions():
        projected = torch.empty(len(hidden), layer.neighbor.out_features)
        for start in range(0, len(hidden), CHUNK):
            chunk = slice(start, start + CHUNK)
            projected[chunk] = functional.relu(layer.neighbor(hidden[chunk]))
        above = torch.empty(len(hidden), layer.joint.out_features)
        for start in range(0, len(hidden), CHUNK):
            chunk = slice(start, start + CHUNK)
            pooled = functional.embedding_bag(
                ids[chunk], projected, per_sample_weights=weights[chunk], mode="sum"
            )
            joined = functional.relu(layer.joint(torch.cat([hidden[chunk], pooled], dim=1)))
            above[chunk] = functional.normalize(joined, dim=1)
        hidden = above
    rows = torch.empty(len(hidden), MODEL.embedding_width)
    for start in range(0, len(hidden), CHUNK):
        chunk = slice(start, start + CHUNK)
        rows[chunk] = model.head(hidden[chunk])
    np.save(path, rows.numpy(), allow_pickle=False)


class Checked:
    """Embeddings of some items, to compare with."""

    def __init__(self, ids: np.ndarray, rows: np.ndarray) -> None:
        self.ids = ids
        self.rows = rows


@torch.inference_mode()
def embed_by_minibatches(catalog: Published, count: int) -> tuple[float, Checked]:
    """Embed random seeds a minibatch at a time; gives the seconds that the catalog would take."""
    model: PinSage = load_model(catalog.model).eval()
    features = Graph.open(catalog.graph).features()
    table = Neighborhoods.open(catalog.neighborhoods)
    ids, weights = np.array(table.ids), np.array(table.weights)
    order = np.random.default_rng(0).permutation(len(ids))
    scratch = Scratch.of(len(ids))
    times, rows = [], np.empty((0, 0), np.float32)
    for number in range(count + 1):
        # The last ones are fewer than the catalog has if it is small: begin again.
        seeds = np.take(order, range(number * SEEDS, (number + 1) * SEEDS), mode="wrap")
        seeds = np.unique(seeds)
        started = time.perf_counter()
        blocks, inputs = build_blocks(
            seeds, ids, weights, num_layers=MODEL.num_layers, scratch=scratch
        )
        moved = [to_device_block(block, torch.device("cpu")) for block in blocks]
        rows = model(torch.from_numpy(features.gather(inputs)), moved).numpy()
        # The first one compiles and warms up.
        if number:
            times.append((time.perf_counter() - started) / len(seeds))
    return statistics.mean(times) * len(ids), Checked(seeds, rows)


def features_of(catalog: Published) -> np.ndarray:
    """Read all features into memory."""
    store = Graph.open(catalog.graph).features()
    return store.gather(np.arange(store.num_items))


if __name__ == "__main__":
    main()

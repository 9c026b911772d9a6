"""What the training benchmarks train on: graph M, and DGL's PinSAGE example's shape of step."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from benchmarks._graphs import SIZES, cached_graph
from pinsage.base.files import whole_file
from pinsage.base.machine import ALLOCATOR
from pinsage.base.seeding import Stream, stream, stream_key
from pinsage.graph.features import FeatureShard, FeatureStore
from pinsage.kernels import importance_weights, pack, random_walks, walk_neighborhoods
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.model.loss import LossConfig
from pinsage.sampling.minibatch import MinibatchBuilder, MinibatchConfig
from pinsage.sampling.neighborhood import Neighborhoods
from pinsage.sampling.pair_sources import FixedPairs
from pinsage.training import TrainingStep, make_optimizer

PAIRS, HIDDEN, FEATURES, NEIGHBORS, LAYERS = 512, 128, 64, 10, 2
NUM_WALKS, WALK_LENGTH, RESTART = 50, 2, 0.5
STEPS = 200
"""Minibatches in an epoch of the drawn pairs."""

_NAMES = ("neighbor_ids", "weights", "features", "queries", "positives")


@dataclass(frozen=True)
class WorldSpec:
    """The files that `prepare` wrote; stands in for a run's `ProducerSpec`.

    Attributes:
        folder: where they are.
    """

    folder: Path

    def builder(self) -> MinibatchBuilder:
        """Map the files; as many shared negatives as pairs, where the example draws one a pair."""
        ids, weights, features, queries, positives = (
            np.load(self.folder / f"train-{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _NAMES
        )
        return MinibatchBuilder(
            pairs=FixedPairs(queries, positives),
            features=FeatureStore([FeatureShard(features)]),
            neighborhoods=Neighborhoods(ids, weights, np.empty((len(ids), 0), np.int32)),
            config=MinibatchConfig(size=PAIRS, shared_negatives=PAIRS, max_hard_negatives=0),
            num_layers=LAYERS,
            seed=0,
        )


def prepare(folder: Path) -> WorldSpec:
    """Walk the table, and draw features and pairs, if they are not there yet (0.4 GB)."""
    if not all((folder / f"train-{name}.npy").exists() for name in _NAMES):
        graph = cached_graph(folder, "M")
        packed = pack(
            graph.item_starts, graph.item_contexts, graph.context_starts, graph.context_items
        )
        num_items = SIZES["M"].num_items
        key = stream_key(0, Stream.SYNTHETIC)
        ids, counts = walk_neighborhoods(
            packed,
            np.arange(num_items),
            key=key,
            num_walks=NUM_WALKS,
            walk_length=WALK_LENGTH,
            restart=RESTART,
            num_neighbors=NEIGHBORS,
        )
        draw = stream(0, Stream.SYNTHETIC, 300)
        queries = draw.integers(0, num_items, STEPS * PAIRS)
        # As the example has it: a pair is an item and one that shares a context with it.
        reached = random_walks(
            packed, queries, key=key + 1, num_walks=1, walk_length=1, restart=0.5
        )[:, 0].astype(np.int64)
        features = draw.standard_normal((num_items, FEATURES), np.float32)
        positives = np.where(reached < 0, queries, reached)
        made: tuple[np.ndarray, ...] = (
            ids,
            importance_weights(counts),
            features,
            queries,
            positives,
        )
        for name, values in zip(_NAMES, made, strict=True):
            with whole_file(folder / f"train-{name}.npy") as path, path.open("wb") as file:
                np.save(file, values, allow_pickle=False)
    return WorldSpec(folder)


def make_step(projected_width: int = HIDDEN) -> TrainingStep:
    """Make a fresh network and its step."""
    torch.manual_seed(0)
    shape = ModelConfig(num_layers=LAYERS, projected_width=projected_width, embedding_width=HIDDEN)
    model = PinSage(shape, FEATURES)
    return TrainingStep(
        model, make_optimizer(model), LossConfig(), device=torch.device("cpu"), world_size=1
    )


def as_a_worker_starts() -> None:
    """Start this process again with a training worker's allocator, then keep to one thread."""
    if not ALLOCATOR.items() <= os.environ.items():
        # The allocator reads its settings once, when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ALLOCATOR)
    torch.set_num_threads(1)
    numba.set_num_threads(1)


def minibatch_stream(producers: list[Any], *, first: int, last: int, prefetch: int) -> Any:
    """Make a worker's stream of the minibatches from `first` on and before `last`."""
    from pinsage.cluster.producers import MinibatchStream

    return MinibatchStream(
        producers,
        node=producers[0].node,
        first_step=first,
        last_step=last,
        steps_per_epoch=STEPS,
        world_rank=0,
        world_size=1,
        prefetch=prefetch,
        timeout_s=60,
    )


@contextmanager
def producers_of(spec: Any, count: int) -> Iterator[list[Any]]:
    """Have the project's own producer actors, on a Ray of this machine.

    Args:
        spec: whatever has a `builder` method like `WorldSpec`'s.
        count: how many.
    """
    # Only the benchmarks of producers need Ray, and it is slow to import.
    import ray

    from pinsage.cluster.producers import start_producers
    from pinsage.cluster.run_config import RayConfig
    from pinsage.cluster.session import session

    with session(RayConfig(address="local", object_store_bytes=512 * 2**20)):
        producers = start_producers(spec, num_per_node=count)
        try:
            yield producers
        finally:
            for producer in producers:
                ray.kill(producer.actor)

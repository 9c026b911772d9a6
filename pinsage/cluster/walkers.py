"""Actors that walk chunks of items, and the driver that hands the chunks out."""

from pathlib import Path
from typing import Any

import numpy as np
import ray

from pinsage.base.artifacts import Draft, whole_file
from pinsage.base.errors import WorkerTimeoutError
from pinsage.base.logs import Progress
from pinsage.graph import Graph
from pinsage.graph.choice import ChoiceConfig
from pinsage.sampling.neighborhood import HardNegativeConfig, WalkConfig, pack_graph, walk_chunk

_TIMEOUT_S = 3_600.0
_ARRAYS = {"neighbor_ids": "ids", "weights": "weights", "hard_negatives": "hard_negatives"}


class Walker:
    """The graph, packed for walking; each kernel call uses every core of its node."""

    def __init__(self, graph: Path, choice: ChoiceConfig) -> None:
        """Pack the graph's adjacency for walks that choose among edges as configured."""
        self._packed = pack_graph(Graph.open(graph).adjacency(), choice)

    def walk(
        self,
        start: int,
        stop: int,
        folder: Path,
        *,
        walk: WalkConfig,
        hard: HardNegativeConfig | None,
        seed: int,
    ) -> int:
        """Write the rows of the items in [start, stop), and say how many there are."""
        rows = walk_chunk(self._packed, np.arange(start, stop), walk=walk, hard=hard, seed=seed)
        for name, attribute in _ARRAYS.items():
            with whole_file(_part(folder, name, start, stop)) as path, path.open("wb") as out:
                np.save(out, getattr(rows, attribute), allow_pickle=False)
        return stop - start


WalkerActor: Any = ray.remote(num_cpus=0, max_restarts=3, max_task_retries=3)(Walker)
"""`Walker` behind a mailbox."""


def walk_all(
    graph: Path,
    draft: Draft,
    *,
    walk: WalkConfig,
    hard: HardNegativeConfig | None,
    seed: int,
) -> None:
    """Write the whole neighborhood table; chunks that an earlier run finished are kept.

    Raises:
        WorkerTimeoutError: a chunk took longer than an hour.
    """
    num_items = Graph.open(graph).num_items
    folder = draft.scratch
    size = walk.items_per_chunk
    chunks = [(start, min(start + size, num_items)) for start in range(0, num_items, size)]
    todo = [
        chunk
        for chunk in chunks
        if not all(_part(folder, name, *chunk).exists() for name in _ARRAYS)
    ]
    walker = WalkerActor.remote(graph, walk.choice)
    try:
        with Progress("walk", num_items, "items") as progress:
            progress.resume_at(num_items - sum(stop - start for start, stop in todo))
            for start, stop in todo:
                call = walker.walk.remote(start, stop, folder, walk=walk, hard=hard, seed=seed)
                progress.advance(_get(call, start, stop))
    finally:
        ray.kill(walker)
    for name in _ARRAYS:
        _join([_part(folder, name, *chunk) for chunk in chunks], draft, f"{name}.npy")


def _get(call: Any, start: int, stop: int) -> int:
    try:
        done: int = ray.get(call, timeout=_TIMEOUT_S)
    except ray.exceptions.GetTimeoutError as error:
        raise WorkerTimeoutError(
            f"the walks from items {start} to {stop} took over {_TIMEOUT_S:g} s; lower "
            "walk.items_per_chunk, walk.num_walks or hard_negatives.num_walks"
        ) from error
    return done


def _join(parts: list[Path], draft: Draft, name: str) -> None:
    """Write the rows of all parts as one array, a part at a time."""
    arrays = [np.load(part, mmap_mode="r", allow_pickle=False) for part in parts]
    shape = (sum(len(array) for array in arrays), *arrays[0].shape[1:])
    with draft.file(name) as path:
        joined = np.lib.format.open_memmap(path, mode="w+", dtype=arrays[0].dtype, shape=shape)
        row = 0
        for array in arrays:
            joined[row : row + len(array)] = array
            row += len(array)
        joined.flush()


def _part(folder: Path, name: str, start: int, stop: int) -> Path:
    """Name a chunk by both its ends: a rerun may cut the items differently."""
    return folder / f"{name}-{start:012d}-{stop:012d}.npy"

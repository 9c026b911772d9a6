"""The neighborhood table: handing out chunks of items, to one process or to the shards' stores."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numba import get_num_threads, set_num_threads

from pinsage.base import shared
from pinsage.base.arrays import read_summed, write_summed
from pinsage.base.artifacts import Draft
from pinsage.base.errors import ArtifactError, ResourceError, WorkerTimeoutError
from pinsage.base.logs import Progress
from pinsage.base.machine import memory_bytes
from pinsage.base.seeding import Stream, stream_key
from pinsage.cluster import metrics
from pinsage.cluster.placement import place_beside_caller
from pinsage.cluster.store_actor import Kept, Part, Token
from pinsage.cluster.stores import LOST, StoreConfig, Stores, open_stores
from pinsage.graph import Graph
from pinsage.graph.adjacency import AdjacencyShard
from pinsage.graph.choice import ChoiceConfig
from pinsage.graph.partition import num_ids_in
from pinsage.kernels.packing import PackedAdjacency
from pinsage.sampling.messages import SeedRange, ranges_of
from pinsage.sampling.neighborhood import HardNegativeConfig, WalkConfig, pack_graph, walk_chunk

_log = logging.getLogger(__name__)

_TIMEOUT_S = 3_600.0
_ARRAYS = {"neighbor_ids": "ids", "weights": "weights", "hard_negatives": "hard_negatives"}
_MOST_CHUNKS_TOGETHER = 16
"""A store holds the rows of all of them, and writes three files for each in one call."""

_UNIFORM_EDGE_BYTES = 12
_CHANCE_EDGE_BYTES = 36

Chunk = tuple[int, int]


@dataclass(frozen=True)
class WalkTask:
    """Which table is made: the graph, and all that its rows depend on."""

    graph: Path
    walk: WalkConfig
    hard: HardNegativeConfig | None
    seed: int

    def walks(self, start: int, stop: int) -> list[tuple[SeedRange, Kept]]:
        """List the walks from the items in [start, stop), and what is kept of each."""
        settings = [(Stream.WALKS, self.walk, Kept(self.walk.num_neighbors))]
        if self.hard is not None:
            columns = tuple(self.hard.columns().tolist())
            settings.append((Stream.LONG_WALKS, self.hard, Kept(self.hard.last_rank, columns)))  # type: ignore[arg-type]
        return [
            (
                SeedRange(
                    start,
                    stop,
                    key=stream_key(self.seed, purpose),
                    num_walks=config.num_walks,
                    walk_length=config.walk_length,
                    restart=config.restart,
                ),
                kept,
            )
            for purpose, config, kept in settings
        ]


class Walker:
    """The graph, packed for walking; for kernel calls that use many cores."""

    def __init__(self, task: WalkTask, threads: int | None) -> None:
        """Name the graph; it is packed at the first walk, so that its errors reach the caller.

        Args:
            task: which table is made.
            threads: cores to walk with; None for all.
        """
        self._task = task
        self._threads = min(threads or get_num_threads(), get_num_threads())
        self._packed: PackedAdjacency | None = None

    def walk(self, start: int, stop: int, folder: Path) -> int:
        """Write the rows of the items in [start, stop), and say how many there are.

        Raises:
            DataError: the walks' settings ask for what the graph's edges lack.
        """
        task = self._task
        if self._packed is None:
            self._packed = pack_graph(Graph.open(task.graph).adjacency(), task.walk.choice)
        set_num_threads(self._threads)
        rows = walk_chunk(
            self._packed, np.arange(start, stop), walk=task.walk, hard=task.hard, seed=task.seed
        )
        folder.mkdir(parents=True, exist_ok=True)
        for name, attribute in _ARRAYS.items():
            path = part_path(folder, name, (start, stop))
            write_summed(path, getattr(rows, attribute))
            shared.push(path)
        metrics.count("walk_items_total", stop - start)
        metrics.tell_traffic()
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
    stores: StoreConfig | None = None,
) -> None:
    """Write the whole neighborhood table; whole chunks that an earlier run left are kept.

    The table is the same, byte for byte, however it is walked.

    Raises:
        WorkerTimeoutError: a chunk took longer than an hour.
        ResourceError: what walks was lost again and again.
        ShardUnavailableError: a store gave no answer in time.
        ArtifactError: a shard's files were damaged.
        DataError: the walks' settings ask for what the graph's edges lack.
    """
    task = WalkTask(graph, walk, hard, seed)
    config = stores or StoreConfig()
    opened = Graph.open(graph)
    num_items, num_shards = opened.num_items, opened.num_shards
    folder = draft.scratch
    size = walk.items_per_chunk
    chunks = [(start, min(start + size, num_items)) for start in range(0, num_items, size)]
    # In a bucket, nodes that are lost may have left parts there.
    shared.pull(folder)
    todo = [chunk for chunk in chunks if not _is_done(folder, chunk, num_shards)]
    cuts = {chunk: _cuts(folder, chunk, num_shards) for chunk in chunks}
    walk_chunks, cuts_here = _walk_here, 1
    if not is_local(config.mode, packed_bytes(opened, walk.choice), config.local_memory_share):
        walk_chunks, cuts_here = _walk_by_rounds, num_shards
    cuts |= dict.fromkeys(todo, cuts_here)
    with Progress("walk", num_items, "items") as progress:
        progress.resume_at(num_items - sum(stop - start for start, stop in todo))
        if todo:
            walk_chunks(task, config, todo, folder, progress.advance)
    shared.pull(folder)
    for name in _ARRAYS:
        join_parts(folder, cuts, draft, name)


def is_local(mode: str, graph_bytes: int, memory_share: float) -> bool:
    """Decide whether one process walks over the whole graph.

    Args:
        mode: `auto`, `local` or `sharded`.
        graph_bytes: what the packed graph takes.
        memory_share: of this machine's memory, the most that it may take.
    """
    if mode == "auto":
        return graph_bytes <= memory_share * memory_bytes()
    return mode == "local"


def packed_bytes(graph: Graph, choice: ChoiceConfig) -> int:
    """Tell how many bytes the whole graph takes, packed for walking."""
    shard = AdjacencyShard.open(graph.artifact.path, 0, graph.num_shards)
    by_chance = (
        (choice.by_weight and shard.item_weights is not None)
        or choice.half_life is not None
        or choice.degree_power != 0.0
    )
    an_edge = _CHANCE_EDGE_BYTES if by_chance else _UNIFORM_EDGE_BYTES
    return 8 * (graph.num_items + graph.num_contexts) + an_edge * graph.num_edges


def _walk_here(
    task: WalkTask,
    config: StoreConfig,
    todo: Sequence[Chunk],
    folder: Path,
    advance: Callable[[int], None],
) -> None:
    # It is this machine's memory that was asked.
    walker = WalkerActor.options(scheduling_strategy=place_beside_caller()).remote(
        task, config.threads
    )
    try:
        for start, stop in todo:
            advance(_get(walker.walk.remote(start, stop, folder), start, stop))
    finally:
        ray.kill(walker)


def _get(call: Any, start: int, stop: int) -> int:
    try:
        done: int = ray.get(call, timeout=_TIMEOUT_S)
    except ray.exceptions.GetTimeoutError as error:
        raise WorkerTimeoutError(
            f"the walks from items {start} to {stop} took over {_TIMEOUT_S:g} s; lower "
            "walk.items_per_chunk, walk.num_walks or hard_negatives.num_walks"
        ) from error
    except ray.exceptions.RayActorError as error:
        raise ResourceError(
            f"the process that walks was lost again and again, the last time from items {start} to "
            f"{stop} ({type(error).__name__}); look at this machine's memory, lower "
            "walk.items_per_chunk, or set stores.mode=sharded"
        ) from error
    return done


def _walk_by_rounds(
    task: WalkTask,
    config: StoreConfig,
    todo: Sequence[Chunk],
    folder: Path,
    advance: Callable[[int], None],
) -> None:
    with open_stores(task.graph, task.walk.choice, config) as stores:
        pool = ThreadPoolExecutor(stores.share.under_way)
        try:
            batches = batches_of(todo, _most_together(task, stores, todo))
            walks = [
                pool.submit(_walk_again_if_lost, task, stores, batch, folder, config.max_attempts)
                for batch in batches
            ]
            for walk in walks:
                advance(walk.result())
        finally:
            # First the stores: threads that wait for them would wait for ever.
            stores.stop()
            pool.shutdown(cancel_futures=True)


def _walk_again_if_lost(
    task: WalkTask, stores: Stores, batch: Sequence[Chunk], folder: Path, max_attempts: int
) -> int:
    """Walk one batch; a store that is lost meanwhile comes back elsewhere, with the same shard."""
    first, stop = batch[0][0], batch[-1][1]
    for attempt in range(max_attempts):
        try:
            if attempt:
                stores.open()
                stores.forget(first)
            _walk_batch(task, stores, batch, folder, attempt)
        except LOST as error:
            if stores.is_stopped:
                raise
            _log.warning(
                "a store was lost; walking again from items %d to %d (%s)",
                first,
                stop,
                type(error).__name__,
            )
        else:
            return stop - first
    raise ResourceError(
        f"stores were lost in each of {max_attempts} walks from items {first} to {stop}; "
        "look at their nodes' memory, lower stores.visits_per_round, or raise stores.max_attempts"
    )


def _walk_batch(
    task: WalkTask, stores: Stores, batch: Sequence[Chunk], folder: Path, attempt: int
) -> None:
    num_shards, first = len(stores.actors), batch[0][0]
    tokens: list[Token] = []
    for whole, kept in task.walks(first, batch[-1][1]):
        for seeds in ranges_of(whole, num_shards=num_shards, visits_per_shard=stores.share.visits):
            tokens.append((first, attempt, len(tokens)))
            stores.walk(tokens[-1], seeds, kept)
    parts = [
        [
            Part(
                num_ids_in(shard, num_shards, stop) - num_ids_in(shard, num_shards, start),
                _parts(folder, (start, stop), shard, num_shards),
            )
            for start, stop in batch
        ]
        for shard in range(num_shards)
    ]
    stores.write(tokens, parts)


def _most_together(task: WalkTask, stores: Stores, todo: Sequence[Chunk]) -> int:
    """How many items go together: what a round holds of their longest walks.

    But no more than leave all threads of a store something to do, nor than it can hold the rows of,
    and write in time.
    """
    visits = max(seeds.num_walks * seeds.walk_length for seeds, _ in task.walks(0, 0))
    a_round = stores.share.visits // visits * len(stores.actors)
    a_thread = math.ceil(sum(stop - start for start, stop in todo) / stores.share.under_way)
    return min(a_round, a_thread, _MOST_CHUNKS_TOGETHER * task.walk.items_per_chunk)


def batches_of(chunks: Iterable[Chunk], most_items: int) -> list[list[Chunk]]:
    """Put chunks together that follow each other, up to so many items.

    Walks by rounds send a message from every shard to every other one, and a few large ones cost
    less than many small ones.

    >>> batches_of([(0, 2), (2, 4), (4, 6), (8, 10)], 4)
    [[(0, 2), (2, 4)], [(4, 6)], [(8, 10)]]
    """
    batches: list[list[Chunk]] = []
    for start, stop in chunks:
        if batches and batches[-1][-1][1] == start and stop - batches[-1][0][0] <= most_items:
            batches[-1].append((start, stop))
        else:
            batches.append([(start, stop)])
    return batches


def _parts(folder: Path, chunk: Chunk, shard: int, num_shards: int) -> Mapping[str, Path]:
    return {name: part_path(folder, name, chunk, shard, num_shards) for name in _ARRAYS}


def _cuts(folder: Path, chunk: Chunk, num_shards: int) -> int:
    """In how many shards' parts a chunk was written: 1 if by one process, 0 if not whole."""
    for cuts in (1, num_shards):
        parts = [_parts(folder, chunk, shard, cuts).values() for shard in range(cuts)]
        if all(path.exists() for paths in parts for path in paths):
            return cuts
    return 0


def _is_done(folder: Path, chunk: Chunk, num_shards: int) -> bool:
    """Tell whether an earlier run has left all of a chunk; damaged parts are removed."""
    is_whole = True
    for shard in range(cuts := _cuts(folder, chunk, num_shards)):
        for part in _parts(folder, chunk, shard, cuts).values():
            try:
                read_summed(part)
            except ArtifactError as error:
                _log.warning("%s (items %d to %d are walked from again)", error, *chunk)
                part.unlink()
                is_whole = False
    return cuts > 0 and is_whole


def join_parts(folder: Path, cuts: Mapping[Chunk, int], draft: Draft, name: str) -> None:
    """Write the rows of all parts as one array, a chunk at a time.

    Args:
        folder: where the parts are.
        cuts: all chunks in order, and in how many shards' parts each was written.
        draft: where the array goes.
        name: of the array.

    Raises:
        OSError: a part is gone, or the disk is full. A map of the file would end the process there
            without a word.
        ArtifactError: a part is damaged.
    """
    first, last = min(cuts), max(cuts)
    like = read_summed(part_path(folder, name, first, 0, cuts[first]))
    shape = (last[1], *like.shape[1:])
    about = {"descr": like.dtype.str, "fortran_order": False, "shape": shape}
    with draft.file(f"{name}.npy") as path, path.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, about)
        for (start, stop), num_parts in cuts.items():
            rows = np.empty((stop - start, *like.shape[1:]), like.dtype)
            for shard in range(num_parts):
                part = part_path(folder, name, (start, stop), shard, num_parts)
                # Item id % num_parts is the shard.
                rows[(shard - start) % num_parts :: num_parts] = read_summed(part)
            out.write(rows.data)


def part_path(folder: Path, name: str, chunk: Chunk, shard: int = 0, num_shards: int = 1) -> Path:
    """Name a chunk by both its ends: a rerun may cut the items differently."""
    start, stop = chunk
    of_shard = f"-{shard:05d}-of-{num_shards:05d}" if num_shards > 1 else ""
    return folder / f"{name}-{start:012d}-{stop:012d}{of_shard}.npy"

"""The actor that holds one shard: its edges, its feature rows, and its part in walks by rounds."""

import os
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from jaxtyping import Float32, Int64
from numba import set_num_threads

from pinsage.base import shared
from pinsage.base.arrays import write_summed
from pinsage.base.artifacts import check_digests
from pinsage.base.errors import WalkLostError
from pinsage.cluster import metrics
from pinsage.cluster.placement import STORE_CPUS
from pinsage.graph import Graph
from pinsage.graph.adjacency import AdjacencyShard
from pinsage.graph.choice import ChoiceConfig, edge_chances
from pinsage.graph.features import FeatureShard
from pinsage.graph.partition import shard_name
from pinsage.kernels.visits import importance_weights
from pinsage.sampling.messages import Arrivals, Departures, Message, SeedRange, Walkers
from pinsage.sampling.rounds import PackedShard, ShardWalk

Token = tuple[int, int, int]
"""Names one walk: the first item of its batch, the attempt at that batch, the walk's number."""

_MALLOC = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:"
    "glibc.malloc.trim_threshold=8589934592:glibc.malloc.arena_max=1"
)
"""Memory once used is kept and used again, in huge pages. Else every message would be written into
pages that the system clears first, a fifth of a walk's time. Threads share one arena, for one of
their own holds no large array. Other C libraries ignore it."""


@dataclass(frozen=True)
class Kept:
    """What is kept of walks: neighborhoods with weights, or some columns of the ranks."""

    num_neighbors: int
    columns: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Part:
    """A store's rows of one chunk of items: how many, and the files they go to, by array."""

    num_rows: int
    paths: Mapping[str, Path]


@dataclass(frozen=True)
class Spent:
    """What a store has taken since it started."""

    sent_bytes: int
    """Bytes of messages to other stores."""
    walk_s: float
    """CPU seconds of moving and counting walks."""
    total_s: float
    """CPU seconds of the whole process."""


class Store:
    """One shard: its edges, its feature rows, and its part in the walks under way."""

    def __init__(self, graph: Path, shard: int, choice: ChoiceConfig) -> None:
        """Name the shard; its files are read when first asked for."""
        self._path = graph
        self._shard = shard
        self._choice = choice
        self._lock = threading.Lock()
        self._packed: PackedShard | None = None
        self._features: FeatureShard | None = None
        self._walks: dict[Token, ShardWalk] = {}
        self._own: dict[Token, Message] = {}
        self._rows: dict[Token, dict[str, np.ndarray]] = {}
        self._counting = threading.Lock()
        self._sent_bytes = 0
        self._walk_s = 0.0

    def open(self) -> int:
        """Check the shard's files and pack its edges, unless that is done.

        Returns:
            Bytes that the packed edges take.

        Raises:
            ArtifactError: a file was damaged; the message names the shard.
        """
        with self._lock:
            if self._packed is None:
                self._packed = self._pack()
            return self._packed.nbytes

    def depart(self, token: Token, seeds: SeedRange) -> Any:
        """Begin a walk; answer for `ShardWalk.depart`, a message a shard."""
        self.open()
        assert self._packed is not None
        with self._timed():
            walk = self._walks[token] = ShardWalk(self._packed, seeds)
            return self._send(token, walk.depart())

    def at_contexts(self, token: Token, step: int, *arriving: Departures | Walkers | None) -> Any:
        """Answer for `ShardWalk.at_contexts`."""
        with self._timed():
            walk = self._walk(token)
            return self._send(token, walk.at_contexts(step, self._received(token, arriving)))

    def at_items(self, token: Token, step: int, *arriving: Arrivals | None) -> Any:
        """Answer for `ShardWalk.at_items`."""
        with self._timed():
            walk = self._walk(token)
            return self._send(token, walk.at_items(step, self._received(token, arriving)))

    def neighborhoods(self, token: Token, kept: Kept, *arriving: Arrivals | None) -> int:
        """End a walk, and keep its rows until they are written; says how many there are."""
        with self._timed():
            walk = self._walk(token)
            ids, counts = walk.neighborhoods(self._received(token, arriving), kept.num_neighbors)
            del self._walks[token]
            if kept.columns is None:
                rows = {"neighbor_ids": ids, "weights": importance_weights(counts)}
            else:
                rows = {"hard_negatives": ids[:, list(kept.columns)]}
            self._rows[token] = rows
            return len(ids)

    def write(self, tokens: Sequence[Token], parts: Sequence[Part]) -> None:
        """Write the rows of some walks, chunk after chunk, and forget them.

        Args:
            tokens: the walks in order of their seeds.
            parts: the chunks that the seeds are of, in order.
        """
        if any(token not in self._rows for token in tokens):
            raise self._lost()
        rows = [self._rows[token] for token in tokens]
        num_rows = sum(part.num_rows for part in parts)
        names = list(parts[0].paths)
        found = {name: [row[name] for row in rows if name in row] for name in names}
        nothing = [np.empty((num_rows, 0), np.int32)]
        whole = {name: np.concatenate(found[name] or nothing) for name in names}
        first = 0
        for part in parts:
            for name, path in part.paths.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_summed(path, whole[name][first : first + part.num_rows])
                shared.push(path)
            first += part.num_rows
        self.forget(tokens[0][0])
        shard_tag = str(self._shard)
        metrics.count("walk_items_total", num_rows)
        metrics.gauge("store_under_way", len(self._walks), shard=shard_tag)
        metrics.count_up_to("store_sent_bytes_total", self._sent_bytes, shard=shard_tag)
        metrics.count_up_to("store_walk_seconds_total", self._walk_s, shard=shard_tag)
        metrics.tell_traffic()

    def forget(self, start: int) -> None:
        """Drop what is left of walks from a batch of items."""
        for held in (self._walks, self._own, self._rows):
            # Listed at once: other threads of this actor put walks in meanwhile.
            for token in list(held):
                if token[0] == start:
                    held.pop(token, None)

    def gather(self, rows: Int64[np.ndarray, " wanted"]) -> Float32[np.ndarray, "wanted width"]:
        """Answer for `FeatureShard.gather`."""
        with self._lock:
            if self._features is None:
                graph = Graph.open(self._path)
                check_digests(graph.artifact, shard_name(self._shard, graph.num_shards))
                self._features = FeatureShard.open(self._path, self._shard, graph.num_shards)
        return self._features.gather(rows)

    def process_id(self) -> int:
        """Tell which process of its machine this is."""
        return os.getpid()

    def spent(self) -> Spent:
        """Tell what walking has taken so far."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Spent(self._sent_bytes, self._walk_s, usage.ru_utime + usage.ru_stime)

    def _pack(self) -> PackedShard:
        graph = Graph.open(self._path)
        check_digests(graph.artifact, shard_name(self._shard, graph.num_shards))
        shard = AdjacencyShard.open(self._path, self._shard, graph.num_shards)
        shard.check(graph.num_items, graph.num_contexts)
        degrees = np.empty(0, np.int64)
        if self._choice.degree_power != 0.0:
            degrees = graph.item_degrees()
        return PackedShard(shard, *edge_chances(shard, self._choice, degrees))

    def _walk(self, token: Token) -> ShardWalk:
        walk = self._walks.get(token)
        if walk is None:
            raise self._lost()
        return walk

    def _send(self, token: Token, messages: list[Any]) -> Any:
        """Keep this shard's own message; the others are the call's return values."""
        self._own[token] = messages[self._shard]
        messages[self._shard] = None
        num_bytes = sum(message.nbytes for message in messages if message is not None)
        with self._counting:
            self._sent_bytes += num_bytes
        return messages if len(messages) > 1 else None

    def _received(self, token: Token, arriving: Sequence[Any]) -> list[Any]:
        own = self._own.pop(token, None)
        if own is None:
            raise self._lost()
        return [own if message is None else message for message in arriving]

    def _lost(self) -> WalkLostError:
        return WalkLostError(
            f"shard {self._shard} was started again while walks were under way; walk again from "
            "the same items"
        )

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.thread_time()
        # Numba keeps this number for each thread; stores share a node's cores by other means.
        set_num_threads(1)
        try:
            yield
        finally:
            with self._counting:
                self._walk_s += time.thread_time() - started


_OPTIONS: Any = {
    "num_cpus": STORE_CPUS,
    "max_restarts": -1,
    "allow_out_of_order_execution": True,
    "runtime_env": {"env_vars": {"GLIBC_TUNABLES": _MALLOC}},
}

StoreActor: Any = ray.remote(**_OPTIONS)(Store)
"""`Store` behind a mailbox. A call runs as soon as all it needs is there, so that one walk moves on
while another one waits for its messages."""

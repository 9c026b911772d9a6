"""Store actors, one a shard: walks by rounds between them, and feature rows by request.

A round's messages go from actor to actor as object references; the driver never sees their
content, and what a shard has for itself never leaves its actor.
"""

import math
import resource
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import ray
from jaxtyping import Float32, Int64
from numba import set_num_threads
from pydantic import Field, PositiveFloat, PositiveInt

from pinsage.base.artifacts import check_digests, whole_file
from pinsage.base.config import Config
from pinsage.base.errors import ShardUnavailableError, WalkLostError
from pinsage.cluster.placement import STORE_CPUS, place_in, spread
from pinsage.graph import Graph
from pinsage.graph.adjacency import AdjacencyShard
from pinsage.graph.choice import ChoiceConfig, edge_chances
from pinsage.graph.features import FeatureShard
from pinsage.graph.partition import rows_of, shard_name, shards_of
from pinsage.kernels.checks import require_ids
from pinsage.kernels.visits import importance_weights
from pinsage.kernels.walks import end_limits
from pinsage.sampling.rounds import (
    Arrivals,
    Departures,
    Message,
    PackedShard,
    SeedRange,
    ShardWalk,
    Walkers,
)

LOST = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, WalkLostError)
"""What is raised where a store, or something it held, was lost; walking again mends it."""

Token = tuple[int, int, int]
"""Names one walk: the first item of its chunk, the attempt at that chunk, the walk's number."""

_POLL_S = 0.5
"""How long to wait before a lost store is asked again."""

_PING_S = 5.0
"""How long a store that works on nothing may take to say that it is there."""


class StoreConfig(Config):
    """Whether one process walks over the whole graph, or stores over their shards, by rounds."""

    mode: Literal["auto", "local", "sharded"] = "auto"
    """`local`: put the whole graph together in one process; `sharded`: one store a shard, spread
    over the nodes; `auto`: local while the graph fits. The table is the same, byte for byte."""
    local_memory_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """`auto`: the most of this machine's memory that the whole graph may take."""
    request_timeout_s: PositiveFloat = 600.0
    """How long to wait for an answer of a store, or for a lost one to come back."""
    threads: PositiveInt | None = None
    """Cores a store walks with; none shares every node's cores out among its stores."""
    visits_per_round: PositiveInt = 2**23
    """Visits that a shard's seeds may make in walks that go together. Each takes about 12 bytes of
    memory, times one more than a store's threads."""
    max_attempts: PositiveInt = 5
    """How often to walk from the same items, if stores are lost meanwhile."""


@dataclass(frozen=True)
class Kept:
    """What is kept of walks: neighborhoods with weights, or some columns of the ranks."""

    num_neighbors: int
    columns: tuple[int, ...] | None = None


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

    def write(self, tokens: Sequence[Token], paths: Mapping[str, Path]) -> None:
        """Write the rows of some walks, one file a name, and forget them.

        Args:
            tokens: the walks in order of their seeds.
            paths: names of arrays to the files they go to.
        """
        if any(token not in self._rows for token in tokens):
            raise self._lost()
        rows = [self._rows[token] for token in tokens]
        for name, path in paths.items():
            parts = [part[name] for part in rows if name in part]
            with whole_file(path) as temporary, temporary.open("wb") as out:
                np.save(out, np.concatenate(parts), allow_pickle=False)
        self.forget(tokens[0][0])

    def forget(self, start: int) -> None:
        """Drop what is left of walks from a chunk of items."""
        for held in (self._walks, self._own, self._rows):
            for token in [token for token in held if token[0] == start]:
                held.pop(token, None)

    def gather(self, rows: Int64[np.ndarray, " wanted"]) -> Float32[np.ndarray, "wanted width"]:
        """Answer for `FeatureShard.gather`."""
        with self._lock:
            if self._features is None:
                graph = Graph.open(self._path)
                check_digests(graph.artifact, shard_name(self._shard, graph.num_shards))
                self._features = FeatureShard.open(self._path, self._shard, graph.num_shards)
        return self._features.gather(rows)

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
        self._sent_bytes += sum(message.nbytes for message in messages if message is not None)
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
            self._walk_s += time.thread_time() - started


StoreActor: Any = ray.remote(
    num_cpus=STORE_CPUS, max_restarts=-1, allow_out_of_order_execution=True
)(Store)
"""`Store` behind a mailbox. A call runs as soon as all it needs is there, so that one walk moves on
while another one waits for its messages."""


class Stores:
    """All shards' stores, and the routing between them."""

    def __init__(self, actors: Sequence[Any], config: StoreConfig, threads: int) -> None:
        """Hold handles, in order of the shards.

        Args:
            actors: `StoreActor` handles.
            config: how long to wait for them.
            threads: cores that each store walks with.
        """
        self.actors = list(actors)
        self.threads = threads
        self._timeout_s = config.request_timeout_s
        self._stopped = threading.Event()

    def open(self) -> int:
        """Wait until every store has its shard; says how many bytes they take together.

        Raises:
            ArtifactError: a shard's files were damaged.
            ShardUnavailableError: a store gave no answer, nor came back elsewhere, in time.
        """
        return sum(answer() for answer in [self.ask(s, "open") for s in range(len(self.actors))])

    def ask(self, shard: int, method: str, *arguments: Any) -> Callable[[], Any]:
        """Call a store whose answer no earlier call has a part in.

        Returns:
            A function that waits for the answer, and asks again while the store is lost; it raises
            `ShardUnavailableError` if none comes in time.
        """
        deadline = time.monotonic() + self._timeout_s
        calls = [getattr(self.actors[shard], method).remote(*arguments)]

        def answer() -> Any:
            while True:
                left = max(deadline - time.monotonic(), 0.0)
                try:
                    return ray.get(calls[-1], timeout=left)
                except ray.exceptions.GetTimeoutError as error:
                    raise ShardUnavailableError(shard, self._timeout_s) from error
                except ray.exceptions.RayActorError as error:
                    if self.is_stopped or left == 0.0:
                        raise ShardUnavailableError(shard, self._timeout_s) from error
                time.sleep(min(_POLL_S, left))
                calls.append(getattr(self.actors[shard], method).remote(*arguments))

        return answer

    def walk(self, token: Token, seeds: SeedRange, kept: Kept) -> int:
        """Walk from a range of seeds, round by round; says how many there were.

        Raises:
            ShardUnavailableError: it took too long, and this shard does not answer.
            RayError, WalkLostError: one of `LOST`, if a store was lost meanwhile.
        """
        num = len(self.actors)
        steps, _ = end_limits(seeds.walk_length, seeds.restart)
        sent = [actor.depart.options(num_returns=num).remote(token, seeds) for actor in self.actors]
        for step in range(steps):
            sent = self._round("at_contexts", token, step, sent)
            if step + 1 < steps:
                sent = self._round("at_items", token, step + 1, sent)
        calls = [
            actor.neighborhoods.remote(token, kept, *messages)
            for actor, messages in zip(self.actors, _turned(sent), strict=True)
        ]
        del sent
        return sum(self.get(calls))

    def write(self, tokens: Sequence[Token], paths: Sequence[Mapping[str, Path]]) -> None:
        """Have every store write its rows of some walks; see `Store.write`."""
        self.get([
            actor.write.remote(tokens, own) for actor, own in zip(self.actors, paths, strict=True)
        ])

    def forget(self, start: int) -> None:
        """Drop what stores still hold of a chunk's walks."""
        self.get([actor.forget.remote(start) for actor in self.actors])

    def get(self, calls: Sequence[Any]) -> list[Any]:
        """Wait for one answer of every store.

        Raises:
            ShardUnavailableError: they are late, and this shard does not answer at all.
        """
        try:
            return ray.get(list(calls), timeout=self._timeout_s)
        except ray.exceptions.GetTimeoutError as error:
            _, late = ray.wait(list(calls), num_returns=len(calls), timeout=0)
            pings = [actor.open.remote() for actor in self.actors]
            _, silent = ray.wait(pings, num_returns=len(pings), timeout=_PING_S)
            shard = pings.index(silent[0]) if silent else list(calls).index(late[0])
            raise ShardUnavailableError(shard, self._timeout_s) from error

    def stop(self) -> None:
        """End all stores; walks under way fail."""
        self._stopped.set()
        for actor in self.actors:
            ray.kill(actor)

    @property
    def is_stopped(self) -> bool:
        """Tell whether `stop` was called."""
        return self._stopped.is_set()

    def _round(self, method: str, token: Token, step: int, sent: list[Any]) -> list[Any]:
        num = len(self.actors)
        return [
            getattr(actor, method).options(num_returns=num).remote(token, step, *messages)
            for actor, messages in zip(self.actors, _turned(sent), strict=True)
        ]


@contextmanager
def open_stores(graph: Path, choice: ChoiceConfig, config: StoreConfig) -> Iterator[Stores]:
    """Start a store for every shard, spread over the nodes; they end with the block.

    Raises:
        ResourceError: the cluster has no room for them.
        ArtifactError: a shard's files were damaged.
        ShardUnavailableError: a store did not start in time.
    """
    num_shards = Graph.open(graph).num_shards
    threads = config.threads or threads_a_store(num_shards)
    with spread(num_shards, timeout_s=config.request_timeout_s) as group:
        options = {"max_concurrency": threads}
        actors = [
            StoreActor.options(scheduling_strategy=place_in(group, shard), **options).remote(
                graph, shard, choice
            )
            for shard in range(num_shards)
        ]
        stores = Stores(actors, config, threads)
        try:
            stores.open()
            yield stores
        finally:
            stores.stop()


def threads_a_store(num_shards: int) -> int:
    """Share out the cores of the smallest node among the stores it will hold."""
    cores = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    useful = [count for count in cores if count >= 1] or [1]
    return max(int(min(useful)) // math.ceil(num_shards / len(useful)), 1)


@dataclass(frozen=True)
class RemoteFeatures:
    """Feature rows of all shards, by item id, gathered from stores in one request a shard.

    Attributes:
        stores: the stores.
        num_items: how many items have a row.
        width: how many numbers a row has.
        local: shards whose files are here; their rows are read without a store.
    """

    stores: Stores
    num_items: int
    width: int
    local: Mapping[int, FeatureShard]

    def gather(self, item_ids: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n width"]:
        """Copy the rows of some items, in the order asked for.

        Raises:
            ValueError: an id is negative or not below `num_items`.
            ShardUnavailableError: a store gave no answer, nor came back elsewhere, in time.
        """
        require_ids("item_ids", item_ids, self.num_items)
        num_shards = len(self.stores.actors)
        owners, rows = shards_of(item_ids, num_shards), rows_of(item_ids, num_shards)
        places = [np.flatnonzero(owners == shard) for shard in range(num_shards)]
        calls = {
            shard: self.stores.ask(shard, "gather", rows[where])
            for shard, where in enumerate(places)
            if len(where) and shard not in self.local
        }
        gathered = np.empty((len(item_ids), self.width), np.float32)
        for shard, kept in self.local.items():
            gathered[places[shard]] = kept.gather(rows[places[shard]])
        for shard, call in calls.items():
            gathered[places[shard]] = call()
        return gathered


def _turned(sent: list[Any]) -> list[Any]:
    """From what every store sends to what every store gets."""
    if len(sent) == 1:
        return [sent]
    return [list(messages) for messages in zip(*sent, strict=True)]

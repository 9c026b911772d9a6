"""Store actors, one a shard: walks by rounds between them, and feature rows by request.

A round's messages go from actor to actor as object references; the driver never sees their
content, and what a shard has for itself never leaves its actor.
"""

import math
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
from pydantic import Field, PositiveFloat, PositiveInt

from pinsage.base.config import Config
from pinsage.base.errors import ShardUnavailableError, WalkLostError
from pinsage.cluster.placement import place_in, spread
from pinsage.cluster.store_actor import Kept, Part, StoreActor, Token
from pinsage.graph import Graph
from pinsage.graph.choice import ChoiceConfig
from pinsage.graph.features import FeatureShard
from pinsage.graph.partition import rows_of, shards_of
from pinsage.kernels.checks import require_ids
from pinsage.kernels.walks import end_limits
from pinsage.sampling.messages import SeedRange

LOST = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, WalkLostError)
"""What is raised where a store, or something it held, was lost; walking again mends it."""

_POLL_S = 0.5
"""How long to wait before a lost store is asked again."""

_BYTES_A_VISIT = 8
"""Bytes of messages under way at a time."""

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
    """Cores a store walks with, or the one process; none shares a node's cores out among its
    stores, and gives the one process all."""
    visits_per_round: PositiveInt = 2**25
    """Visits that the seeds of a shard may make in walks that go together; fewer where they would
    fill half of Ray's object store, and more on a single node with more stores than cores, where
    fewer walks go at a time. Each takes about 12 bytes of memory, times one more than a
    store's threads. Larger rounds send fewer messages, smaller ones suit the caches better."""
    max_attempts: PositiveInt = 5
    """How often to walk from the same items, if stores are lost meanwhile."""


@dataclass(frozen=True)
class Share:
    """What a store may use.

    Attributes:
        threads: cores that it walks with.
        under_way: walks that move at a time: one more than threads, for while all threads work,
            another walk's messages travel. Where one node's stores outnumber its cores, one of them
            works while another waits, and fewer and larger walks send fewer messages.
        visits: visits of its seeds in walks that go together.
    """

    threads: int
    under_way: int
    visits: int


class Stores:
    """All shards' stores, and the routing between them."""

    def __init__(self, actors: Sequence[Any], config: StoreConfig, share: Share) -> None:
        """Hold handles, in order of the shards.

        Args:
            actors: `StoreActor` handles.
            config: how long to wait for them.
            share: what each store may use.
        """
        self.actors = list(actors)
        self.share = share
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
                except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
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

    def write(self, tokens: Sequence[Token], parts: Sequence[Sequence[Part]]) -> None:
        """Have every store write its rows of some walks; see `Store.write`."""
        self.get([
            actor.write.remote(tokens, own) for actor, own in zip(self.actors, parts, strict=True)
        ])

    def forget(self, start: int) -> None:
        """Drop what stores still hold of a batch's walks."""
        self.get([actor.forget.remote(start) for actor in self.actors])

    def get(self, calls: Sequence[Any]) -> list[Any]:
        """Wait for one answer of every store.

        Raises:
            ShardUnavailableError: they are late, and this shard does not answer at all.
            RayError, WalkLostError: one of `LOST`.
        """
        deadline = time.monotonic() + self._timeout_s
        answers, lost = [], None
        for number, call in enumerate(calls):
            try:
                answers.append(ray.get(call, timeout=max(deadline - time.monotonic(), 0.0)))
            except LOST as error:
                # The others fail too, and have to be heard, else Ray reports them.
                lost = lost or error
            except ray.exceptions.GetTimeoutError as error:
                silent = self._silent_shards()
                raise ShardUnavailableError((silent or [number])[0], self._timeout_s) from error
        if lost is not None:
            raise lost
        return answers

    def stop(self) -> None:
        """End all stores; walks under way fail."""
        self._stopped.set()
        for actor in self.actors:
            ray.kill(actor)

    @property
    def is_stopped(self) -> bool:
        """Tell whether `stop` was called."""
        return self._stopped.is_set()

    def _silent_shards(self) -> list[int]:
        """Ask every store whether it is there."""
        pings = [actor.process_id.remote() for actor in self.actors]
        _, silent = ray.wait(pings, num_returns=len(pings), timeout=_PING_S)
        return [pings.index(ping) for ping in silent]

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
    share = share_of(num_shards, config)
    with spread(num_shards, timeout_s=config.request_timeout_s) as group:
        actors = [
            StoreActor.options(
                scheduling_strategy=place_in(group, shard), max_concurrency=share.threads
            ).remote(graph, shard, choice)
            for shard in range(num_shards)
        ]
        stores = Stores(actors, config, share)
        try:
            stores.open()
            yield stores
        finally:
            stores.stop()


def share_of(num_shards: int, config: StoreConfig) -> Share:
    """Share out the smallest node among the stores that it will hold."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = [node for node in alive if node.get("CPU", 0) >= 1] or alive
    stores_a_node = math.ceil(num_shards / len(nodes))
    cores = int(min(node.get("CPU", 1) for node in nodes))
    threads = config.threads or max(cores // stores_a_node, 1)
    object_store_bytes = min(node["object_store_memory"] for node in nodes)
    is_crowded = len(nodes) == 1 and stores_a_node > cores
    under_way = threads if is_crowded else threads + 1
    fitting = int(object_store_bytes / 2 / _BYTES_A_VISIT / under_way / stores_a_node)
    most = config.visits_per_round * (threads + 1) // under_way
    return Share(threads, under_way, max(min(fitting, most), 1))


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

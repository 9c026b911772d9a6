"""Actors that build minibatches, and the bounded stream a training worker takes them from."""

import time
from collections import deque
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from pinsage.base.errors import WorkerTimeoutError
from pinsage.cluster.metrics import count
from pinsage.cluster.placement import place_on
from pinsage.graph import Graph
from pinsage.sampling.minibatch import Minibatch, MinibatchBuilder, MinibatchConfig
from pinsage.sampling.neighborhood import Neighborhoods
from pinsage.sampling.pair_sources import open_pairs

_LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.ActorUnschedulableError,
    ray.exceptions.ObjectLostError,
)
"""What is raised where a producer has ended, or its node with what it had built."""

_RESTART_S = 3.0
"""How long a lost producer is passed over."""

_RETRY_S = 0.1


@dataclass(frozen=True)
class ProducerSpec:
    """Everything a producer needs to build any minibatch of a run."""

    graph: Path
    neighborhoods: Path
    minibatch: MinibatchConfig
    num_layers: int
    seed: int

    def builder(self) -> MinibatchBuilder:
        """Map the published files and make the builder."""
        graph = Graph.open(self.graph)
        made_cold = graph.cold_items()
        return MinibatchBuilder(
            pairs=open_pairs(graph, self.minibatch.fresh_pairs, seed=self.seed),
            features=graph.features(),
            neighborhoods=Neighborhoods.open(self.neighborhoods),
            config=self.minibatch,
            num_layers=self.num_layers,
            seed=self.seed,
            unseen=None if made_cold is None else made_cold.ids,
            graph_columns=graph.columns_of_edges(),
        )


class Producer:
    """`MinibatchBuilder` for an actor: it opens what the spec names."""

    def __init__(self, spec: ProducerSpec) -> None:
        """Open the published files."""
        self._builder = spec.builder()

    def build(self, epoch: int, step: int, *, world_rank: int, world_size: int) -> Minibatch:
        """Answer for `MinibatchBuilder.build`."""
        started = time.monotonic()
        built = self._builder.build(epoch, step, world_rank=world_rank, world_size=world_size)
        count("producer_minibatches_total", 1)
        count("producer_build_seconds_total", time.monotonic() - started)
        count("producer_feature_bytes_total", built.features.nbytes)
        return built


ProducerActor: Any = ray.remote(num_cpus=0, max_restarts=-1)(Producer)
"""`Producer` behind a mailbox. A lost one starts again; what it was asked for is not asked of it
again by Ray, since any other producer builds the same minibatch sooner."""


@dataclass(frozen=True)
class PlacedProducer:
    """A producer, and where it stands.

    Attributes:
        actor: handle of a `ProducerActor`.
        node: id of its node.
    """

    actor: Any
    node: str


def start_producers(spec: ProducerSpec, *, num_per_node: int) -> list[PlacedProducer]:
    """Start some producers on every node; they end with it, and others build what they would."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    return [_start_on(node, spec) for node in nodes for _ in range(num_per_node)]


def with_nearby(
    producers: Sequence[PlacedProducer], spec: ProducerSpec, node: str, *, num: int
) -> list[PlacedProducer]:
    """Start some on a node that came after the others had started; they end with the caller.

    Args:
        producers: those that all workers share.
        spec: what they open.
        node: the caller's.
        num: how many a node has.
    """
    if any(producer.node == node for producer in producers):
        return list(producers)
    return [*producers, *(_start_on(node, spec) for _ in range(num))]


def _start_on(node: str, spec: ProducerSpec) -> PlacedProducer:
    actor = ProducerActor.options(scheduling_strategy=place_on(node)).remote(spec)
    return PlacedProducer(actor, node)


def choose(number: int, nearby: Sequence[int], everyone: Sequence[int], lost: Set[int]) -> int:
    """Choose who builds the next minibatch: nearby ones in turn, or others while those are lost.

    >>> [choose(n, [0, 1], [0, 1, 2], set()) for n in range(3)]
    [0, 1, 0]
    >>> choose(0, [0, 1], [0, 1, 2], {0}), choose(0, [0, 1], [0, 1, 2], {0, 1})
    (1, 2)
    """
    for group in (nearby, everyone):
        present = [producer for producer in group if producer not in lost]
        if present:
            return present[number % len(present)]
    return everyone[number % len(everyone)]


@dataclass(frozen=True)
class _Request:
    part: int
    producer: int
    reference: Any


class MinibatchStream(Iterator[Minibatch]):
    """One worker's minibatches in order, a bounded number of them under way."""

    def __init__(
        self,
        producers: Sequence[PlacedProducer],
        *,
        node: str,
        first_step: int,
        last_step: int,
        steps_per_epoch: int,
        world_rank: int,
        world_size: int,
        prefetch: int,
        timeout_s: float,
        parts: int = 1,
    ) -> None:
        """Ask for the first minibatches.

        Args:
            producers: who builds them; those of the worker's own node, if there are any.
            node: the worker's own.
            first_step: over the whole run.
            last_step: the step after the last one.
            steps_per_epoch: minibatches in an epoch.
            world_rank: whose share of each step.
            world_size: how many workers share it.
            prefetch: most minibatches under way.
            timeout_s: how long to wait for one.
            parts: minibatches that a step's share comes in, one after another.
        """
        self.wait_s = 0.0
        self._producers = producers
        self._everyone = range(len(producers))
        self._nearby = [n for n in self._everyone if producers[n].node == node]
        self._next_part = first_step * parts
        self._last_part = last_step * parts
        self._parts = parts
        self._steps_per_epoch = steps_per_epoch
        self._world_rank = world_rank
        self._world_size = world_size
        self._timeout_s = timeout_s
        self._lost: dict[int, float] = {}
        self._under_way: deque[_Request] = deque()
        for _ in range(prefetch):
            self._ask_next()

    def __next__(self) -> Minibatch:
        """Wait for the next minibatch, and ask for one more.

        Raises:
            WorkerTimeoutError: it did not come in time.
        """
        if not self._under_way:
            raise StopIteration
        started = time.monotonic()
        minibatch = self._wait_for(self._under_way.popleft(), started + self._timeout_s)
        self.wait_s += time.monotonic() - started
        self._ask_next()
        return minibatch

    def num_ready(self) -> int:
        """Count the minibatches that are built and wait to be taken."""
        waiting = [request.reference for request in self._under_way]
        if not waiting:
            return 0
        ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        return len(ready)

    def _wait_for(self, request: _Request, deadline: float) -> Minibatch:
        lost: Exception | None = None
        while True:
            try:
                left_s = max(deadline - time.monotonic(), 0)
                minibatch: Minibatch = ray.get(request.reference, timeout=left_s)
                return minibatch
            except ray.exceptions.GetTimeoutError as error:
                raise self._late(request, lost) from error
            except _LOST as error:
                lost = error
                if time.monotonic() >= deadline:
                    raise self._late(request, lost) from error
                self._replace(request.producer)
                request = self._ask(request.part)

    def _replace(self, lost: int) -> None:
        """Ask others for all that a lost producer was asked for."""
        if len(self._lost) == len(self._everyone) or len(self._everyone) == 1:
            # Nobody else to ask; it takes seconds to start again.
            time.sleep(_RETRY_S)
        self._lost[lost] = time.monotonic()
        for place, request in enumerate(self._under_way):
            if request.producer == lost:
                self._under_way[place] = self._ask(request.part)

    def _late(self, request: _Request, lost: Exception | None) -> WorkerTimeoutError:
        # Ray ends what it tells of a process that could not start with what was raised there.
        why = "" if lost is None else f" (it was lost: {str(lost).strip().splitlines()[-1]})"
        return WorkerTimeoutError(
            f"producer {request.producer} gave no minibatch for step {request.part // self._parts} "
            f"within {self._timeout_s:g} s{why}; look for a lost node in `ray status`, or raise "
            "train.request_timeout_s"
        )

    def _ask_next(self) -> None:
        if self._next_part < self._last_part:
            self._under_way.append(self._ask(self._next_part))
            self._next_part += 1

    def _ask(self, number: int) -> _Request:
        now = time.monotonic()
        self._lost = {p: since for p, since in self._lost.items() if now - since < _RESTART_S}
        # Ranks in step with each other do not all ask the same one.
        turn = number * self._world_size + self._world_rank
        producer = choose(turn, self._nearby, self._everyone, self._lost.keys())
        step, part = divmod(number, self._parts)
        reference = self._producers[producer].actor.build.remote(
            *divmod(step, self._steps_per_epoch),
            # As if every part were a worker's: their shares, one after another, are this one's.
            world_rank=self._world_rank * self._parts + part,
            world_size=self._world_size * self._parts,
        )
        return _Request(number, producer, reference)

"""Actors that build minibatches, and the bounded stream a training worker takes them from."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from pinsage.base.errors import WorkerTimeoutError
from pinsage.graph import Graph
from pinsage.sampling.minibatch import Minibatch, MinibatchBuilder, MinibatchConfig
from pinsage.sampling.neighborhood import Neighborhoods


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
        pairs = graph.pairs("train")
        return MinibatchBuilder(
            queries=pairs.queries,
            positives=pairs.positives,
            features=graph.features(),
            neighborhoods=Neighborhoods.open(self.neighborhoods),
            config=self.minibatch,
            num_layers=self.num_layers,
            seed=self.seed,
        )


class Producer:
    """`MinibatchBuilder` for an actor: it opens what the spec names."""

    def __init__(self, spec: ProducerSpec) -> None:
        """Open the published files."""
        self._builder = spec.builder()

    def build(self, epoch: int, step: int, *, world_rank: int, world_size: int) -> Minibatch:
        """Answer for `MinibatchBuilder.build`."""
        return self._builder.build(epoch, step, world_rank=world_rank, world_size=world_size)


ProducerActor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Producer)
"""`Producer` behind a mailbox; a lost one starts again and builds the same minibatches."""


class MinibatchStream(Iterator[Minibatch]):
    """One worker's minibatches in order, a bounded number of them under way."""

    def __init__(
        self,
        producers: Sequence[Any],
        *,
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
            producers: handles of `ProducerActor`, used in turn.
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
        self._next_part = first_step * parts
        self._last_part = last_step * parts
        self._parts = parts
        self._steps_per_epoch = steps_per_epoch
        self._world_rank = world_rank
        self._world_size = world_size
        self._timeout_s = timeout_s
        self._under_way: deque[tuple[int, Any]] = deque()
        for _ in range(prefetch):
            self._ask()

    def __next__(self) -> Minibatch:
        """Wait for the next minibatch, and ask for one more.

        Raises:
            WorkerTimeoutError: it did not come in time.
        """
        if not self._under_way:
            raise StopIteration
        part, reference = self._under_way.popleft()
        started = time.monotonic()
        try:
            minibatch: Minibatch = ray.get(reference, timeout=self._timeout_s)
        except ray.exceptions.GetTimeoutError as error:
            raise WorkerTimeoutError(
                f"producer {part % len(self._producers)} gave no minibatch for step "
                f"{part // self._parts} within {self._timeout_s:g} s; look for a lost node in "
                "`ray status`, or raise train.request_timeout_s"
            ) from error
        self.wait_s += time.monotonic() - started
        self._ask()
        return minibatch

    def _ask(self) -> None:
        if self._next_part >= self._last_part:
            return
        step, part = divmod(self._next_part, self._parts)
        producer = self._producers[self._next_part % len(self._producers)]
        reference = producer.build.remote(
            *divmod(step, self._steps_per_epoch),
            # As if every part were a worker's: their shares, one after another, are this one's.
            world_rank=self._world_rank * self._parts + part,
            world_size=self._world_size * self._parts,
        )
        self._under_way.append((self._next_part, reference))
        self._next_part += 1

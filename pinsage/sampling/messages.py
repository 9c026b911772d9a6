"""What walks by rounds are asked for, and what shards send to each other."""

import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
from jaxtyping import UInt, UInt32

from pinsage.graph.partition import num_ids_in

MAX_WALKERS = 2**32
"""The most walks that go together: a walker is numbered in 32 bits."""


@dataclass(frozen=True)
class SeedRange:
    """Walks from all items with an id in [first, stop), over all shards."""

    first: int
    stop: int
    key: int
    """64-bit key of the draws, from `stream_key`."""
    num_walks: int
    walk_length: int
    restart: float

    @property
    def walk_bits(self) -> int:
        """How many bits of a walker's number tell its walk."""
        return (self.num_walks - 1).bit_length()

    def rows_in(self, shard: int, num_shards: int) -> tuple[int, int]:
        """Tell which rows of a shard the seeds are: from, to."""
        return num_ids_in(shard, num_shards, self.first), num_ids_in(shard, num_shards, self.stop)


def ranges_of(seeds: SeedRange, *, num_shards: int, visits_per_shard: int) -> list[SeedRange]:
    """Cut a range into nearly equal parts whose walks can be numbered and held in memory.

    Args:
        seeds: the whole range.
        num_shards: shards that the graph has.
        visits_per_shard: visits that the seeds of one shard may make.
    """
    most_visits = seeds.num_walks * seeds.walk_length
    size = max(visits_per_shard // most_visits, 1) * num_shards
    size = max(min(size, MAX_WALKERS >> seeds.walk_bits), 1)
    num_seeds = seeds.stop - seeds.first
    num_parts = math.ceil(num_seeds / size)
    cuts = [seeds.first + num_seeds * part // num_parts for part in range(num_parts)]
    return [replace(seeds, first=first, stop=stop) for first, stop in pairwise([*cuts, seeds.stop])]


class Message:
    """Arrays for one shard."""

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Departures(Message):
    """Walks on the way to their first context, in groups of one seed and one context."""

    seeds: UInt32[np.ndarray, " groups"]
    """Counted from the range's first."""
    degrees: UInt32[np.ndarray, " groups"]
    rows: UInt[np.ndarray, " groups"]
    """Rows of the contexts in their shard."""
    sizes: UInt[np.ndarray, " groups"]
    walks: UInt[np.ndarray, " walks"]
    """Numbers of the walks, group after group."""


@dataclass(frozen=True)
class Walkers(Message):
    """Walks on the way to a node, in groups of none."""

    walkers: UInt32[np.ndarray, " walkers"]
    rows: UInt[np.ndarray, " walkers"]
    degrees: UInt[np.ndarray, " walkers_or_none"]
    """How many contexts the items have that they come from; empty on the way to items."""


@dataclass(frozen=True)
class Arrivals(Message):
    """What contexts send to a shard: visits of its seeds, and walks on the way to its items."""

    rows: UInt[np.ndarray, " visits_or_none"]
    """Rows of the seeds, counted from that of the range's first; none after the first step, whose
    visits come in the order in which the walks departed."""
    items: UInt[np.ndarray, " visits"]
    walkers: UInt32[np.ndarray, " walkers"]
    walker_rows: UInt[np.ndarray, " walkers"]

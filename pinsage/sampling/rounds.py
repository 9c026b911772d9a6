"""Walks over a graph in shards, by rounds: each shard moves the walks that stand on its nodes.

No shard sees another's rows. A round is one method call on every shard, and what the calls return
is handed to the shards it is for:

    depart -> at_contexts -> at_items -> at_contexts -> ... -> neighborhoods

The neighborhoods are those of `walk_neighborhoods` over the whole graph, bit for bit. Nothing here
knows how messages travel: `pinsage.cluster.stores` sends them between actors, and `walk_in_turn`
passes them on in memory.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Int32, UInt, UInt32, UInt64

from pinsage.base.errors import ArtifactError
from pinsage.graph.adjacency import AdjacencyShard
from pinsage.kernels import rounds
from pinsage.kernels.packing import choices_of, packed_words
from pinsage.kernels.visits import top_of_visits
from pinsage.kernels.walks import end_limits
from pinsage.sampling.messages import MAX_WALKERS, Arrivals, Departures, SeedRange, Walkers


class _Side(NamedTuple):
    """One side's rows, as the kernels read them."""

    words: UInt64[np.ndarray, " rows"]
    edges: UInt[np.ndarray, " edges_or_3_edges"]


class PackedShard:
    """One shard's edges, laid out for walking.

    8 bytes a row, and on either side 4 bytes an edge (8 where ids need int64); three times as many
    bytes an edge where edges have chances.
    """

    def __init__(
        self,
        shard: AdjacencyShard,
        item_chances: Float64[np.ndarray, " item_edges"] | None = None,
        context_chances: Float64[np.ndarray, " context_edges"] | None = None,
    ) -> None:
        """Copy the arrays; chances as `edge_chances` gives them."""
        self.shard = shard.shard
        self.num_shards = shard.num_shards
        self.by_chance = item_chances is not None or context_chances is not None
        self.items = self._side("item", shard.item_starts, shard.item_contexts, item_chances)
        self.contexts = self._side(
            "context", shard.context_starts, shard.context_items, context_chances
        )
        self.id_dtype = np.dtype(np.int32 if self.contexts.edges.itemsize == 4 else np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in (*self.items, *self.contexts))

    def _side(
        self,
        name: str,
        starts: Int[np.ndarray, " starts"],
        ids: Int[np.ndarray, " edges"],
        chances: Float64[np.ndarray, " edges"] | None,
    ) -> _Side:
        words = packed_words(name, starts)
        # A copy: a memory-mapped file has small pages, and a walk then waits for their table.
        edges = ids.astype(np.uint32 if ids.itemsize == 4 else np.uint64)
        if not self.by_chance:
            return _Side(words, edges)
        choices = choices_of(f"{name}_chances", starts, edges, chances)
        return _Side(words, choices.reshape(-1))


class ShardWalk:
    """One shard's part in the walks of one range of seeds; its calls follow the rounds."""

    def __init__(self, packed: PackedShard, seeds: SeedRange) -> None:
        """Begin.

        Raises:
            ValueError: so many walks cannot be numbered, or a setting is out of its range.
        """
        if (seeds.stop - seeds.first) << seeds.walk_bits > MAX_WALKERS:
            raise ValueError(
                f"{seeds.stop - seeds.first} seeds of {seeds.num_walks} walks are above "
                f"{MAX_WALKERS} walks; walk from fewer seeds at a time"
            )
        self._packed = packed
        self._seeds = seeds
        self._limit, self._end_below = end_limits(seeds.walk_length, seeds.restart)
        num_shards = packed.num_shards
        reciprocal = (2**64 - 1) // num_shards + 1 if num_shards > 1 else 0
        self._shards = (np.uint64(num_shards), np.uint64(reciprocal))
        self._first_row, stop_row = seeds.rows_in(packed.shard, num_shards)
        self._num_seeds = stop_row - self._first_row
        self._departed: list[tuple[np.ndarray, np.ndarray]] = []
        width = seeds.num_walks * self._limit
        self._visited = np.empty((self._num_seeds, width), packed.id_dtype)
        self._filled = np.zeros(self._num_seeds, np.int32)

    @property
    def num_steps(self) -> int:
        """The most steps a walk makes."""
        return self._limit

    def depart(self) -> list[Departures]:
        """Choose the first context of every walk from this shard's seeds."""
        packed, num_walks, count = self._packed, self._seeds.num_walks, self._packed.num_shards
        small = _smallest(num_walks, np.uint8, np.uint16)
        words = packed.items.words[self._first_row : self._first_row + self._num_seeds]
        degrees = words & np.uint64(0xFFFFFF)
        most = int(np.minimum(degrees * np.uint64(1 + packed.by_chance), num_walks).sum()) + 1
        groups = (
            np.empty(most, np.uint32),
            np.empty(most, np.uint32),
            np.empty(most, packed.items.edges.dtype),
            np.empty(most, small),
        )
        walks = np.empty(int((degrees > 0).sum()) * num_walks, small)
        totals = np.zeros((2, count), np.int64)
        num_groups, _ = rounds.depart(
            packed.by_chance,
            packed.items,
            self._draws(0),
            self._shards,
            np.uint64(packed.shard),
            np.uint64(self._first_row),
            np.uint64(self._num_seeds),
            num_walks,
            groups,
            walks,
            totals,
        )
        by_shard = tuple(np.empty(int(num_groups), array.dtype) for array in groups)
        walks_by_shard = np.empty_like(walks)
        group_ends, walk_ends = np.cumsum(totals, axis=1)
        rounds.sort_groups(
            num_groups,
            groups,
            walks,
            self._shards,
            group_ends - totals[0],
            walk_ends - totals[1],
            by_shard,
            walks_by_shard,
        )
        parts = [_cut(array, group_ends) for array in by_shard]
        parts.append(_cut(walks_by_shard, walk_ends))
        departures = [Departures(*arrays) for arrays in zip(*parts, strict=True)]
        self._departed = [(self._own_rows(part.seeds), part.sizes) for part in departures]
        return departures

    def at_contexts(
        self, step: int, arriving: Sequence[Departures] | Sequence[Walkers]
    ) -> list[Arrivals]:
        """Move all walks that have come to this shard's contexts on to items.

        Args:
            step: how many steps the walks had made before this one.
            arriving: the messages of all shards, in their order.

        Returns:
            A message a shard.
        """
        first = [part for part in arriving if isinstance(part, Departures)]
        if first:
            return self._first_arrivals(first)
        return self._arrivals(step, [part for part in arriving if isinstance(part, Walkers)])

    def at_items(self, step: int, arriving: Sequence[Arrivals]) -> list[Walkers]:
        """Take the visits of this shard's seeds, and move walks on from its items.

        Args:
            step: how many steps the walks have made.
            arriving: the messages of all shards, in their order.

        Returns:
            A message a shard.

        Raises:
            ArtifactError: a walk came to an item without edges: shards are not of one graph.
        """
        self._take(arriving)
        packed = self._packed
        num = sum(len(part.walkers) for part in arriving)
        going = (
            np.empty(num, np.uint32),
            np.empty(num, packed.items.edges.dtype),
            np.empty(num, np.uint32),
        )
        totals = np.zeros(packed.num_shards, np.int64)
        at = 0
        for part in arriving:
            smallest = rounds.leave_items(
                packed.by_chance,
                packed.items,
                self._draws(step),
                self._shards,
                (part.walkers, part.walker_rows),
                going,
                np.uint64(at),
                totals,
            )
            if smallest == 0:
                raise ArtifactError(
                    f"shard {packed.shard} of {packed.num_shards}: a walk came to an item that has "
                    "no edges here; the shards are not of one graph: delete its directory and run "
                    "ingest again"
                )
            at += len(part.walkers)
        return self._walkers_by_shard(num, *going, totals, with_degrees=not packed.by_chance)

    def neighborhoods(
        self, arriving: Sequence[Arrivals], num_neighbors: int
    ) -> tuple[Int[np.ndarray, "seeds neighbors"], Int32[np.ndarray, "seeds neighbors"]]:
        """Take the last visits, and keep the items that each of this shard's seeds visited most.

        Returns:
            As `walk_neighborhoods`, for the seeds of this shard in order of their ids.
        """
        self._take(arriving)
        packed = self._packed
        rows = np.arange(self._first_row, self._first_row + self._num_seeds)
        return top_of_visits(
            self._visited,
            self._filled,
            rows * packed.num_shards + packed.shard,
            num_neighbors,
            # Other shards may have one row more.
            num_items=(len(packed.items.words) + 1) * packed.num_shards,
        )

    def _draws(self, step: int) -> tuple[np.uint64, ...]:
        seeds = self._seeds
        numbers = (seeds.first, seeds.key, seeds.walk_bits, step)
        return (*map(np.uint64, numbers), self._end_below)

    def _own_rows(self, seeds: UInt32[np.ndarray, " groups"]) -> UInt32[np.ndarray, " groups"]:
        """Rows of seeds of this shard, counted from its first."""
        rows = (seeds + np.uint64(self._seeds.first)) // np.uint64(self._packed.num_shards)
        return (rows - np.uint64(self._first_row)).astype(np.uint32)

    def _first_arrivals(self, arriving: Sequence[Departures]) -> list[Arrivals]:
        packed = self._packed
        num = sum(len(part.walks) for part in arriving)
        ids = packed.contexts.edges.dtype
        going = (np.empty(num, np.uint32), np.empty(num, ids))
        totals = np.zeros(packed.num_shards, np.int64)
        visits = [np.empty(len(part.walks), ids) for part in arriving]
        at = np.uint64(0)
        for part, items in zip(arriving, visits, strict=True):
            at = rounds.pass_groups(
                packed.by_chance,
                packed.contexts,
                self._draws(0),
                self._shards,
                np.uint64(self._limit > 1),
                (part.seeds, part.degrees, part.rows, part.sizes),
                part.walks,
                items,
                going,
                at,
                totals,
            )
        none = np.empty(0, np.uint16)
        walkers = self._walkers_by_shard(int(at), *going, none, totals, with_degrees=False)
        return [
            Arrivals(none, items, part.walkers, part.rows)
            for items, part in zip(visits, walkers, strict=True)
        ]

    def _arrivals(self, step: int, arriving: Sequence[Walkers]) -> list[Arrivals]:
        packed, count = self._packed, self._packed.num_shards
        num = sum(len(part.walkers) for part in arriving)
        ids = packed.contexts.edges.dtype
        visits = (np.empty(num, np.uint32), np.empty(num, ids))
        going = (np.empty(num, np.uint32), np.empty(num, ids))
        totals = np.zeros((2, count), np.int64)
        done, at = 0, np.uint64(0)
        for part in arriving:
            at = rounds.pass_walkers(
                packed.by_chance,
                packed.contexts,
                self._draws(step),
                self._shards,
                np.uint64(step + 1 < self._limit),
                (part.walkers, part.rows, part.degrees),
                visits,
                np.uint64(done),
                going,
                at,
                totals,
            )
            done += len(part.walkers)
        most_rows = (self._seeds.stop - self._seeds.first) // count + 1
        rows = np.empty(num, _smallest(most_rows, np.uint16))
        items = np.empty(num, ids)
        ends = np.cumsum(totals[0])
        rounds.sort_visits(
            num,
            *visits,
            np.uint64(self._seeds.first),
            self._shards,
            ends - totals[0],
            (rows, items),
        )
        none = np.empty(0, np.uint16)
        walkers = self._walkers_by_shard(int(at), *going, none, totals[1], with_degrees=False)
        return [
            Arrivals(own_rows, own_items, part.walkers, part.rows)
            for own_rows, own_items, part in zip(
                _cut(rows, ends), _cut(items, ends), walkers, strict=True
            )
        ]

    def _walkers_by_shard(
        self,
        num: int,
        walkers: np.ndarray,
        nodes: np.ndarray,
        degrees: np.ndarray,
        totals: np.ndarray,
        *,
        with_degrees: bool,
    ) -> list[Walkers]:
        most = int(degrees.max(initial=0)) if with_degrees else 0
        by_shard = (
            np.empty(num, np.uint32),
            np.empty(num, nodes.dtype),
            np.empty(num if with_degrees else 0, _smallest(most, np.uint16)),
        )
        ends = np.cumsum(totals)
        rounds.sort_walkers(num, walkers, nodes, degrees, self._shards, ends - totals, by_shard)
        parts = [_cut(array, ends) for array in by_shard]
        return [Walkers(*arrays) for arrays in zip(*parts, strict=True)]

    def _take(self, arriving: Sequence[Arrivals]) -> None:
        """Add visits to the rows of this shard's seeds."""
        skipped = self._first_row - self._seeds.first // self._packed.num_shards
        for number, part in enumerate(arriving):
            if self._departed:
                rows, sizes = self._departed[number]
                rounds.take_first_visits(rows, sizes, part.items, self._visited, self._filled)
            else:
                rounds.take_visits(
                    part.rows, np.uint64(skipped), part.items, self._visited, self._filled
                )
        self._departed = []


def walk_in_turn(
    shards: Sequence[PackedShard], seeds: SeedRange, num_neighbors: int
) -> tuple[Int[np.ndarray, "seeds neighbors"], Int32[np.ndarray, "seeds neighbors"]]:
    """Walk by rounds over shards that are all here, one after another.

    Returns:
        As `walk_neighborhoods`, for the range's seeds in order.
    """
    walks = [ShardWalk(packed, seeds) for packed in shards]
    sent: list[Any] = [walk.depart() for walk in walks]
    for step in range(walks[0].num_steps):
        sent = [walk.at_contexts(step, part) for walk, part in zip(walks, _turn(sent), strict=True)]
        if step + 1 < walks[0].num_steps:
            sent = [
                walk.at_items(step + 1, part) for walk, part in zip(walks, _turn(sent), strict=True)
            ]
    ids = np.empty((seeds.stop - seeds.first, num_neighbors), shards[0].id_dtype)
    counts = np.empty(ids.shape, np.int32)
    for number, (walk, part) in enumerate(zip(walks, _turn(sent), strict=True)):
        places = slice((number - seeds.first) % len(shards), None, len(shards))
        ids[places], counts[places] = walk.neighborhoods(part, num_neighbors)
    return ids, counts


def _turn(sent: list[Any]) -> list[Any]:
    """From what each shard sent to what each shard gets."""
    return [list(parts) for parts in zip(*sent, strict=True)]


def _cut(array: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    return np.split(array, ends[:-1])


def _smallest(most: int, *types: type[np.unsignedinteger[Any]]) -> type[np.unsignedinteger[Any]]:
    """The first of some types, or else uint32, that holds numbers up to `most`."""
    return next((dtype for dtype in types if most <= np.iinfo(dtype).max), np.uint32)

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
from jaxtyping import Float64, Int, Int32, UInt, UInt64

from pinsage.base.errors import ArtifactError
from pinsage.graph.adjacency import AdjacencyShard
from pinsage.kernels import rounds
from pinsage.kernels.packing import choices_of, packed_words
from pinsage.kernels.visits import top_of_visits
from pinsage.kernels.walks import end_limits
from pinsage.sampling.messages import MAX_WALKERS, Arrivals, Departures, SeedRange, Walkers

_NONE = np.empty(0, np.uint16)


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
        most = int((self.items.words & np.uint64(0xFFFFFF)).max(initial=0))
        self.degree_dtype = np.dtype(_smallest(most, np.uint16))
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


class _Outbox:
    """What leaves for every shard: rows of some arrays, which each hold the shards' parts in turn.

    Ids are spread over shards, so parts of nearly one size do; where one is larger, all are moved
    to where each has room for half as much again.
    """

    def __init__(self, num: int, dtypes: Sequence[np.dtype[Any]], num_shards: int) -> None:
        """Make room for `num` rows that are spread over the shards."""
        room = num if num_shards == 1 else min(num, num // num_shards * 9 // 8 + 2 * rounds.BLOCK)
        self._begins = np.arange(num_shards, dtype=np.uint64) * np.uint64(room)
        self._free, self._ends = self._begins.copy(), self._begins + np.uint64(room)
        self._arrays = tuple(np.empty(room * num_shards, dtype) for dtype in dtypes)

    def with_room(self, num: int) -> tuple[np.ndarray, ...]:
        """Give what kernels write to, with room for `num` more rows in every part."""
        if int((self._ends - self._free).min()) < num:
            self._grow(num)
        return (*self._arrays, self._free, self._ends)

    def parts(self) -> list[tuple[np.ndarray, ...]]:
        """Give the rows of every shard."""
        places = zip(self._begins.tolist(), self._free.tolist(), strict=True)
        return [tuple(array[first:last] for array in self._arrays) for first, last in places]

    def _grow(self, num: int) -> None:
        parts = self.parts()
        filled = self._free - self._begins
        more = filled * np.uint64(3) // np.uint64(2) + np.uint64(num)
        rooms = np.maximum(self._ends - self._begins, more)
        self._ends = np.cumsum(rooms)
        self._begins = self._ends - rooms
        self._free = self._begins + filled
        room = int(self._ends[-1])
        self._arrays = tuple(np.empty(room, array.dtype) for array in self._arrays)
        for part, moved in zip(parts, self.parts(), strict=True):
            for rows, to in zip(part, moved, strict=True):
                to[:] = rows


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
        most = int(np.minimum(degrees * np.uint64(1 + packed.by_chance), num_walks).sum())
        group_types = (np.uint32, np.uint32, packed.items.edges.dtype, small)
        groups = _Outbox(most, [np.dtype(kind) for kind in group_types], count)
        walks = _Outbox(int((degrees > 0).sum()) * num_walks, [np.dtype(small)], count)
        done = 0
        while done < self._num_seeds:
            done += rounds.depart(
                packed.by_chance,
                packed.items,
                self._draws(0),
                self._shards,
                np.uint64(packed.shard),
                self._first_row + done,
                self._num_seeds - done,
                num_walks,
                groups.with_room(num_walks),
                walks.with_room(num_walks),
            )
        parts = zip(groups.parts(), walks.parts(), strict=True)
        departures = [Departures(*of_groups, *of_walks) for of_groups, of_walks in parts]
        self._departed = [(part.seeds, part.sizes) for part in departures]
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
        ids, degrees = packed.items.edges.dtype, packed.degree_dtype
        going = _Outbox(num, (np.dtype(np.uint32), ids, degrees), packed.num_shards)
        for part in arriving:
            done = 0
            while (left := len(part.walkers) - done) > 0:
                moved, smallest = rounds.leave_items(
                    packed.by_chance,
                    packed.items,
                    self._draws(step),
                    self._shards,
                    (part.walkers[done:], part.walker_rows[done:]),
                    going.with_room(min(rounds.BLOCK, left)),
                )
                done += int(moved)
                if smallest == 0:
                    raise ArtifactError(
                        f"shard {packed.shard} of {packed.num_shards}: a walk came to an item that "
                        "has no edges here; the shards are not of one graph: delete its directory "
                        "and run ingest again"
                    )
        parts = going.parts()
        if packed.by_chance:
            return [Walkers(walkers, rows, _NONE) for walkers, rows, _ in parts]
        return [Walkers(*part) for part in parts]

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
        )

    def _draws(self, step: int) -> tuple[np.uint64, ...]:
        seeds = self._seeds
        numbers = (seeds.first, seeds.key, seeds.walk_bits, step)
        return (*map(np.uint64, numbers), self._end_below)

    def _first_arrivals(self, arriving: Sequence[Departures]) -> list[Arrivals]:
        packed = self._packed
        ids = packed.contexts.edges.dtype
        num = sum(len(part.walks) for part in arriving)
        going = _Outbox(num, (np.dtype(np.uint32), ids), packed.num_shards)
        visits = [np.empty(len(part.walks), ids) for part in arriving]
        for part, items in zip(arriving, visits, strict=True):
            groups = (part.seeds, part.degrees, part.rows, part.sizes)
            group, walk, most = 0, 0, int(part.sizes.max(initial=0))
            while walk < len(part.walks):
                moved_groups, moved = rounds.pass_groups(
                    packed.by_chance,
                    packed.contexts,
                    self._draws(0),
                    self._shards,
                    np.uint64(self._limit > 1),
                    tuple(array[group:] for array in groups),
                    part.walks[walk:],
                    items[walk:],
                    going.with_room(min(rounds.BLOCK_OF_GROUPS + most, len(part.walks) - walk)),
                )
                group, walk = group + int(moved_groups), walk + int(moved)
        return [
            Arrivals(_NONE, items, *part) for items, part in zip(visits, going.parts(), strict=True)
        ]

    def _arrivals(self, step: int, arriving: Sequence[Walkers]) -> list[Arrivals]:
        packed, count, first = self._packed, self._packed.num_shards, self._seeds.first
        ids = packed.contexts.edges.dtype
        num = sum(len(part.walkers) for part in arriving)
        most_rows = (self._seeds.stop - first) // count + 1
        visits = _Outbox(num, (np.dtype(_smallest(most_rows, np.uint16)), ids), count)
        going = _Outbox(num, (np.dtype(np.uint32), ids), count)
        for part in arriving:
            done = 0
            while (left := len(part.walkers) - done) > 0:
                done += int(
                    rounds.pass_walkers(
                        packed.by_chance,
                        packed.contexts,
                        self._draws(step),
                        self._shards,
                        np.uint64(step + 1 < self._limit),
                        (part.walkers[done:], part.rows[done:], part.degrees[done:]),
                        np.uint64(first // count),
                        visits.with_room(min(rounds.BLOCK, left)),
                        going.with_room(min(rounds.BLOCK, left)),
                    )
                )
        return [
            Arrivals(*own, *walkers)
            for own, walkers in zip(visits.parts(), going.parts(), strict=True)
        ]

    def _take(self, arriving: Sequence[Arrivals]) -> None:
        """Add visits to the rows of this shard's seeds."""
        skipped = self._first_row - self._seeds.first // self._packed.num_shards
        for number, part in enumerate(arriving):
            if self._departed:
                rounds.take_first_visits(
                    *self._departed[number],
                    part.items,
                    self._draws(0),
                    self._shards,
                    np.uint64(self._first_row),
                    self._visited,
                    self._filled,
                )
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


def _smallest(most: int, *types: type[np.unsignedinteger[Any]]) -> type[np.unsignedinteger[Any]]:
    """The first of some types, or else uint32, that holds numbers up to `most`."""
    return next((dtype for dtype in types if most <= np.iinfo(dtype).max), np.uint32)

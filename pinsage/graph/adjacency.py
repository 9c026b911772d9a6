"""The graph's edges: one shard's, and all of them put together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int64

from pinsage.base.arrays import map_array
from pinsage.base.artifacts import Draft
from pinsage.base.errors import ArtifactError
from pinsage.graph.partition import num_ids_in, shard_name
from pinsage.kernels.checks import require_ids, require_starts
from pinsage.kernels.csr import EdgeRows, take_every

SIDES = {
    side: (f"{side}_starts", values, f"{side}_weights", f"{side}_ages")
    for side, values in (("item", "item_contexts"), ("context", "context_items"))
}
"""The arrays of each side: where rows start, what is in them, and what travels with the edges."""

ARRAYS = tuple(name for side in SIDES.values() for name in side[:2])
"""The arrays that every shard has."""

EXTRA_ARRAYS = tuple(name for side in SIDES.values() for name in side[2:])
"""The arrays of graphs with weights or ages, parallel to the edges of their side."""


@dataclass(frozen=True)
class BipartiteAdjacency:
    """The whole graph, in compressed rows both ways.

    Item i's contexts are `item_contexts[item_starts[i]:item_starts[i + 1]]`, ascending; context c's
    items likewise. All values are ids, int32 while they fit.

    Weights are above 0: how much the rows that gave an edge weigh together. Ages are how much older
    an edge is than the newest one of the graph: in seconds where times are timestamps, else in the
    times' own unit. Both stand beside the edges of their side; None where the input has none.
    """

    item_starts: Int64[np.ndarray, " items_and_1"]
    item_contexts: Int[np.ndarray, " edges"]
    context_starts: Int64[np.ndarray, " contexts_and_1"]
    context_items: Int[np.ndarray, " edges"]
    item_weights: Float32[np.ndarray, " edges"] | None = None
    item_ages: Float32[np.ndarray, " edges"] | None = None
    context_weights: Float32[np.ndarray, " edges"] | None = None
    context_ages: Float32[np.ndarray, " edges"] | None = None

    @property
    def num_items(self) -> int:
        """How many items there are, cold ones included."""
        return len(self.item_starts) - 1

    @property
    def num_contexts(self) -> int:
        """How many contexts there are."""
        return len(self.context_starts) - 1

    @property
    def num_edges(self) -> int:
        """How many edges there are, each counted once."""
        return len(self.item_contexts)

    @property
    def item_degrees(self) -> Int64[np.ndarray, " items"]:
        """In how many contexts each item is."""
        return np.diff(self.item_starts)

    @property
    def context_degrees(self) -> Int64[np.ndarray, " contexts"]:
        """How many items each context has."""
        return np.diff(self.context_starts)


@dataclass(frozen=True)
class AdjacencyShard:
    """One shard's edges, memory-mapped.

    It keeps the items and the contexts whose id leaves the remainder `shard` when divided by
    `num_shards`; rows are its own, values are ids of the whole graph.

    On disk, all shards together take 8 bytes a node, and for every edge 4 bytes on either side (8
    where ids need int64), 4 more with weights and 4 more with ages; beside them 16 bytes a
    shard, and 128 bytes a file for its header.
    """

    shard: int
    num_shards: int
    item_starts: Int64[np.ndarray, " items_and_1"]
    item_contexts: Int[np.ndarray, " item_edges"]
    context_starts: Int64[np.ndarray, " contexts_and_1"]
    context_items: Int[np.ndarray, " context_edges"]
    item_weights: Float32[np.ndarray, " item_edges"] | None = None
    item_ages: Float32[np.ndarray, " item_edges"] | None = None
    context_weights: Float32[np.ndarray, " context_edges"] | None = None
    context_ages: Float32[np.ndarray, " context_edges"] | None = None

    @classmethod
    def open(cls, directory: Path, shard: int, num_shards: int) -> "AdjacencyShard":
        """Map one shard of the published graph in `directory`."""
        folder = directory / shard_name(shard, num_shards)
        names = [*ARRAYS, *(name for name in EXTRA_ARRAYS if (folder / f"{name}.npy").exists())]
        arrays = {name: map_array(folder / f"{name}.npy") for name in names}
        return cls(shard, num_shards, **arrays)

    @classmethod
    def cut(cls, whole: BipartiteAdjacency, shard: int, num_shards: int) -> "AdjacencyShard":
        """Take one shard's rows out of the whole graph.

        Raises:
            ValueError: there are more shards than items.
        """
        require_shards(num_shards, whole.num_items)
        arrays: dict[str, Any] = {}
        for side in SIDES:
            taken = take_every(_side(whole, side), shard, num_shards)
            arrays |= dict(zip(SIDES[side], taken, strict=True))
        return cls(shard, num_shards, **arrays)

    def write(self, draft: Draft) -> None:
        """Write this shard's arrays into its folder of a graph being published."""
        folder = shard_name(self.shard, self.num_shards)
        for name in (*ARRAYS, *EXTRA_ARRAYS):
            array = getattr(self, name)
            if array is not None:
                draft.write_array(f"{folder}/{name}.npy", array)

    def check(self, num_items: int, num_contexts: int) -> None:
        """Read all of it, and refuse rows or ids that do not fit the graph.

        Raises:
            ArtifactError: the message names the shard and the first offender.
        """
        sizes = {"item": (num_items, num_contexts), "context": (num_contexts, num_items)}
        try:
            for side, (num_rows, num_values) in sizes.items():
                starts, values, *extra = _side(self, side)
                wanted = num_ids_in(self.shard, self.num_shards, num_rows)
                if len(starts) != wanted + 1:
                    raise ValueError(f"{side}_starts: wanted {wanted + 1}, found {len(starts)}")
                require_starts(f"{side}_starts", starts, len(values))
                require_ids(SIDES[side][1], values, num_values)
                for name, array in zip(SIDES[side][2:], extra, strict=True):
                    if array is not None and len(array) != len(values):
                        raise ValueError(f"{name}: wanted {len(values)}, found {len(array)}")
        except ValueError as error:
            raise ArtifactError(
                f"shard {self.shard} of {self.num_shards}: {error}; the graph was damaged or is "
                "not whole: delete its directory and run ingest again"
            ) from error


def assemble(shards: Sequence[AdjacencyShard]) -> BipartiteAdjacency:
    """Put all shards of a graph together; a single one is used as it is, still memory-mapped.

    Args:
        shards: every shard, in order of its number.

    Raises:
        ValueError: the shards are not all of one graph, in order.
    """
    if [shard.shard for shard in shards] != list(range(shards[0].num_shards)):
        raise ValueError(
            f"wanted shards 0 to {shards[0].num_shards - 1} in order, "
            f"found {[shard.shard for shard in shards]}"
        )
    arrays: dict[str, Any] = {}
    for side in SIDES:
        whole = _interleave([_side(shard, side) for shard in shards])
        arrays |= dict(zip(SIDES[side], whole, strict=True))
    return BipartiteAdjacency(**arrays)


def degrees_between(
    shards: Sequence[AdjacencyShard], side: str, start: int, stop: int
) -> Int64[np.ndarray, " nodes"]:
    """Count the edges of the nodes with ids in [start, stop); see `rows_between`."""
    degrees = np.zeros(stop - start, np.int64)
    for place, shard, rows in _shares(shards, start, stop):
        starts = _side(shard, side).starts
        degrees[place :: len(shards)] = np.diff(starts[rows.start : rows.stop + 1])
    return degrees


def rows_between(
    shards: Sequence[AdjacencyShard], side: str, start: int, stop: int
) -> tuple[Int64[np.ndarray, " rows_and_1"], Int[np.ndarray, " edges"]]:
    """Put the edges of the nodes with ids in [start, stop) together, and read no others.

    Args:
        shards: every shard, in order of its number.
        side: `item` for the items' contexts, `context` for the contexts' items.
        start: the first id.
        stop: one more than the last id.

    Returns:
        Where each node's edges start among them, and the ids of what they lead to.
    """
    parts = []
    for _, shard, rows in _shares(shards, start, stop):
        starts, values = _side(shard, side)[:2]
        own = starts[rows.start : rows.stop + 1]
        parts.append(EdgeRows(own - own[0], values[own[0] : own[-1]]))
    together = _interleave(parts)
    return together.starts, together.cols


def _shares(
    shards: Sequence[AdjacencyShard], start: int, stop: int
) -> Iterator[tuple[int, AdjacencyShard, range]]:
    """Tell which rows of which shards hold a range of ids, from its first ids' shards on."""
    for place in range(len(shards)):
        node = start + place
        first = node // len(shards)
        count = len(range(node, stop, len(shards)))
        yield place, shards[node % len(shards)], range(first, first + count)


def require_shards(num_shards: int, num_items: int) -> None:
    """Refuse more shards than items: some would be empty.

    Raises:
        ValueError: there are fewer items than shards, or no shards are asked for.
    """
    if num_shards < 1:
        raise ValueError(f"num_shards must be at least 1, found {num_shards}")
    if num_shards > num_items:
        raise ValueError(
            f"num_shards must be at most the number of items, {num_items}, found {num_shards}; "
            "lower graph.num_shards"
        )


def _side(adjacency: BipartiteAdjacency | AdjacencyShard, side: str) -> EdgeRows:
    """One side's arrays; the ages stand where times do."""
    return EdgeRows(*(getattr(adjacency, name) for name in SIDES[side]))


def _interleave(parts: Sequence[EdgeRows]) -> EdgeRows:
    """Undo `take_every` for shards that hold every n-th row each."""
    if len(parts) == 1:
        return parts[0]
    degrees = np.zeros(sum(len(part.starts) - 1 for part in parts), np.int64)
    for shard, part in enumerate(parts):
        degrees[shard :: len(parts)] = np.diff(part.starts)
    starts = np.zeros(len(degrees) + 1, np.int64)
    np.cumsum(degrees, out=starts[1:])
    whole: list[np.ndarray | None] = [
        None if first is None else np.empty(starts[-1], first.dtype) for first in parts[0][1:]
    ]
    for shard, part in enumerate(parts):
        moved_by = starts[:-1][shard :: len(parts)] - part.starts[:-1]
        target = np.arange(len(part.cols)) + np.repeat(moved_by, np.diff(part.starts))
        for array, values in zip(whole, part[1:], strict=True):
            if array is not None:
                array[target] = values
    return EdgeRows(starts, *whole)  # type: ignore[arg-type]

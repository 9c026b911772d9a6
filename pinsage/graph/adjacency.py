"""The graph's edges: one shard's, and all of them put together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64

from pinsage.base.artifacts import Draft
from pinsage.graph.partition import ids_in, shard_name

ARRAYS = ("item_starts", "item_contexts", "context_starts", "context_items")


@dataclass(frozen=True)
class BipartiteAdjacency:
    """The whole graph, in compressed rows both ways.

    Item i's contexts are `item_contexts[item_starts[i]:item_starts[i + 1]]`, ascending; context c's
    items likewise. All values are ids.
    """

    item_starts: Int64[np.ndarray, " items_and_1"]
    item_contexts: Int32[np.ndarray, " edges"]
    context_starts: Int64[np.ndarray, " contexts_and_1"]
    context_items: Int32[np.ndarray, " edges"]

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
    """

    shard: int
    num_shards: int
    item_starts: Int64[np.ndarray, " items_and_1"]
    item_contexts: Int32[np.ndarray, " item_edges"]
    context_starts: Int64[np.ndarray, " contexts_and_1"]
    context_items: Int32[np.ndarray, " context_edges"]

    @classmethod
    def open(cls, directory: Path, shard: int, num_shards: int) -> "AdjacencyShard":
        """Map one shard of the published graph in `directory`."""
        folder = directory / shard_name(shard, num_shards)
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ARRAYS
        }
        return cls(shard, num_shards, **arrays)

    @classmethod
    def cut(cls, whole: BipartiteAdjacency, shard: int, num_shards: int) -> "AdjacencyShard":
        """Take one shard's rows out of the whole graph."""
        items = ids_in(shard, num_shards, whole.num_items)
        contexts = ids_in(shard, num_shards, whole.num_contexts)
        return cls(
            shard,
            num_shards,
            *_take_rows(whole.item_starts, whole.item_contexts, items),
            *_take_rows(whole.context_starts, whole.context_items, contexts),
        )

    def write(self, draft: Draft) -> None:
        """Write the arrays that an earlier, unfinished run has not."""
        for name in ARRAYS:
            path = f"{shard_name(self.shard, self.num_shards)}/{name}.npy"
            if not draft.has(path):
                draft.write_array(path, getattr(self, name))


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
    item_starts, item_contexts = _interleave([
        (shard.item_starts, shard.item_contexts) for shard in shards
    ])
    context_starts, context_items = _interleave([
        (shard.context_starts, shard.context_items) for shard in shards
    ])
    return BipartiteAdjacency(item_starts, item_contexts, context_starts, context_items)


def _take_rows(
    starts: np.ndarray, values: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Make compressed rows of some of the rows."""
    degrees = np.diff(starts)[rows]
    taken_starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(degrees, out=taken_starts[1:])
    source = np.arange(taken_starts[-1]) + np.repeat(starts[rows] - taken_starts[:-1], degrees)
    return taken_starts, values[source]


def _interleave(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Undo `_take_rows` for shards that hold every n-th row each."""
    if len(parts) == 1:
        return parts[0]
    degrees = np.zeros(sum(len(starts) - 1 for starts, _ in parts), np.int64)
    for shard, (starts, _) in enumerate(parts):
        degrees[shard :: len(parts)] = np.diff(starts)
    whole_starts = np.zeros(len(degrees) + 1, np.int64)
    np.cumsum(degrees, out=whole_starts[1:])
    whole_values = np.empty(whole_starts[-1], np.int32)
    for shard, (starts, values) in enumerate(parts):
        moved_by = whole_starts[:-1][shard :: len(parts)] - starts[:-1]
        target = np.arange(len(values)) + np.repeat(moved_by, np.diff(starts))
        whole_values[target] = values
    return whole_starts, whole_values

"""Bipartite graphs laid out for walking."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64, Shaped, UInt64
from numba import njit

from pinsage.kernels.alias import alias_tables
from pinsage.kernels.checks import require_ids, require_starts, require_vector

MAX_DEGREE = 2**24 - 1
"""The largest degree that fits in a packed word."""

MAX_START = 2**40 - 1
"""The largest row start that fits in a packed word."""

_DEGREE_BITS = np.uint64(24)


@dataclass(frozen=True)
class PackedAdjacency:
    """A bipartite graph laid out for walking: one memory access fewer in each step.

    A packed word is `start << 24 | degree`: where a node's edges begin, and how many there are.
    A uniform graph has `context_words` and `context_items`; one whose edges have chances has
    `item_choices` and `context_choices` in their place, three numbers an edge: what the edge's slot
    leads to, what its other choice leads to, and the threshold between them, of 2**32.
    """

    item_words: UInt64[np.ndarray, " items"]
    """A packed word an item: where its edges are."""

    words_of_contexts: UInt64[np.ndarray, " contexts"]
    """A packed word a context."""

    context_words: UInt64[np.ndarray, " edges"] | None = None
    """For each item's edges the packed word of the context, instead of its id."""

    context_items: Int[np.ndarray, " edges"] | None = None
    """The item ids of each context, int32 or int64."""

    item_choices: UInt64[np.ndarray, "edges 3"] | None = None
    """For each item's edges: a context's packed word, another one's, a threshold."""

    context_choices: Shaped[np.ndarray, "edges 3"] | None = None
    """For each context's edges: an item, another one, a threshold; uint32 or uint64."""

    @property
    def num_items(self) -> int:
        """How many items there are, cold ones included."""
        return int(self.item_words.size)

    @property
    def item_degrees(self) -> Int64[np.ndarray, " items"]:
        """How many contexts each item is in."""
        return (self.item_words & np.uint64(MAX_DEGREE)).astype(np.int64)

    @property
    def num_contexts(self) -> int:
        """How many contexts there are."""
        return int(self.words_of_contexts.size)

    @property
    def by_chance(self) -> bool:
        """Tell whether edges have chances."""
        return self.item_choices is not None

    @property
    def id_dtype(self) -> np.dtype:
        """The type of neighbor ids: int32, or int64 where ids don't fit."""
        if self.context_items is not None:
            return self.context_items.dtype
        assert self.context_choices is not None
        return np.dtype(np.int32 if self.context_choices.dtype == np.uint32 else np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (
            self.item_words,
            self.words_of_contexts,
            self.context_words,
            self.context_items,
            self.item_choices,
            self.context_choices,
        )
        return sum(array.nbytes for array in arrays if array is not None)


def pack(
    item_starts: Int64[np.ndarray, " item_starts"],
    item_contexts: Int[np.ndarray, " edges"],
    context_starts: Int64[np.ndarray, " context_starts"],
    context_items: Int[np.ndarray, " edges"],
    *,
    item_chances: Float64[np.ndarray, " edges"] | None = None,
    context_chances: Float64[np.ndarray, " edges"] | None = None,
) -> PackedAdjacency:
    """Pack compressed adjacency for walking.

    Args:
        item_starts: Row starts of the items' contexts.
        item_contexts: Contexts of every item.
        context_starts: Row starts of the contexts' items.
        context_items: Items of every context: the transpose of the above.
        item_chances: For choosing among an item's contexts: positive, only ratios count; None
            where they are alike.
        context_chances: For choosing among a context's items.

    Returns:
        The packed graph, nothing shared with the arguments. It takes 8 bytes an item, 8 bytes a
        context, and 12 bytes an edge with int32 ids (16 with int64); where edges have chances, on
        either side, 36 bytes an edge (48).

    Raises:
        ValueError: The two directions don't describe the same edges, a degree or row start is too
            large for a packed word, or a chance is not a positive number.
    """
    require_vector("item_contexts", item_contexts)
    require_vector("context_items", context_items)
    require_starts("item_starts", item_starts, item_contexts.size)
    require_starts("context_starts", context_starts, context_items.size)
    require_ids("item_contexts", item_contexts, context_starts.size - 1)
    require_ids("context_items", context_items, item_starts.size - 1)
    # A walk that reached a node without edges would read past its list.
    _require_degrees("item_starts", item_starts, "context_items", context_items)
    _require_degrees("context_starts", context_starts, "item_contexts", item_contexts)
    item_words = packed_words("item", item_starts)
    words_of_contexts = packed_words("context", context_starts)
    if item_chances is None and context_chances is None:
        return PackedAdjacency(
            item_words,
            words_of_contexts,
            context_words=words_of_contexts[item_contexts],
            # A copy: a memory-mapped file has small pages, and a walk then waits for their table.
            context_items=np.array(context_items, _id_dtype(context_items)),
        )
    item_ids = context_items.astype(np.uint32 if _is_short(context_items) else np.uint64)
    return PackedAdjacency(
        item_words,
        words_of_contexts,
        item_choices=choices_of(
            "item_chances", item_starts, words_of_contexts[item_contexts], item_chances
        ),
        context_choices=choices_of("context_chances", context_starts, item_ids, context_chances),
    )


def packed_words(name: str, starts: Int64[np.ndarray, " starts"]) -> UInt64[np.ndarray, " nodes"]:
    """Pack where each node's edges begin and how many there are: `start << 24 | degree`.

    Raises:
        ValueError: A degree or a start does not fit.
    """
    degrees = np.diff(starts)
    if degrees.size and int(degrees.max()) > MAX_DEGREE:
        node = int(degrees.argmax())
        raise ValueError(
            f"a degree must be at most {MAX_DEGREE}; {name} {node} has {int(degrees[node])} edges:"
            " leave it out, or sample its edges"
        )
    if int(starts[-1]) > MAX_START:
        raise ValueError(
            f"a graph must have at most {MAX_START} edges; found {int(starts[-1])}: split it"
        )
    return starts[:-1].astype(np.uint64) << _DEGREE_BITS | degrees.astype(np.uint64)


def choices_of(
    name: str, starts: np.ndarray, targets: np.ndarray, chances: np.ndarray | None
) -> Shaped[np.ndarray, "edges 3"]:
    """Put each slot's own target, its other target and the threshold side by side.

    Args:
        name: What the chances are called in an error message.
        starts: Row starts.
        targets: What every edge leads to, uint32 or uint64.
        chances: How likely the edges of a row are, beside each other; None where alike.

    Raises:
        ValueError: A chance that is not a positive, finite number, or starts that don't fit.
    """
    if chances is None:
        chances = np.ones(targets.size)
    try:
        thresholds, others = alias_tables(starts, chances)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    choices = np.empty((targets.size, 3), targets.dtype)
    choices[:, 0] = targets
    choices[:, 1] = targets[others + np.repeat(starts[:-1], np.diff(starts))]
    choices[:, 2] = thresholds
    return choices


def _is_short(ids: np.ndarray) -> bool:
    return ids.dtype.itemsize <= np.dtype(np.int32).itemsize


def _id_dtype(ids: np.ndarray) -> np.dtype:
    return np.dtype(np.int32 if _is_short(ids) else np.int64)


def _require_degrees(starts_name: str, starts: np.ndarray, ids_name: str, ids: np.ndarray) -> None:
    found = _occurrences(ids, starts.size - 1)
    wrong = found != np.diff(starts)
    if bool(wrong.any()):
        node = int(wrong.argmax())
        raise ValueError(
            f"{starts_name} and {ids_name} must describe the same edges; node {node} has"
            f" {int(starts[node + 1] - starts[node])} and {int(found[node])}"
        )


@njit(cache=True, nogil=True)
def _occurrences(ids, num_nodes):  # type: ignore[no-untyped-def]
    found = np.zeros(num_nodes, np.int64)
    for node in ids:
        found[node] += 1
    return found

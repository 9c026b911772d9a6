"""Random walks with restart over a packed bipartite graph (paper, section 3.2).

A step goes item -> context -> item. After each step the walk ends (restarts) with probability
`restart`; it never makes more than `walk_length` steps.

Every step spends one 64-bit draw, a hash of (key, seed item, walk number, step): who walks it, in
which order and beside which others has no influence.

Where all edges of a node are alike, the draw is read as a fraction of 2**64. Times the item's
degree, its whole part picks the context, and what is left is a fraction again; times the context's
degree, that picks the item; the fraction left then ends the walk if it is below `restart`.

Where edges have chances, the whole part picks a slot of the item's alias table, and the fraction
left decides between the slot's two choices; a hash of the draw does the same at the context, and a
hash of that one ends the walk.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Int64
from numba import get_num_threads

from pinsage.kernels.checks import (
    require_ids,
    require_positive,
    require_starts,
    require_vector,
)
from pinsage.kernels.engine import neighborhoods_of_all, visits_of_all
from pinsage.kernels.packing import PackedAdjacency, choices_of, packed_words
from pinsage.kernels.visits import MAX_ITEMS, count_table

MAX_VISITS = 2**24 - 1
"""The most visits (num_walks * walk_length) one seed may make: counting takes 1 GiB a thread."""

_BLOCKS_PER_THREAD = 4
_NONE = np.empty(0, np.uint64)

Graph = tuple[np.ndarray, np.ndarray, np.ndarray]


class WalkJob(NamedTuple):
    """What the engine needs to know of a call."""

    by_chance: bool
    uniform: Graph
    weighted: Graph
    own: np.ndarray
    seeds: np.ndarray
    seed_words: np.ndarray
    key: np.uint64
    limits: tuple[int, np.uint64]
    num_walks: int


def random_walks(
    packed: PackedAdjacency,
    seeds: Int[np.ndarray, " seeds"],
    *,
    key: int,
    num_walks: int,
    walk_length: int,
    restart: float,
) -> Int[np.ndarray, "seeds visits"]:
    """Walk from every seed and list the items that its walks arrive at.

    Args:
        packed: The graph.
        seeds: Item ids to walk from; repeats walk the same way again.
        key: 64-bit key of the draws, from `stream_key`.
        num_walks: Walks a seed.
        walk_length: The most steps a walk makes.
        restart: Probability that a walk ends after a step.

    Returns:
        num_walks * walk_length columns: first the visits, all walks' first steps before their
        second steps and so on, the seed itself included; then -1. A cold seed's row is all -1.

    Raises:
        ValueError: An argument out of its range.
    """
    job = _walk_job(packed, seeds, key, num_walks, walk_length, restart)
    visited = np.empty((seeds.size, num_walks * walk_length), packed.id_dtype)
    visits_of_all(job, _num_blocks(seeds.size), count_table(0), visited)
    return visited


def walk_neighborhoods(
    packed: PackedAdjacency,
    seeds: Int[np.ndarray, " seeds"],
    *,
    key: int,
    num_walks: int,
    walk_length: int,
    restart: float,
    num_neighbors: int,
) -> tuple[Int[np.ndarray, "seeds neighbors"], Int[np.ndarray, "seeds neighbors"]]:
    """Find each seed's neighborhood: the items its walks visit most (paper, section 3.2).

    Visits to the seed itself don't count. A row depends on the graph, the seed and the settings
    alone: not on the other seeds, their order, or the number of threads.

    Args:
        packed: The graph.
        seeds: Item ids to walk from.
        key: 64-bit key of the draws, from `stream_key`.
        num_walks: Walks a seed.
        walk_length: The most steps a walk makes.
        restart: Probability that a walk ends after a step.
        num_neighbors: How many items to keep (*T*).

    Returns:
        Neighbor ids (typed as the graph's) and int32 visit counts, count descending, ties in an
        order that looks random and is the seed's own; where fewer items were reached, id -1 and
        count 0 follow. A seed that reaches no other item has an empty row.

    Raises:
        ValueError: An argument out of its range.
    """
    require_positive("num_neighbors", num_neighbors)
    job = _walk_job(packed, seeds, key, num_walks, walk_length, restart)
    return _neighborhoods(packed, job, num_neighbors)


def walk_new_items(
    packed: PackedAdjacency,
    seeds: Int[np.ndarray, " seeds"],
    starts: Int64[np.ndarray, " starts"],
    contexts: Int[np.ndarray, " edges"],
    *,
    key: int,
    num_walks: int,
    walk_length: int,
    restart: float,
    num_neighbors: int,
    chances: Float64[np.ndarray, " edges"] | None = None,
) -> tuple[Int[np.ndarray, "seeds neighbors"], Int[np.ndarray, "seeds neighbors"]]:
    """Find neighborhoods of items whose edges are not in the graph, by the same kernel.

    The first step of a walk goes through the contexts given, all others through the graph. An item
    of the graph, given its own id, contexts and chances, has the row `walk_neighborhoods` gives.

    Args:
        packed: The graph, as it was before these items.
        seeds: An id for every new item, which its draws depend on; visits to it don't count. Take
            ids beyond the graph's for items it doesn't have.
        starts: Row starts of the new items' contexts.
        contexts: Contexts of every new item, known to the graph; ascending as in the graph, if the
            same rows are to come out.
        key: 64-bit key of the draws.
        num_walks: Walks a seed.
        walk_length: The most steps a walk makes.
        restart: Probability that a walk ends after a step.
        num_neighbors: How many items to keep (*T*).
        chances: For choosing among a new item's contexts; None where they are alike.

    Returns:
        As `walk_neighborhoods`; an item without contexts has an empty row.

    Raises:
        ValueError: An argument out of its range, or chances given for a graph without any.
    """
    require_positive("num_neighbors", num_neighbors)
    require_vector("contexts", contexts)
    require_starts("starts", starts, contexts.size)
    require_ids("contexts", contexts, packed.num_contexts)
    if starts.size != seeds.size + 1:
        raise ValueError(f"starts must be {seeds.size + 1} long; found {starts.size}")
    if chances is not None and not packed.by_chance:
        raise ValueError("chances must be None: the edges of this graph have none")
    own = packed.words_of_contexts[contexts]
    if packed.by_chance:
        own = choices_of("chances", starts, own, chances).reshape(-1)
    job = _walk_job(
        packed,
        seeds,
        key,
        num_walks,
        walk_length,
        restart,
        new=(own, packed_words("new item", starts)),
    )
    return _neighborhoods(packed, job, num_neighbors)


def end_limits(walk_length: int, restart: float) -> tuple[int, np.uint64]:
    """Say after how many steps a walk ends at the latest, and below which fraction of 2**64 before.

    Raises:
        ValueError: `restart` is no probability, or `walk_length` not positive.
    """
    require_positive("walk_length", walk_length)
    if not 0.0 <= restart <= 1.0:
        raise ValueError(f"restart must be a probability, 0 to 1; found {restart}")
    # Certain restart is no fraction below 1: it is a limit of one step.
    if restart == 1.0:
        return 1, np.uint64(0)
    return walk_length, np.uint64(math.ceil(restart * 2**64))


def _neighborhoods(
    packed: PackedAdjacency, job: WalkJob, num_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    num_seeds = job.seeds.size
    ids = np.empty((num_seeds, num_neighbors), packed.id_dtype)
    counts = np.empty((num_seeds, num_neighbors), np.int32)
    table = count_table(job.num_walks * job.limits[0])
    neighborhoods_of_all(job, _num_blocks(num_seeds), table, ids, counts)
    return ids, counts


def _walk_job(
    packed: PackedAdjacency,
    seeds: np.ndarray,
    key: int,
    num_walks: int,
    walk_length: int,
    restart: float,
    new: tuple[np.ndarray, np.ndarray] | None = None,
) -> WalkJob:
    """Check what all walks have in common, and lay it out for the engine."""
    require_vector("seeds", seeds)
    require_ids("seeds", seeds, packed.num_items if new is None else MAX_ITEMS)
    require_positive("num_walks", num_walks)
    limits = end_limits(walk_length, restart)
    if num_walks * walk_length > MAX_VISITS:
        raise ValueError(
            f"num_walks * walk_length must be at most {MAX_VISITS}; found"
            f" {num_walks} * {walk_length}"
        )
    if not 0 <= key < 2**64:
        raise ValueError(f"key must be an unsigned 64-bit number; found {key}")
    if packed.item_choices is not None and packed.context_choices is not None:
        own = packed.item_choices.reshape(-1)
        # The uniform arrays are not read; they only tell the engine the type of ids.
        uniform = (packed.item_words, _NONE, np.empty(0, packed.id_dtype))
        weighted = (packed.item_words, own, packed.context_choices.reshape(-1))
    else:
        assert packed.context_words is not None
        assert packed.context_items is not None
        own = packed.context_words
        short = packed.context_items.dtype == np.int32
        uniform = (packed.item_words, own, packed.context_items)
        weighted = (packed.item_words, _NONE, np.empty(0, np.uint32 if short else np.uint64))
    seed_words = packed.item_words[seeds] if new is None else new[1]
    return WalkJob(
        packed.by_chance,
        uniform,
        weighted,
        own if new is None else new[0],
        seeds.astype(np.int64, copy=False),
        seed_words,
        np.uint64(key),
        limits,
        num_walks,
    )


def _num_blocks(num_seeds: int) -> int:
    return min(get_num_threads() * _BLOCKS_PER_THREAD, max(1, num_seeds))

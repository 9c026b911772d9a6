"""Does renumbering ids make walks, minibatches and gathers faster?

Two graphs of 1M items, 300k contexts and 10M edges, ids shuffled: with strong communities, and
without any. Each order renumbers items and contexts; the same work is then timed in turns with the
order given, CPU seconds of one thread:

- walk: 200 walks of length 2, T = 50, from 16 runs of 2,048 items whose ids follow each other;
- build: two layers of T = 20 from 2,500 random items, the same in every order;
- gather: the 128 features of all items such a minibatch reads.

Figures are how many times as fast as in the order given; `cost` is the CPU seconds to find the
order, beside those to pack the graph.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
from numba import njit, set_num_threads

from benchmarks._timing import median_ratio, parser, report, take_turns
from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.graph.ordering import locality_order
from pinsage.graph.powerlaw import PowerLaw
from pinsage.kernels import (
    PackedAdjacency,
    Scratch,
    build_csr,
    gather_rows,
    layers_from_table,
    pack,
    transpose,
    walk_neighborhoods,
)

GRAPHS = {
    "communities": PowerLaw(stray_share=0.1),
    "no communities": PowerLaw(num_communities=1),
}
# For compiling everything before it is timed.
SMALL = PowerLaw(num_items=900, num_contexts=300, num_edges=3_000, num_communities=10)
RUNS, RUN_ITEMS = 16, 2_048
SEEDS, NEIGHBORS, FEATURES = 2_500, 20, 128

Sides = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Order = tuple[np.ndarray, np.ndarray]
Result = TypeVar("Result")


def main() -> None:
    """Time every order on both graphs, and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--rounds", type=int, default=7, help="how often each takes its turn")
    arguments = flags.parse_args()
    set_num_threads(1)
    rows: list[tuple[object, ...]] = [("graph, order", "walk", "build", "gather", "cost", "pack")]
    figures: dict[str, object] = {}
    for name, shape in GRAPHS.items():
        rows += time_orders(name, shape, arguments.rounds, figures)
    report("Orders of ids, times as fast as the order given", rows, figures, as_json=arguments.json)


def time_orders(
    name: str, shape: PowerLaw, rounds: int, figures: dict[str, object]
) -> list[tuple[object, ...]]:
    """Time all orders of one graph, one beside the order given."""
    sides, _ = cpu_seconds(partial(graph_of, *shape.edges_of_part(0, 1), shape))
    packed, pack_s = cpu_seconds(partial(pack, *sides))
    table, _ = walk(packed, np.arange(shape.num_items))
    table = np.ascontiguousarray(table[:, :NEIGHBORS])
    seeds = np.random.default_rng(0).permutation(shape.num_items)[:SEEDS]
    given = tasks(packed, table, seeds)
    rows: list[tuple[object, ...]] = []
    for order, find in ORDERS.items():
        find(*graph_of(*SMALL.edges_of_part(0, 1), SMALL))
        (item_ids, context_ids), cost_s = cpu_seconds(partial(find, *sides))
        assert (np.sort(item_ids) == np.arange(shape.num_items)).all()
        assert (np.sort(context_ids) == np.arange(shape.num_contexts)).all()
        items, contexts = np.repeat(np.arange(shape.num_items), np.diff(sides[0])), sides[1]
        renumbered = pack(*graph_of(item_ids[items], context_ids[contexts], shape))
        moved = np.empty_like(table)
        moved[item_ids] = np.where(table >= 0, item_ids[table], -1)
        ours = tasks(renumbered, moved, item_ids[seeds])
        found = {}
        for task in given:
            seconds = take_turns({"given": given[task], "ours": ours[task]}, rounds=rounds)
            found[task] = round(median_ratio(seconds["given"], seconds["ours"]), 2)
        figures[f"{name}, {order}"] = found | {"cost_s": round(cost_s, 2)}
        times = (f"{found[task]:.2f}x" for task in given)
        rows.append((f"{name}, {order}", *times, f"{cost_s:.1f} s", f"{pack_s:.1f} s"))
    return rows


def tasks(
    packed: PackedAdjacency, table: np.ndarray, seeds: np.ndarray
) -> dict[str, Callable[[], object]]:
    """Give the work to be timed, on a graph in some order."""
    num_items = packed.num_items
    firsts = np.linspace(0, num_items - RUN_ITEMS, RUNS).astype(np.int64)
    walked = (firsts[:, None] + np.arange(RUN_ITEMS)).reshape(-1)
    weights = np.ones(table.shape, np.float32)
    scratch = Scratch.of(num_items)
    build = partial(layers_from_table, seeds, table, weights, num_layers=2, scratch=scratch)
    _, inputs = build()
    features = np.ones((num_items, FEATURES), np.float32)
    out = np.empty((len(inputs), FEATURES), np.float32)
    return {
        "walk": partial(walk, packed, walked),
        "build": build,
        "gather": partial(gather_rows, features, inputs, out),
    }


def walk(packed: PackedAdjacency, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find neighborhoods as the walk stage does."""
    return walk_neighborhoods(
        packed, seeds, key=1, num_walks=200, walk_length=2, restart=0.5, num_neighbors=50
    )


def graph_of(items: np.ndarray, contexts: np.ndarray, shape: PowerLaw) -> Sides:
    """Compress edges both ways."""
    by_item = build_csr(items.astype(np.int32), contexts.astype(np.int32), shape.num_items)
    return (*by_item, *transpose(*by_item, shape.num_contexts))


def cpu_seconds(run: Callable[[], Result]) -> tuple[Result, float]:
    """Run once and tell the CPU seconds."""
    started = time.process_time()
    result = run()
    return result, time.process_time() - started


def by_degree(*sides: np.ndarray) -> Order:
    """Put the nodes with most edges first."""
    return ranks(-np.diff(sides[0])), ranks(-np.diff(sides[2]))


def by_first_node(*sides: np.ndarray) -> Order:
    """Put items by their smallest context, then contexts by their smallest item."""
    item_starts, item_contexts, context_starts, context_items = sides
    items = ranks(rarest(item_starts, item_contexts, context_starts))
    return items, ranks(lowest(context_starts, context_items, items))


def by_community(*sides: np.ndarray) -> Order:
    """Let labels spread, as `graph/ordering.py` does."""
    return locality_order(BipartiteAdjacency(*sides))


def by_search(*sides: np.ndarray) -> Order:
    """Number nodes in the order of a breadth-first search from the first item on."""
    return breadth_first(*sides)


def ranks(keys: np.ndarray) -> np.ndarray:
    """Give every node its place in the order of the keys, ties by id."""
    order = np.argsort(keys, kind="stable")
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


@njit
def rarest(starts, neighbors, other_starts):  # type: ignore[no-untyped-def]
    """Find every node's neighbor with fewest edges; the number of nodes where there is none."""
    found = np.full(starts.size - 1, other_starts.size - 1)
    for node in range(starts.size - 1):
        fewest = np.int64(2**62)
        for edge in range(starts[node], starts[node + 1]):
            other = neighbors[edge]
            degree = other_starts[other + 1] - other_starts[other]
            if degree < fewest:
                fewest, found[node] = degree, other
    return found


@njit
def lowest(starts, neighbors, places):  # type: ignore[no-untyped-def]
    """Find the lowest place among every node's neighbors."""
    found = np.full(starts.size - 1, places.size)
    for node in range(starts.size - 1):
        for edge in range(starts[node], starts[node + 1]):
            found[node] = min(found[node], places[neighbors[edge]])
    return found


@njit
def breadth_first(item_starts, item_contexts, context_starts, context_items):  # type: ignore[no-untyped-def]
    """Number items and contexts as a search from the first item meets them."""
    items = np.full(item_starts.size - 1, -1)
    contexts = np.full(context_starts.size - 1, -1)
    queue = np.empty(items.size, np.int64)
    num_queued, num_contexts = 0, 0
    done = 0
    for start in range(items.size):
        if items[start] >= 0:
            continue
        items[start] = num_queued
        queue[num_queued] = start
        num_queued += 1
        while done < num_queued:
            item = queue[done]
            done += 1
            for edge in range(item_starts[item], item_starts[item + 1]):
                context = item_contexts[edge]
                if contexts[context] >= 0:
                    continue
                contexts[context] = num_contexts
                num_contexts += 1
                for back in range(context_starts[context], context_starts[context + 1]):
                    other = context_items[back]
                    if items[other] < 0:
                        items[other] = num_queued
                        queue[num_queued] = other
                        num_queued += 1
    for context in range(contexts.size):
        if contexts[context] < 0:
            contexts[context] = num_contexts
            num_contexts += 1
    return items, contexts


ORDERS: dict[str, Callable[..., Order]] = {
    "degree": by_degree,
    "rarest context": by_first_node,
    "breadth-first": by_search,
    "label spreading": by_community,
}

if __name__ == "__main__":
    main()

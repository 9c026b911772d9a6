"""Held-out pairs whose items all share a context were made of edges that stayed in the graph."""

import numpy as np
import pytest

from pinsage.graph import Pairs
from pinsage.graph.leaks import shows_pairs

CONTEXTS, EACH = 60, 3


@pytest.fixture
def graph(bench):
    """Sixty contexts, each with three items of its own, and one item alone."""

    def ingested(num_shards, *, together=False):
        items = np.arange(CONTEXTS * EACH + 1)
        contexts = np.arange(CONTEXTS).repeat(EACH)
        edges = {"item_id": items[:-1], "context_id": contexts}
        if together:
            edges = {name: np.tile(column, 2) for name, column in edges.items()}
            edges["context_id"][CONTEXTS * EACH :] = CONTEXTS
        draw = np.random.default_rng(0)
        config = bench.six(
            items={"item_id": items, "title": items.astype(str), "size": [[1.0]] * len(items)},
            edges=edges,
            pairs={
                "query_item": items[:100],
                "positive_item": items[1:101],
                "split": draw.choice(["train", "valid", "test"], 100),
            },
        )
        return bench.ingest(config, num_shards=num_shards)

    return ingested


MATES = np.arange(CONTEXTS) * EACH, np.arange(CONTEXTS) * EACH + 2


@pytest.mark.parametrize("num_shards", [1, 4])
def test_pairs_of_the_same_context_are_shown(graph, num_shards):
    opened = graph(num_shards)
    assert shows_pairs(opened, Pairs(*MATES))
    assert shows_pairs(opened, Pairs(*MATES[::-1]))
    many = Pairs(*(np.tile(side, 100) for side in MATES))
    assert shows_pairs(opened, many)


@pytest.mark.parametrize("num_shards", [1, 4])
def test_one_pair_apart_says_that_its_edges_were_held_out(graph, num_shards):
    opened = graph(num_shards)
    for other in (4, CONTEXTS * EACH):
        positives = MATES[1].copy()
        positives[0] = other
        assert not shows_pairs(opened, Pairs(MATES[0], positives))
    assert not shows_pairs(opened, Pairs(MATES[0][:0], MATES[1][:0]))


def test_nothing_is_said_where_all_items_are_together(graph):
    assert not shows_pairs(graph(2, together=True), Pairs(*MATES))

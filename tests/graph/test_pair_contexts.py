"""Contexts of pairs are those of edges, and it is told when edges that tell held-out pairs stay."""

import logging

import pytest

from pinsage.base.errors import DataError

PAIRS = {
    "query_item": list("abcde"),
    "positive_item": list("bcabd"),
    "split": ["train", "train", "valid", "test", "test"],
    "day": [1, 2, 3, 4, 5],
}
"""Contexts of the edges beside them: x, y and z."""

KEEPS_EDGES = "edges that tell held-out pairs, if there are any, stay in the graph"


@pytest.fixture
def ingested(bench, changed, caplog):
    """Make a graph from pairs of the contexts given, and give what was logged."""

    def ingest(contexts, settings):
        config = bench.six(pairs=PAIRS | {"context": contexts})
        with caplog.at_level(logging.WARNING, logger="pinsage"):
            bench.ingest(changed(config, {f"pairs.{name}": settings[name] for name in settings}))
        return caplog.text

    return ingest


def test_contexts_that_no_edge_has_are_an_error_that_shows_both_and_names_the_prefix(ingested):
    with pytest.raises(DataError, match=r"of any of 5 pairs .*'likes/x'; of edges: 'x'.*prefix"):
        ingested(list("xyxyz"), {"context": "context", "context_prefix": "likes/"})


def test_contexts_of_most_held_out_pairs_that_no_edge_has_are_warned_of(ingested):
    said = ingested(list("xyzvw"), {"context": "context"})
    assert "no edge has the context of 2 of 3 held-out pairs (for example 'v')" in said


def test_contexts_of_few_held_out_pairs_or_of_train_pairs_are_not_warned_of(ingested):
    assert not ingested(list("uvxyw"), {"context": "context"})


def test_edges_of_pairs_that_a_hash_holds_out_are_warned_of(ingested):
    assert KEEPS_EDGES in ingested(list("xyxyz"), {"split": None})


@pytest.mark.parametrize(
    "given",
    [
        {"split": "split"},
        {"split": None, "context": "context"},
        {"split": None, "timestamp": "day"},
    ],
)
def test_pairs_with_splits_contexts_or_times_are_not_warned_of_so(ingested, given):
    assert KEEPS_EDGES not in ingested(list("xyxyz"), given)

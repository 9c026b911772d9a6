"""Splits that leave nothing, or far from what was wanted, and what is said of them."""

import logging

import numpy as np
import pytest

from pinsage.base.errors import DataError
from tests.graph.splitting import KEYS, TIMED, concatenated, edge_columns, make, pair_columns


def test_times_that_are_all_equal_leave_no_train_pairs_and_say_so(bench):
    edges = edge_columns() | {"day": np.zeros(360, int)}
    with pytest.raises(DataError, match=r"no pairs are left for train.*finer times") as caught:
        make(bench, edges, timestamp="day")
    assert "none of" in str(caught.value)


def test_pairs_that_all_share_a_time_leave_none_for_training_and_the_error_says_why(bench):
    pairs = pair_columns() | {"day": np.full(200, 100)}
    with pytest.raises(DataError, match=r"no pairs are left for train.*pairs share a time"):
        make(bench, edge_columns(), **TIMED | {"pairs": pairs})


@pytest.mark.parametrize(("unit", "is_told"), [(1, False), (1_000, True)])
def test_pairs_whose_times_no_edge_comes_near_are_warned_of(bench, caplog, unit, is_told):
    pairs = pair_columns()
    pairs["day"] = pairs["day"] * unit
    with caplog.at_level(logging.WARNING, logger="pinsage"):
        graph = make(bench, edge_columns(), **TIMED | {"pairs": pairs})
    assert (graph.counts.left_out_edges["future"] == 0) == is_told
    assert ("different units" in caplog.text) == is_told


@pytest.mark.parametrize(("days_at_the_end", "is_told"), [(200, True), (75, True), (30, False)])
def test_times_so_coarse_that_the_split_is_not_as_wanted_are_warned_of(
    bench, caplog, days_at_the_end, is_told
):
    edges = edge_columns()
    edges["day"] = np.minimum(edges["day"], np.sort(edges["day"])[-days_at_the_end])
    with caplog.at_level(logging.WARNING, logger="pinsage"):
        graph = make(bench, edges, timestamp="day")
    assert graph.counts.pairs.train > 0 < graph.counts.pairs.test
    assert ("share a time" in caplog.text) == is_told


@pytest.mark.parametrize("repeats", [0, 60])
def test_repeated_edges_that_draw_the_cuts_away_from_pairs_are_warned_of(bench, caplog, repeats):
    edges = edge_columns(num_contexts=120)
    again = {name: column[:repeats] for name, column in edges.items()}
    edges = concatenated(edges, again | {"day": np.full(repeats, 10_000) + np.arange(repeats)})
    with caplog.at_level(logging.WARNING, logger="pinsage"):
        graph = make(bench, edges, timestamp="day")
    assert ("of the pairs for test, the latest, found" in caplog.text) == (repeats > 0)
    assert graph.counts.pairs.test


def test_no_edge_before_the_first_pair_is_told_with_the_units_that_may_be_why(bench):
    edges = edge_columns()
    edges["day"] = (edges["day"] + 1) * 1_000
    pairs = pair_columns()
    with pytest.raises(DataError, match=r"none of \d+ edges is left.*seconds, milliseconds"):
        make(bench, edges, **TIMED | {"pairs": pairs | {"day": pairs["day"] // 500}})


def test_too_few_contexts_to_hold_one_out_is_an_error(bench):
    edges = {"item_id": KEYS[:6], "context_id": ["x"] * 6}
    with pytest.raises(DataError, match=r"no pairs are left for (test|train).*whole contexts"):
        make(bench, edges)


def test_contexts_of_one_item_each_give_no_pairs_and_the_error_says_why(bench):
    edges = {"item_id": KEYS[:6], "context_id": list("uvwxyz")}
    with pytest.raises(DataError, match="out of 0; no context has two items"):
        make(bench, edges)

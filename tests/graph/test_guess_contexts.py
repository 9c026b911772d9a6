"""Contexts and times among the columns: told by types, values and names, or asked for."""

import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pinsage.base.errors import DataError
from tests.graph.conftest import NUM_ITEMS, text_keys


@pytest.mark.parametrize(
    "index",
    [
        {"__index_level_0__": np.arange(2 * NUM_ITEMS)[::-1]},
        {"id": np.arange(2 * NUM_ITEMS)},
        {"an event": [f"event {row}" for row in range(2 * NUM_ITEMS)]},
    ],
    ids=["of pandas", "called as the key", "of text"],
)
def test_numbers_of_rows_are_neither_items_nor_contexts(guess, index) -> None:
    items = {"id": np.arange(NUM_ITEMS), "__index_level_0__": np.arange(NUM_ITEMS)[::-1]}
    edges = {"pin": [*range(NUM_ITEMS)] * 2, "board": ["x", "y"] * NUM_ITEMS}
    found = guess(items, index | edges).data
    assert (found.items.key, found.items.metadata) == ("id", ())
    assert (found.edges[0].item, found.edges[0].context) == ("pin", "board")


@pytest.mark.parametrize("context", ["account_id", "country", "candidate", "sentiment"])
def test_names_that_only_sound_like_times_or_amounts_may_be_keys(guess, context) -> None:
    edges = {"id": text_keys() * 2, context: [7, 8] * NUM_ITEMS}
    (found,) = guess({"id": text_keys()}, edges).data.edges
    assert (found.context, found.timestamp) == (context, None)


@pytest.mark.parametrize("name", ["ts", "boughtAt", "unixReviewTime", "ORDER_DATE", "timestamp_ms"])
def test_numbers_named_like_a_time_are_times(guess, name) -> None:
    edges = {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS, name: [7, 8] * NUM_ITEMS}
    assert guess({"id": text_keys()}, edges).data.edges[0].timestamp == name


@pytest.mark.parametrize("time", ["2024-05-01", "2024-05-01 09:30:00.123456789 UTC"])
def test_times_as_text_of_iso_8601_are_times(guess, time) -> None:
    edges = {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS, "time": [time] * 2 * NUM_ITEMS}
    assert guess({"id": text_keys()}, edges).data.edges[0].timestamp == "time"


def test_a_time_of_iso_8601_counts_before_a_duration_and_with_some_texts_missing(guess) -> None:
    rows = 2 * NUM_ITEMS
    edges = {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS, "play_time": list(range(rows))}
    edges["bought_at"] = ["2024-05-01 09:30", "", "N/A", *["2024-05-02"] * (rows - 3)]
    assert guess({"id": text_keys()}, edges).data.edges[0].timestamp == "bought_at"


@pytest.mark.parametrize("time", ["2024-05-99", "1.5.24 9:30", "1700000000"])
def test_times_as_text_are_refused_unless_they_are_not_wanted(guess, time) -> None:
    keys = text_keys()
    edges = {
        "id": keys * 2,
        "board": ["x", "y"] * NUM_ITEMS,
        "time": [time] * len(keys * 2),
    }
    with pytest.raises(DataError, match=r"'time' holds times as text.*--timestamp ''"):
        guess({"id": keys}, edges)
    assert guess({"id": keys}, edges, timestamp="").data.edges[0].timestamp is None


@pytest.mark.parametrize(
    "name",
    ["playtime", "play_time", "watchTime", "time_spent_ms", "activeTime", "reading_time"],
)
def test_how_long_something_took_is_neither_a_time_nor_a_context(guess, name) -> None:
    edges = {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS, name: [7, 8] * NUM_ITEMS}
    (found,) = guess({"id": text_keys()}, edges).data.edges
    assert (found.context, found.timestamp) == ("board", None)


@pytest.mark.parametrize("board", [["x"] * NUM_ITEMS, text_keys()], ids=["one", "one each"])
def test_it_is_told_whether_contexts_have_more_than_one_edge(guess, board) -> None:
    keys = text_keys()
    pairs = {"query": keys, "positive": keys[::-1]}
    found = guess({"pin": keys}, {"pin": keys, "board": board}, pairs, item="pin", context="board")
    assert found.has_shared_contexts == (board[0] == "x")


def test_times_of_iso_8601_are_found_under_any_name(guess) -> None:
    edges = {
        "id": text_keys() * 2,
        "board": ["x", "y"] * NUM_ITEMS,
        "when": ["2024-05-01 09:30", "2024-05-02T10:00:00Z"] * NUM_ITEMS,
    }
    (found,) = guess({"id": text_keys()}, edges).data.edges
    assert (found.context, found.timestamp) == ("board", "when")


def test_one_of_several_times_is_asked_for_unless_names_tell(guess) -> None:
    days = pa.array(range(2 * NUM_ITEMS), pa.timestamp("s"))
    edges = {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS, "birthday": days}
    found = guess({"id": text_keys()}, edges | {"ordered_at": days}).data.edges[0]
    assert found.timestamp == "ordered_at"
    edges |= {"ordered_at": days, "updated_at": days}
    with pytest.raises(DataError, match=r"ordered_at, updated_at hold times.*--timestamp"):
        guess({"id": text_keys()}, edges)
    assert guess({"id": text_keys()}, edges, timestamp="birthday").data.edges[0].timestamp


def test_days_may_be_contexts(guess) -> None:
    edges = {"id": text_keys() * 2, "day": ["2024-05-01", "2024-05-02"] * NUM_ITEMS}
    (found,) = guess({"id": text_keys()}, edges, context="day").data.edges
    assert (found.context, found.timestamp) == ("day", None)


@pytest.mark.parametrize(("contexts", "timed"), [(1, False), (19, False), (20, False), (1, True)])
def test_nothing_is_held_out_of_a_handful_of_contexts(guess, contexts, timed) -> None:
    boards = [f"board {number % contexts}" for number in range(NUM_ITEMS)]
    edges = {"id": text_keys(), "board": boards}
    if timed:
        edges["created_at"] = pa.array(range(NUM_ITEMS), pa.timestamp("s"))
    split = guess({"id": text_keys()}, edges, context="board").data.split
    assert split.holds_out == (timed or contexts == 20)


def test_contexts_of_one_edge_each_are_refused_where_nothing_else_pairs_items(guess) -> None:
    numbers = np.arange(NUM_ITEMS)
    with pytest.raises(DataError, match=r"every 'board' has one edge.*--pairs"):
        guess({"id": numbers}, {"id": numbers, "board": numbers + 100})


@pytest.mark.parametrize("edges_have_times", [False, True])
def test_pairs_are_split_by_time_only_where_edges_have_times(guess, edges_have_times) -> None:
    keys = text_keys()
    edges: dict[str, Any] = {"id": keys, "board": keys[::-1]}
    if edges_have_times:
        edges["when"] = pa.array(range(NUM_ITEMS), pa.timestamp("s"))
    pairs = {
        "split": ["train", "valid"] * (NUM_ITEMS // 2),
        "positive": keys,
        "query": keys[::-1],
        "time": pa.array(range(NUM_ITEMS), pa.timestamp("s")),
    }
    found = guess({"id": keys}, edges, pairs, key="id", item="id", context="board").data.pairs
    assert found is not None
    assert (found.query, found.positive) == ("query", "positive")
    wanted = (None, "time") if edges_have_times else ("split", None)
    assert (found.split, found.timestamp) == wanted


@pytest.mark.parametrize(
    "users",
    [
        [7.0, None] * NUM_ITEMS,
        [Decimal(7), Decimal(8)] * NUM_ITEMS,
        pa.array([uuid.UUID(int=7).bytes] * 2 * NUM_ITEMS, pa.binary(16)),
    ],
    ids=["floats", "decimals", "binary"],
)
def test_a_context_whose_key_is_of_a_wrong_type_is_not_passed_over(guess, users) -> None:
    edges = {"id": text_keys() * 2, "user_id": users, "position": [1, 2] * NUM_ITEMS}
    with pytest.raises(DataError, match=r"not of text or whole numbers: user_id \(.*'position'"):
        guess({"id": text_keys()}, edges)
    found = guess({"id": text_keys()}, edges, context="position").data.edges[0]
    assert found.context == "position"


def test_what_happened_once_in_a_life_or_over_it_is_no_time_of_an_edge(guess) -> None:
    edges = {"id": text_keys(), "board": ["x", "y"] * (NUM_ITEMS // 2)}
    born = pa.array(range(NUM_ITEMS), pa.date32())
    for more in (
        {"lifetime_value": np.linspace(0, 1, NUM_ITEMS)},
        {"birthdate": born},
        {"date_of_birth": ["1990-05-01"] * NUM_ITEMS},
        {"birth_year": [1990] * NUM_ITEMS},
    ):
        (found,) = guess({"id": text_keys()}, edges | more).data.edges
        assert (found.context, found.timestamp) == ("board", None)


@pytest.mark.parametrize("name", ["view_time", "lastReadTime", "session_time"])
def test_a_name_of_a_duration_may_be_one_of_times_by_its_values(guess, name) -> None:
    edges = {"id": text_keys(), "board": ["x", "y"] * (NUM_ITEMS // 2)}
    for least, timestamp in ((0, None), (1_700_000_000, name)):
        times = {name: np.arange(NUM_ITEMS) + least}
        assert guess({"id": text_keys()}, edges | times).data.edges[0].timestamp == timestamp


def test_why_a_column_is_no_context_is_told(guess, tmp_path) -> None:
    edges = {"id": text_keys(), "Weight": [1] * NUM_ITEMS, "flag": [True] * NUM_ITEMS}
    message = r"amounts by their names: Weight .*; not of text or whole numbers: flag \(bool\)"
    with pytest.raises(DataError, match=message):
        guess({"id": text_keys()}, edges)

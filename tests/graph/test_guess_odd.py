"""Columns that look like what is wanted, but are not as they must be, are never passed over."""

import datetime
import decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinsage.base.errors import DataError
from pinsage.graph.guess import Told, guess_tables
from tests.graph.conftest import NUM_ITEMS, text_keys

NUMBERS = np.arange(NUM_ITEMS)
DAYS = [datetime.date(2024, 1, 1) + datetime.timedelta(days=day) for day in range(NUM_ITEMS)]


def twice(values: list[object]) -> list[object]:
    return [*values, *values]


@pytest.mark.parametrize(
    ("of_items", "of_edges", "why"),
    [
        (DAYS, DAYS, "times are no keys"),
        ([f"{n:010}" for n in NUMBERS], list(NUMBERS), "alike but for leading zeros"),
        ([f"Pin{n}" for n in NUMBERS], [f"pin{n}" for n in NUMBERS], "upper and lower case"),
        ([f"\u00e9{n}" for n in NUMBERS], [f"e\u0301{n}" for n in NUMBERS], "normal forms"),
        ([f"a{n}" for n in NUMBERS], [f"b{n}" for n in NUMBERS], "none of its values is in both"),
    ],
    ids=["days", "zeros", "case", "accents", "others"],
)
def test_a_key_that_edges_write_otherwise_is_told_though_other_columns_fit(
    guess, of_items, of_edges, why
) -> None:
    items = {"isbn": of_items, "rank": NUMBERS}
    edges = {"isbn": twice(of_edges), "user": ["x", "y"] * NUM_ITEMS, "age": twice(list(NUMBERS))}
    with pytest.raises(DataError, match=f"both have 'isbn'.*{why}.*--key and --item"):
        guess(items, edges)
    told = guess(items, edges, key="rank", item="age", context="user").data
    assert (told.items.key, told.edges[0].item) == ("rank", "age")


def test_numbers_of_edges_own_rows_are_not_taken_for_the_items_key(guess) -> None:
    items = {"id": [f"pin {n}" for n in NUMBERS]}
    edges = {"id": [f"edge {n}" for n in range(2 * NUM_ITEMS)], "pin": twice(items["id"])}
    edges["board"] = ["x", "y"] * NUM_ITEMS
    assert guess(items, edges).data.edges[0].item == "pin"


def test_a_key_that_is_of_another_type_in_one_file_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sku": NUMBERS}), tmp_path / "items.parquet")
    folder = tmp_path / "edges"
    folder.mkdir()
    for name, keys in (("a", pa.array(NUMBERS)), ("b", pa.array(map(str, NUMBERS)))):
        columns = {"sku": keys, "user": ["x", "y"] * (NUM_ITEMS // 2), "age": NUMBERS}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    with pytest.raises(DataError, match=r"'sku' \(int64; int64 and string\).* not of one type"):
        guess_tables(str(tmp_path / "items.parquet"), str(folder), None, Told())


def test_a_first_file_without_columns_hides_none_of_the_others(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": text_keys()}), tmp_path / "items.parquet")
    folder = tmp_path / "edges"
    folder.mkdir()
    pq.write_table(pa.table({}), folder / "0.parquet")
    edges = {"id": twice(text_keys()), "board": ["x", "y"] * NUM_ITEMS}
    pq.write_table(pa.table(edges), folder / "1.parquet")
    found = guess_tables(str(tmp_path / "items.parquet"), str(folder), None, Told())
    assert (found.data.edges[0].item, found.data.edges[0].context) == ("id", "board")


@pytest.mark.parametrize(
    "time",
    [
        "1 May 2024 09:05",
        "1600000000.5",
        decimal.Decimal("1600000000.50"),
        datetime.time(9, 30),
        datetime.timedelta(seconds=9),
    ],
    ids=str,
)
def test_what_is_called_a_time_and_cannot_be_read_as_one_is_refused(guess, time) -> None:
    rows = 2 * NUM_ITEMS
    edges = {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS, "bought_at": [time] * rows}
    with pytest.raises(DataError, match=r"'bought_at' holds times as .*--timestamp ''"):
        guess({"id": text_keys()}, edges)
    assert guess({"id": text_keys()}, edges, timestamp="").data.edges[0].timestamp is None


def test_words_for_times_of_the_day_are_no_times(guess) -> None:
    edges = {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS}
    edges["time_of_day"] = ["morning", "night"] * NUM_ITEMS
    assert guess({"id": text_keys()}, edges).data.edges[0].timestamp is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("dataset_split", ["training", "valid"]),
        ("fold", ["TRAIN", "test"]),
        ("part", ["train ", "validation"]),
        ("split_no", [0, 1]),
    ],
)
def test_splits_of_other_words_are_refused_whatever_the_column_is_called(
    guess, name, values
) -> None:
    keys = text_keys()
    pairs = {"query": keys, "positive": keys[::-1], name: values * (NUM_ITEMS // 2)}
    edges = {"id": keys, "board": ["x", "y"] * (NUM_ITEMS // 2)}
    with pytest.raises(DataError, match=rf"'{name}' holds .*, wanted train, valid, test"):
        guess({"id": keys}, edges, pairs)


def test_two_times_of_pairs_are_asked_for(guess) -> None:
    keys = text_keys()
    edges = {"id": twice(keys), "board": ["x", "y"] * NUM_ITEMS, "at": twice(DAYS)}
    pairs = {"query": keys, "positive": keys[::-1], "exported_at": DAYS, "clicked_at": DAYS[::-1]}
    with pytest.raises(DataError, match=r"exported_at.*clicked_at.*--pairs-timestamp"):
        guess({"id": keys}, edges, pairs)
    told = guess({"id": keys}, edges, pairs, pairs_timestamp="clicked_at")
    assert told.data.pairs.timestamp == "clicked_at"
    assert guess({"id": keys}, edges, pairs, pairs_timestamp="").data.pairs.timestamp is None
    del edges["at"], pairs["exported_at"]
    assert guess({"id": keys}, edges, pairs).data.pairs.timestamp == "clicked_at"

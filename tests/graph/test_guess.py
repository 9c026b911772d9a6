"""Columns are told by types, values and names; what they do not decide is asked for."""

import decimal
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinsage.base.errors import DataError
from pinsage.graph.guess import Guess, Told, guess_tables

NUM_ITEMS = 50


@pytest.fixture
def guess(tmp_path: Path):
    """Write three tables, then look at them."""

    def look(
        items: dict[str, Any],
        edges: dict[str, Any],
        pairs: dict[str, Any] | None = None,
        **told: Any,
    ) -> Guess:
        paths = {}
        for name, columns in {"items": items, "edges": edges, "pairs": pairs}.items():
            paths[name] = None
            if columns is not None:
                paths[name] = str(tmp_path / f"{name}.parquet")
                pq.write_table(pa.table(columns), paths[name])
        return guess_tables(paths["items"], paths["edges"], paths["pairs"], Told(**told))

    return look


def text_keys() -> list[str]:
    return [f"pin {number}" for number in range(NUM_ITEMS)]


def test_columns_of_other_names_are_found_by_their_values(guess) -> None:
    found = guess(
        {
            "name": ["same"] * NUM_ITEMS,
            "unused number": np.arange(NUM_ITEMS),
            "the pin": text_keys(),
            "a vector": pa.array(np.ones((NUM_ITEMS, 3)).tolist(), pa.list_(pa.float16(), 3)),
            "long": ["word " * 100] * NUM_ITEMS,
        },
        {
            "pinned": text_keys() * 2,
            "board": ["x", "y"] * NUM_ITEMS,
            "created_at": np.arange(2 * NUM_ITEMS),
            "rating": np.ones(2 * NUM_ITEMS, np.int8),
        },
    )
    items, (edges,) = found.data.items, found.data.edges
    assert (items.key, items.title) == ("the pin", "name")
    assert items.metadata == ("name", "unused number")
    assert [(group.name, group.column) for group in items.features] == [("a_vector", "a vector")]
    assert (edges.item, edges.context, edges.timestamp) == ("pinned", "board", "created_at")
    assert edges.weight is None
    told = [text.partition(".parquet: ")[2] for text in found.unused]
    assert told == ["long (string)", "rating (int8)"]
    assert (found.num_items, found.num_edges, found.num_pairs) == (NUM_ITEMS, 2 * NUM_ITEMS, None)


def test_equal_names_decide_where_values_fit_twice(guess) -> None:
    numbers = np.arange(NUM_ITEMS)
    edges = {"viewer": numbers // 2, "movie": numbers // 2}
    found = guess({"movie": numbers}, edges)
    assert (found.data.edges[0].item, found.data.edges[0].context) == ("movie", "viewer")
    with pytest.raises(DataError, match=r"could be the items.*--key id --item"):
        guess({"id": numbers}, edges)
    told = guess({"id": numbers}, edges, item="movie")
    assert (told.data.edges[0].item, told.data.edges[0].context) == ("movie", "viewer")


@pytest.mark.parametrize(
    ("edges", "told", "words"),
    [
        ({"other": ["a"], "board": ["b"]}, {}, r"has the unique keys.*--key and --item"),
        ({"id": ["pin 1"], "a": ["b"], "b": ["c"]}, {}, "found a, b; say with --context"),
        ({"id": ["pin 1"], "score": [1]}, {}, "found none; say with --context"),
        (
            {"id": ["pin 1"], "a": ["b"]},
            {"item": "ID"},
            "--item: .*has no column 'ID'; found id, a",
        ),
    ],
)
def test_what_is_not_decided_is_asked_for(guess, edges, told, words) -> None:
    with pytest.raises(DataError, match=words):
        guess({"id": text_keys()}, edges, **told)


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
    ("of_items", "of_edges", "words"),
    [
        (pa.int64(), pa.float64(), "edges.parquet: 'id' is double, wanted a key"),
        (pa.binary(), pa.binary(), "items.parquet: 'id' is binary, wanted a key"),
    ],
    ids=str,
)
def test_a_key_of_a_wrong_type_is_refused_though_others_fit(
    guess, of_items, of_edges, words
) -> None:
    def keys(kind: pa.DataType) -> pa.Array:
        numbers = pa.array(range(NUM_ITEMS))
        return (numbers.cast(pa.string()) if kind == pa.binary() else numbers).cast(kind)

    others = {"shelf": np.arange(NUM_ITEMS), "reader": [str(n) for n in range(NUM_ITEMS)]}
    with pytest.raises(DataError, match=words):
        guess({"id": keys(of_items), "rank": np.arange(NUM_ITEMS)}, {"id": keys(of_edges)} | others)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"context": "tags"}, r"--context: .*'tags' is list<.*, wanted text or whole numbers"),
        ({"item": "bytes"}, r"--item: .*'bytes' is binary, wanted text or whole numbers"),
        ({"timestamp": "tags"}, r"--timestamp: .*'tags' is list<.*, wanted times, numbers or text"),
    ],
)
def test_a_told_column_of_an_unfit_type_is_refused(guess, told, words) -> None:
    edges = {"id": text_keys(), "board": ["x", "y"] * (NUM_ITEMS // 2)}
    odd = {"tags": [["a"]] * NUM_ITEMS, "bytes": [b"\xff"] * NUM_ITEMS}
    with pytest.raises(DataError, match=words):
        guess({"id": text_keys()}, edges | odd, **told)


def test_a_told_column_that_one_file_lacks_is_refused(guess, tmp_path: Path) -> None:
    folder = tmp_path / "edges"
    folder.mkdir()
    for name, columns in (("a", ["x", "y"]), ("b", ["y"])):
        table = {"id": text_keys()} | {column: [1] * NUM_ITEMS for column in columns}
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    items = tmp_path / "items.parquet"
    pq.write_table(pa.table({"id": text_keys()}), items)
    with pytest.raises(DataError, match=r"--context: .*'x' is a column of some of its files"):
        guess_tables(str(items), str(folder), None, Told(context="x"))


def test_numbers_that_match_keys_of_text_are_refused(guess) -> None:
    numbers = np.arange(NUM_ITEMS)
    with pytest.raises(DataError, match=r"'?id \(int64\) holds the keys of .*id \(string\)"):
        guess({"id": numbers.astype(str).tolist()}, {"id": numbers, "board": numbers % 7})


@pytest.mark.parametrize("name", ["playtime", "play_time", "watchTime", "time_spent_ms"])
def test_how_long_something_took_is_neither_a_time_nor_a_context(guess, name) -> None:
    edges = {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS, name: [7, 8] * NUM_ITEMS}
    (found,) = guess({"id": text_keys()}, edges).data.edges
    assert (found.context, found.timestamp) == ("board", None)


def test_keys_that_repeat_are_told_and_taken_when_named(guess) -> None:
    keys = text_keys()
    edges = {"id": keys * 2, "board": ["x", "y"] * NUM_ITEMS}
    with pytest.raises(DataError, match="unfit as keys: 'id' repeats in 1 of 51 rows"):
        guess({"id": [*keys, keys[0]]}, edges)
    assert guess({"id": [*keys, keys[0]]}, edges, key="id", item="id").data.items.key == "id"


@pytest.mark.parametrize("board", [["x"] * NUM_ITEMS, text_keys()], ids=["one", "one each"])
def test_it_is_told_whether_contexts_have_more_than_one_edge(guess, board) -> None:
    keys = text_keys()
    pairs = {"query": keys, "positive": keys[::-1]}
    found = guess({"pin": keys}, {"pin": keys, "board": board}, pairs, item="pin", context="board")
    assert found.has_shared_contexts == (board[0] == "x")


def test_a_table_without_rows_is_told(guess) -> None:
    with pytest.raises(DataError, match=r"items.parquet: there are no rows"):
        guess({"id": pa.array([], pa.string())}, {"id": ["a"], "board": ["x"]})


def test_files_may_differ_in_order_width_and_extra_columns(guess, tmp_path: Path) -> None:
    keys = list(range(NUM_ITEMS))
    parts = [
        {"id": pa.array([], pa.string()), "name": pa.array([], pa.string())},
        {"id": pa.array(keys[:9], pa.int32()), "name": ["a"] * 9, "extra": [1] * 9},
        {"name": pa.array(["b"] * 41).dictionary_encode(), "id": pa.array(keys[9:], pa.int64())},
    ]
    (tmp_path / "items").mkdir()
    for number, part in enumerate(parts):
        pq.write_table(pa.table(part), tmp_path / "items" / f"{number}.parquet")
    edges = tmp_path / "edges.parquet"
    pq.write_table(pa.table({"id": keys * 2, "board": ["x", "y"] * NUM_ITEMS}), edges)
    found = guess_tables(str(tmp_path / "items"), str(edges), None, Told())
    assert (found.data.items.key, found.data.items.metadata) == ("id", ("name",))
    assert found.num_items == NUM_ITEMS


def test_what_only_names_of_folders_tell_is_refused(guess, tmp_path: Path) -> None:
    keys = text_keys()
    for name in ("edges/board=x", "pairs/split=train"):
        (tmp_path / name).mkdir(parents=True)
        table = pa.table({"id": keys, "query": keys, "positive": keys[::-1]})
        columns = ["id"] if "board" in name else ["query", "positive"]
        pq.write_table(table.select(columns), tmp_path / name / "0.parquet")
    items, edges = tmp_path / "items.parquet", tmp_path / "edges.parquet"
    pq.write_table(pa.table({"id": keys}), items)
    pq.write_table(pa.table({"id": keys * 2, "board": ["x", "y"] * NUM_ITEMS}), edges)
    with pytest.raises(DataError, match="names of folders, not by columns in the files: board"):
        guess_tables(str(items), str(tmp_path / "edges"), None, Told())
    with pytest.raises(DataError, match=r"folders are called split=\.\.\., wanted a column"):
        guess_tables(str(items), str(edges), str(tmp_path / "pairs"), Told())


def test_a_column_is_not_taken_for_another_whose_name_goes_on_after_a_dot(guess) -> None:
    items = {"id.old": np.arange(NUM_ITEMS), "id": text_keys()}
    found = guess(items, {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS})
    assert found.data.items.key == "id"


@pytest.mark.parametrize("weights", [[0.5, 2.0], [decimal.Decimal("1.5"), decimal.Decimal(2)]])
def test_a_column_of_weights_is_taken_if_it_can_be(guess, weights) -> None:
    edges = {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS}
    (found,) = guess({"id": text_keys()}, edges | {"weight": weights * NUM_ITEMS}).data.edges
    assert (found.context, found.weight) == ("board", "weight")
    (found,) = guess({"id": text_keys()}, edges | {"weight": [0, 1] * NUM_ITEMS}).data.edges
    assert found.weight is None


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


def test_pairs_of_whole_floats_are_pairs_of_keys(guess) -> None:
    numbers = np.arange(NUM_ITEMS)
    pairs = {"one": [1.0, 2.0, None], "other": [3.0, float("nan"), 4.0], "score": [0.5, 0.1, 1.0]}
    found = guess({"id": numbers}, {"id": numbers, "board": numbers % 7}, pairs).data.pairs
    assert (found.query, found.positive) == ("one", "other")


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


def test_a_vector_without_a_name_is_a_feature_group(guess) -> None:
    vectors = pa.array(np.ones((NUM_ITEMS, 3)).tolist(), pa.list_(pa.float32(), 3))
    edges = {"id": text_keys(), "board": ["x", "y"] * (NUM_ITEMS // 2)}
    (group,) = guess({"id": text_keys(), "": vectors}, edges).data.items.features
    assert (group.name, group.column) == ("features", "")


@pytest.mark.parametrize("rows", [[None, [1.0, 2.0]], [[None, None], [1.0, 2.0]]], ids=str)
def test_items_without_a_vector_are_to_be_kept(guess, rows) -> None:
    half = NUM_ITEMS // 2
    vectors = pa.array(rows * half, pa.list_(pa.float32()))
    whole = pa.array([[1.0]] * NUM_ITEMS, pa.list_(pa.float32()))
    edges = {"id": text_keys(), "board": ["x", "y"] * half}
    found = guess({"id": text_keys(), "looks": vectors, "looks.x": whole}, edges)
    missing = {group.column: group.missing for group in found.data.items.features}
    assert missing == {"looks": "zeros", "looks.x": "refuse"}


def test_uuids_of_databases_may_be_keys(guess) -> None:
    raw = pa.array([uuid.UUID(int=number).bytes for number in range(NUM_ITEMS)], pa.binary(16))
    keys = pa.ExtensionArray.from_storage(pa.uuid(), raw)
    boards = keys.take(pa.array([0, 1] * (NUM_ITEMS // 2)))
    found = guess({"product": keys}, {"product": keys, "board": boards}).data
    assert (found.items.key, found.edges[0].item, found.edges[0].context) == (
        "product",
        "product",
        "board",
    )


def test_feature_groups_get_names_that_are_free(guess) -> None:
    vectors = pa.array(np.ones((NUM_ITEMS, 3)).tolist(), pa.list_(pa.float32()))
    names = ("structure", "a b", "a-b", "visual")
    found = guess(
        {"id": text_keys(), "item_key": [1] * NUM_ITEMS} | dict.fromkeys(names, vectors),
        {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS},
        npy={"visual": "visual.npy"},
    )
    groups = [group.name for group in found.data.items.features]
    assert groups == ["structure_2", "a_b", "a_b_2", "visual_2", "visual"]
    assert found.data.items.metadata == ()


@pytest.mark.parametrize("values", [["train", "dev"], [0, 1], ["Train", "Test"]], ids=str)
def test_a_split_of_other_words_is_refused_not_passed_over(guess, values) -> None:
    keys = text_keys()
    pairs = {"query": keys, "positive": keys[::-1], "split": values * (NUM_ITEMS // 2)}
    with pytest.raises(DataError, match=r"'split' holds .*, wanted train, valid, test"):
        guess({"id": keys}, {"id": keys, "board": keys[::-1]}, pairs, item="id", context="board")


def test_a_split_with_nulls_is_still_the_split(guess) -> None:
    keys = text_keys()
    pairs = {"query": keys, "positive": keys[::-1], "split": ["train", None] * (NUM_ITEMS // 2)}
    edges = {"id": keys, "board": keys[::-1]}
    found = guess({"id": keys}, edges, pairs, item="id", context="board").data.pairs
    assert found is not None
    assert found.split == "split"


def test_another_file_than_parquet_is_told(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("id\n1\n")
    with pytest.raises(DataError, match=r"items.csv: wanted a Parquet file.*docs/data\.md"):
        guess_tables(str(path), str(path), None, Told())


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    keys = [f"pin {number * 7919 % 100003}" for number in range(5000)]
    pq.write_table(pa.table({"id": keys, "board": keys}), path)
    content = bytearray(path.read_bytes())
    content[200 : len(content) // 2 : 7] = bytes(len(content[200 : len(content) // 2 : 7]))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"items.parquet: cannot be read as Parquet"):
        guess_tables(str(path), str(path), None, Told())


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

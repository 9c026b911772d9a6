"""Columns are told by types, values and names; what they do not decide is asked for."""

import decimal
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinsage.base.errors import DataError
from pinsage.graph.guess import Told, guess_tables
from tests.graph.conftest import NUM_ITEMS, text_keys


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


def test_keys_that_repeat_are_told_and_taken_when_named(guess) -> None:
    keys = text_keys()
    edges = {"id": keys * 2, "board": ["x", "y"] * NUM_ITEMS}
    with pytest.raises(DataError, match="unfit as keys: 'id' repeats in 1 of 51 rows"):
        guess({"id": [*keys, keys[0]]}, edges)
    assert guess({"id": [*keys, keys[0]]}, edges, key="id", item="id").data.items.key == "id"


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
    refused = guess({"id": text_keys()}, edges | {"weight": [0, 1] * NUM_ITEMS})
    assert refused.data.edges[0].weight is None
    assert "weight is no weight, since not every row has a number above 0" in refused.unused[0]


def test_pairs_of_whole_floats_are_pairs_of_keys(guess) -> None:
    numbers = np.arange(NUM_ITEMS)
    pairs = {"one": [1.0, 2.0, None], "other": [3.0, float("nan"), 4.0], "score": [0.5, 0.1, 1.0]}
    found = guess({"id": numbers}, {"id": numbers, "board": numbers % 7}, pairs).data.pairs
    assert (found.query, found.positive) == ("one", "other")


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


def test_feature_groups_get_names_that_are_free(guess, tmp_path: Path) -> None:
    np.save(tmp_path / "visual.npy", np.ones((NUM_ITEMS, 3), np.float32))
    vectors = pa.array(np.ones((NUM_ITEMS, 3)).tolist(), pa.list_(pa.float32()))
    names = ("structure", "a b", "a-b", "visual")
    found = guess(
        {"id": text_keys(), "item_key": [1] * NUM_ITEMS} | dict.fromkeys(names, vectors),
        {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS},
        npy={"visual": str(tmp_path / "visual.npy")},
    )
    groups = [group.name for group in found.data.items.features]
    assert groups == ["structure_2", "a_b", "a_b_2", "visual_2", "visual"]
    assert found.data.items.metadata == ()


@pytest.mark.parametrize(
    "shape", [(NUM_ITEMS - 1, 3), (NUM_ITEMS,), None], ids=["a row short", "no columns", "no array"]
)
def test_features_that_are_not_a_row_for_every_item_are_refused(guess, tmp_path, shape) -> None:
    path = tmp_path / "visual.npy"
    path.write_bytes(b"text")
    if shape is not None:
        np.save(path, np.ones(shape, np.float32))
    tables = {"id": text_keys()}, {"id": text_keys() * 2, "board": ["x", "y"] * NUM_ITEMS}
    with pytest.raises(DataError, match=r"--npy visual=.*(wanted floats of shape|numpy\.save)"):
        guess(*tables, npy={"visual": str(path)})


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


def test_columns_that_nearly_fit_are_asked_for(guess) -> None:
    # Numbers of users and of items overlap, and some items are in the edges alone.
    numbers = np.arange(NUM_ITEMS)
    edges = {
        "artistID": np.append(numbers, 1_000_000),
        "userID": np.append(numbers // 2, 1_000_000),
        "day": np.append(numbers % 2, 1),
    }
    with pytest.raises(DataError, match=r"--key id --item userID \| --key id --item artistID$"):
        guess({"id": numbers}, edges)
    (found,) = guess({"id": numbers}, edges, item="artistID").data.edges
    assert (found.item, found.context) == ("artistID", "userID")


@pytest.mark.parametrize("name", ["movie_title", "productName", "TITLE", "name of it", "label_en"])
def test_a_title_is_found_by_a_word_of_its_name(guess, name) -> None:
    items = {"id": text_keys(), "colour": text_keys(), name: text_keys()}
    edges = {"id": text_keys() * 2, "board": ["a", "b"] * NUM_ITEMS}
    assert guess(items, edges).data.items.title == name


def test_a_word_of_a_name_counts_after_the_names_themselves(guess) -> None:
    items = {"id": text_keys(), "job_title": text_keys(), "name": text_keys()}
    edges = {"id": text_keys() * 2, "board": ["a", "b"] * NUM_ITEMS}
    assert guess(items, edges).data.items.title == "name"

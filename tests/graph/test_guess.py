"""Columns are told by types, values and names; what they do not decide is asked for."""

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
    assert (found.num_items, found.num_edges, found.num_pairs) == (NUM_ITEMS, 2 * NUM_ITEMS, None)


def test_equal_names_decide_where_values_fit_twice(guess) -> None:
    numbers = np.arange(NUM_ITEMS)
    found = guess({"movie": numbers}, {"viewer": numbers, "movie": numbers})
    assert (found.data.edges[0].item, found.data.edges[0].context) == ("movie", "viewer")
    with pytest.raises(DataError, match=r"could be the items.*--key id --item"):
        guess({"id": numbers}, {"viewer": numbers, "movie": numbers})
    told = guess({"id": numbers}, {"viewer": numbers, "movie": numbers}, item="movie")
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


def test_another_file_than_parquet_is_told(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("id\n1\n")
    with pytest.raises(DataError, match=r"items.csv: wanted a Parquet file.*docs/data\.md"):
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

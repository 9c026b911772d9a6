"""Every kind of bad input gives a finding that says where, what, how often, and what to do."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinsage.base.artifacts import Draft
from pinsage.base.errors import DataError
from pinsage.graph.ingest import ingest

NAN = float("nan")
ITEMS = {"item_id": list("abcdef"), "title": list("abcdef"), "size": [[0.5, 0.5]] * 6}
EDGES = {"item_id": list("abcbde"), "context_id": list("xxxyyz")}
PAIRS = {
    "query_item": list("abcd"),
    "positive_item": list("bcab"),
    "split": ["train", "train", "valid", "test"],
}

# Case: replaced tables, changed settings, and pieces of the message in order.
CASES = {
    "an items file that is not there": (
        {},
        {"items.path": "no/items.parquet"},
        ["no/items.parquet: no such file"],
    ),
    "an edges file that is not there": (
        {},
        {"edges.0.path": "no.parquet"},
        ["no.parquet: no such file"],
    ),
    "an npy file that is not there": (
        {},
        {"items.features": [{"name": "v", "npy": "no.npy"}]},
        ["no.npy: no such file"],
    ),
    "a column that is not there": (
        {"edges": {"item_idd": list("ab"), "context_id": list("xx")}},
        {},
        [
            "edges.parquet: no column 'item_id', wanted for data.edges.0.item",
            "found item_idd, context_id",
            "did you mean 'item_idd'?",
        ],
    ),
    "a metadata column that is not there": (
        {},
        {"items.metadata": ["year"]},
        ["items.parquet: no column 'year', wanted for data.items.metadata"],
    ),
    "a where on a column that is not there": (
        {},
        {"edges.0.where": [["rating", ">=", 4]]},
        ["edges.parquet: no column 'rating', wanted for where [[rating, '>=', 4]]"],
    ),
    "a where whose value does not fit": (
        {},
        {"edges.0.where": [["item_id", ">=", 4]]},
        ["edges.parquet: where [[item_id, '>=', 4]] does not fit", "string"],
    ),
    "a where that leaves no row": (
        {},
        {"edges.0.where": [["item_id", "=", "q"]]},
        ["edges.parquet: no rows are left by where [[item_id, '=', 'q']]"],
    ),
    "null item keys": (
        {"items": ITEMS | {"item_id": ["a", "b", "c", "d", "e", None]}},
        {},
        ["items.parquet: 'item_id' is null or empty in 1 of 6 rows, first at row 5", "drop"],
    ),
    "empty item keys": (
        {"items": ITEMS | {"item_id": ["a", "b", "c", "d", "e", ""]}},
        {},
        ["items.parquet: 'item_id' is null or empty in 1 of 6 rows, first at row 5"],
    ),
    "duplicate item keys": (
        {"items": ITEMS | {"item_id": ["a", "b", "c", "d", "e", "b"]}},
        {},
        ["'item_id' repeats the key of an earlier row in 1 of 6 rows, first at row 5 ('b')"],
    ),
    "null item keys in edges": (
        {"edges": EDGES | {"item_id": ["a", None, None, "b", "d", "e"]}},
        {},
        ["edges.parquet: 'item_id' is null or empty in 2 of 6 rows, first at row 1"],
    ),
    "null context keys": (
        {"edges": EDGES | {"context_id": ["x", "x", "x", "y", None, "z"]}},
        {},
        ["edges.parquet: 'context_id' is null or empty in 1 of 6 rows, first at row 4"],
    ),
    "unknown items in edges": (
        {"edges": EDGES | {"item_id": ["a", "b", "c", "q", "q", "q"]}},
        {},
        [
            "edges.parquet: 'item_id' is not in the items table in 3 of 6 rows, "
            "first at row 3 ('q'); add these items, or set data.on_bad_rows: drop"
        ],
    ),
    "unknown items in pairs": (
        {"pairs": PAIRS | {"positive_item": ["b", "c", "q", "b"]}},
        {},
        ["pairs.parquet: 'positive_item' is not in the items table in 1 of 4 rows", "row 2 ('q')"],
    ),
    "keys of another kind in edges": (
        {"edges": EDGES | {"item_id": [1, 2, 3, 4, 5, 6]}},
        {},
        ["edges.parquet: 'item_id' holds int64 keys, but the items table has large_string keys"],
    ),
    "keys that are fractions": (
        {"edges": EDGES | {"context_id": [1.0, 2.5, 3.0, NAN, 1.0, 1.0]}},
        {},
        ["edges.parquet: 'context_id' is double, wanted a key", "2.5", "as integers or strings"],
    ),
    "keys that are floats, one missing": (
        {"edges": EDGES | {"context_id": [1.0, 2.0, 3.0, NAN, 1.0, 1.0]}},
        {},
        ["edges.parquet: 'context_id' is null or empty in 1 of 6 rows, first at row 3"],
    ),
    "keys that are floats too large for their last digit": (
        {"edges": EDGES | {"context_id": [1.0, 2.0, 3.0, 1.0, 1.0, 2.0**60]}},
        {},
        ["'context_id' is double", "1152921504606846976 is above 9007199254740992"],
    ),
    "keys too large for int64": (
        {"edges": EDGES | {"context_id": pa.array([2**63, 1, 1, 1, 1, 1], pa.uint64())}},
        {},
        ["edges.parquet: 'context_id' is uint64", "store it as a string"],
    ),
    "a title that is a number": (
        {"items": ITEMS | {"title": [1, 2, 3, 4, 5, 6]}},
        {},
        ["items.parquet: 'title' is int64, wanted text for data.items.title"],
    ),
    "keys of edges in upper case": (
        {"edges": EDGES | {"item_id": ["a", "B", "c", "D", "a", "b"]}},
        {},
        [
            "'item_id' is not in the items table in 2 of 6 rows, first at row 1 ('B')",
            "write these keys as the items table does, where they are alike but for upper and lower"
            " case, or set data.on_bad_rows: drop",
        ],
    ),
    "pairs of an item with itself": (
        {"pairs": PAIRS | {"positive_item": ["b", "b", "a", "b"]}},
        {},
        ["pairs.parquet: 'positive_item' is the same item as 'query_item' in 1 of 4 rows", "row 1"],
    ),
    "features of uneven width": (
        {"items": ITEMS | {"size": [[1.0, 1.0]] * 4 + [[1.0], [1.0, 1.0]]}},
        {},
        [
            "'size' is not 2 wide, as most rows are, in 1 of 6 rows, first at row 4 ('e')",
            "write lists of one width, or set data.on_bad_rows: drop",
        ],
    ),
    "features with NaN": (
        {"items": ITEMS | {"size": [[1.0, 1.0]] * 3 + [[1.0, NAN]] + [[1.0, 1.0]] * 2}},
        {},
        [
            "'size' holds a null, NaN, infinite or too large number in 1 of 6 rows, first at row 3"
            " ('d')"
        ],
    ),
    "features too large for float32": (
        {"items": ITEMS | {"size": [[1e300, 1.0]] + [[1.0, 1.0]] * 5}},
        {},
        ["'size' holds a null, NaN, infinite or too large number in 1 of 6 rows, first at row 0"],
    ),
    "features with a null": (
        {"items": ITEMS | {"size": [[1.0, 1.0]] * 5 + [None]}},
        {},
        [
            "'size' holds a null, NaN, infinite or too large number in 1 of 6 rows, first at row 5",
            "fill in numbers below 3.4e38, or set missing: zeros for items that have none",
        ],
    ),
    "features of which some numbers are missing": (
        {"items": ITEMS | {"size": [[1.0, 1.0]] * 4 + [None, [NAN, 1.0]]}},
        {"items.features.0.missing": "zeros"},
        ["'size' holds a null, NaN, infinite or too large number in 1 of 6 rows, first at row 5"],
    ),
    "features that are not numbers": (
        {"items": ITEMS | {"size": list("abcdef")}},
        {},
        ["'size' is string, wanted lists of float16, float32 or float64"],
    ),
    "a split that is not known": (
        {"pairs": PAIRS | {"split": ["train", "train", "val", "test"]}},
        {},
        ["'split' is none of train, valid, test in 1 of 4 rows, first at row 2 ('val')"],
    ),
    "no train pairs": (
        {"pairs": PAIRS | {"split": ["test"] * 4}},
        {},
        ["pairs.parquet: no pairs of split 'train'"],
    ),
    "no test pairs": (
        {"pairs": PAIRS | {"split": ["train"] * 4}},
        {},
        ["pairs.parquet: no pairs of split 'test'"],
    ),
    "no items": (
        {"items": {"item_id": pa.array([], "string"), "title": [], "size": []}},
        {"items.title": None},
        ["items.parquet: there are no rows"],
    ),
    "no edges": (
        {"edges": {"item_id": pa.array([], "string"), "context_id": pa.array([], "string")}},
        {},
        ["edges.parquet: there are no rows"],
    ),
    "times that are text of another kind": (
        {"edges": EDGES | {"day": ["01/02/2020"] * 6}},
        {"edges.0.timestamp": "day"},
        ["'day' is null or not a finite time in 6 of 6 rows", "texts like 2024-05-01 09:30"],
    ),
    "times that are text, some of another kind": (
        {
            "edges": EDGES
            | {"day": ["2020-01-01", "", "2 May", None, "2020-01-01 9:30", "0001-01-01"]}
        },
        {"edges.0.timestamp": "day", "pairs": None},
        ["edges.parquet: 'day' is null or not a finite time in 4 of 6 rows, first at row 1"],
    ),
    "times that are text of no time": (
        {"edges": EDGES | {"day": [*["2020-01-01"] * 5, "2020-02-30"]}},
        {"edges.0.timestamp": "day"},
        ["'day' is null or not a finite time in 1 of 6 rows, first at row 5; write numbers"],
    ),
    "times that are missing or not finite": (
        {"edges": EDGES | {"day": [1.0, 2.0, NAN, None, float("inf"), 3.0]}},
        {"edges.0.timestamp": "day", "pairs": None},
        ["edges.parquet: 'day' is null or not a finite time in 3 of 6 rows, first at row 2"],
    ),
    "times that pandas had none of, cast to whole numbers": (
        {"edges": EDGES | {"day": [1, 2, -(2**63), 3, 4, 5]}},
        {"edges.0.timestamp": "day", "pairs": None},
        ["edges.parquet: 'day' is null or not a finite time in 1 of 6 rows, first at row 2"],
    ),
    "times too far off to be written in microseconds": (
        {"edges": EDGES | {"day": pa.array([1, 2, 3, 4, 5, 2**63 - 1], pa.timestamp("ms"))}},
        {"edges.0.timestamp": "day", "pairs": None},
        ["edges.parquet: 'day' is null or not a finite time in 1 of 6 rows, first at row 5"],
    ),
    "weights that are not numbers above 0": (
        {"edges": EDGES | {"weight": [1.0, 0.0, -2.0, NAN, None, float("inf")]}},
        {"edges.0.weight": "weight"},
        [
            "edges.parquet: 'weight' is null, or not a finite number above 0 that float32 can "
            "hold in 5 of 6 rows, first at row 1 ('0.0'); fill in positive numbers, up to 3.4e38",
        ],
    ),
    "weights that float32 cannot hold": (
        {"edges": EDGES | {"weight": [1.0, 1e300, 1e-300, 1.0, 1.0, 1.0]}},
        {"edges.0.weight": "weight"},
        [
            "edges.parquet: 'weight' is null, or not a finite number above 0 that float32 can hold "
            "in 2 of 6 rows"
        ],
    ),
    "weights that are text": (
        {"edges": EDGES | {"weight": ["1"] * 6}},
        {"edges.0.weight": "weight"},
        ["edges.parquet: 'weight' is string, wanted a weight (a number) for data.edges.0.weight"],
    ),
    "times in one table only": (
        {"edges": EDGES | {"day": [1, 2, 3, 4, 5, 6]}},
        {
            "edges": [
                {"path": "edges.parquet", "timestamp": "day"},
                {"path": "edges.parquet"},
            ],
            "pairs": None,
        },
        ["has timestamps for other tables but none for this one"],
    ),
    "pair times of another kind than edge times": (
        {
            "edges": EDGES | {"day": [1, 2, 3, 4, 5, 6]},
            "pairs": PAIRS | {"day": pa.array([1, 2, 3, 4], pa.timestamp("s"))},
        },
        {"edges.0.timestamp": "day", "pairs.split": None, "pairs.timestamp": "day"},
        ["times are timestamps in one and numbers in the other"],
    ),
    "a metadata column with the key's own name": (
        {"items": ITEMS | {"item_key": list("abcdef")}},
        {"items.metadata": ["item_key"]},
        ["'item_key' cannot be a metadata column"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_with_a_message_for(bench, changed, monkeypatch, case):
    tables, settings, wanted = CASES[case]
    monkeypatch.chdir(bench.folder)
    config = changed(bench.six(**tables), settings)
    draft = Draft(bench.folder / "draft")
    with pytest.raises(DataError) as caught:
        ingest(config, draft, num_shards=1, seed=0)
    message = str(caught.value)
    position = 0
    for piece in wanted:
        assert piece in message[position:]
        position = message.index(piece, position) + len(piece)
    assert message.count("\n  - ") == 1, message
    assert not draft.path.exists()


def test_a_column_name_that_stands_for_two_columns_is_refused(bench):
    config = bench.six()
    twice = pa.table(
        [list("abcbde"), list("xxxyyz"), list("uuuvvw")], ["item_id", *["context_id"] * 2]
    )
    pq.write_table(twice, bench.folder / "edges.parquet")
    with pytest.raises(DataError, match="2 columns are called 'context_id', wanted one for data"):
        bench.ingest(config)


def test_more_shards_than_items_are_refused(bench):
    draft = Draft(bench.folder / "draft")
    with pytest.raises(DataError, match=r"graph\.num_shards is 7, but there are only 6 items"):
        ingest(bench.six(), draft, num_shards=7, seed=0)
    assert not draft.path.exists()


@pytest.mark.parametrize(
    ("array", "piece"),
    [
        (np.zeros((5, 2), np.float32), "visual.npy: 5 rows, wanted 6 as in"),
        (np.zeros(6, np.float32), "float32 of shape (6,), wanted floats of shape (items, width)"),
        (np.zeros((6, 2), np.int64), "int64 of shape (6, 2), wanted floats"),
        (
            np.full((6, 2), np.inf, np.float32),
            "visual.npy' holds a null, NaN, infinite or too large number",
        ),
        (np.full((6, 2), None, object), "cannot be read as an .npy file"),
    ],
    ids=["rows", "one axis", "integers", "infinite", "pickled"],
)
def test_an_npy_file_is_refused_for_its(bench, changed, array, piece):
    path = str(bench.folder / "visual.npy")
    np.save(path, array, allow_pickle=True)
    config = changed(bench.six(), {"items.features": [{"name": "visual", "npy": path}]})
    with pytest.raises(DataError) as caught:
        bench.ingest(config)
    assert piece in str(caught.value)


def test_a_file_that_is_not_parquet_is_named(bench, changed):
    path = bench.folder / "edges.csv"
    path.write_text("item_id,context_id\na,x\n")
    with pytest.raises(DataError, match=r"edges\.csv: cannot be read as Parquet"):
        bench.ingest(changed(bench.six(), {"edges.0.path": str(path)}))


def test_all_findings_come_in_one_error(bench, changed):
    config = bench.six(
        items=ITEMS | {"item_id": ["a", "b", "c", "d", "e", "e"], "size": [[NAN, 1.0]] * 6},
        edges=EDGES | {"item_id": ["a", "b", "c", "b", "d", "q"]},
        pairs=PAIRS | {"query_item": ["a", "b", None, "d"], "positive_item": ["a", "c", "a", "b"]},
    )
    with pytest.raises(DataError) as caught:
        bench.ingest(changed(config, {"items.features": [{"name": "size", "column": "size"}]}))
    message = str(caught.value)
    assert "cannot be used: 5 findings" in message
    for piece in ("repeats the key", "NaN", "not in the items table", "is null", "the same item"):
        assert piece in message


def test_the_first_offender_is_found_again_in_its_file_though_rows_were_filtered(bench, changed):
    config = bench.six()
    columns = {"item_id": list("abq"), "context_id": list("xxx"), "stars": [5, 1, 5]}
    bench.write("parts/one.parquet", columns | {"item_id": list("abc")})
    bench.write("parts/two.parquet", columns)
    settings = {
        "edges.0.path": str(bench.folder / "parts"),
        "edges.0.where": [["stars", "=", 5]],
    }
    with pytest.raises(DataError, match=r"in 1 of 4 rows, first at row 2 of .*two\.parquet"):
        bench.ingest(changed(config, settings))


def test_files_that_disagree_on_a_column_type_are_refused(bench, changed):
    config = bench.six()
    bench.write("parts/one.parquet", ITEMS)
    bench.write("parts/two.parquet", ITEMS | {"size": list("abcdef")})
    with pytest.raises(DataError, match="the files disagree"):
        bench.ingest(changed(config, {"items.path": str(bench.folder / "parts")}))


def test_a_column_that_no_file_of_a_folder_has_is_one_finding(bench, changed):
    config = bench.six()
    for number in range(4):
        rows = {"item_id": list("abcdef"), "day": [number] * 6}
        bench.write(f"by/basket={number}/part.parquet", rows)
    folder = {"edges.0.path": str(bench.folder / "by"), "edges.0.context": "basket"}
    with pytest.raises(DataError, match=r"1 finding\n.*and 3 more: no column 'basket'") as caught:
        bench.ingest(changed(config, folder))
    assert "folders' names are not read" in str(caught.value)


def test_items_without_keys_are_the_only_finding(bench, changed):
    path = bench.write("none.parquet", ITEMS | {"item_id": pa.nulls(6)})
    with pytest.raises(DataError, match=r"1 finding\n.*'item_id' .* in 6 of 6 rows"):
        bench.ingest(changed(bench.six(), {"items.path": path}))


def test_a_path_error_says_what_is_in_the_folder(bench, changed):
    config = changed(bench.six(), {"edges.0.path": str(bench.folder / "edgse.parquet")})
    with pytest.raises(DataError, match=r"has: edges\.parquet, items\.parquet, pairs\.parquet"):
        ingest(config, Draft(Path("unused")), num_shards=1, seed=0)

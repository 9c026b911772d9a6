import datetime
import decimal
import json

import pyarrow as pa
import pytest

COLUMNS = {
    "item_id": ["a", "b/c", "d"],
    "title": ["First", None, " \t\u3000"],
    "cover": ["http://x/1.jpg", "", None],
    "price": pa.array([4.34, float("nan"), None], pa.float32()),
    "exact": pa.array([decimal.Decimal("1.50"), None, None], pa.decimal128(5, 2)),
    "day": [datetime.date(2020, 1, 2), None, None],
    "at": [datetime.datetime(2020, 1, 2, 3, 4, 5), None, None],
    "era": pa.array([2**60, None, None], pa.timestamp("us")),
    "tags": [["x", "y"], [], None],
    "shape": [{"w": 1}, {"w": None}, None],
    "raw": [b"\x00\xff", None, None],
}


@pytest.fixture
def catalog(bench, changed):
    config = bench.six(
        items=COLUMNS,
        edges={"item_id": ["a", "d"], "context_id": ["x", "x"]},
        pairs={"query_item": ["a", "d"], "positive_item": ["d", "a"], "split": ["train", "test"]},
    )
    metadata = [name for name in COLUMNS if name not in {"item_id", "title", "cover"}]
    settings = {"items.features": [], "items.image": "cover", "items.metadata": metadata}
    return bench.ingest(changed(config, settings)).catalog()


def test_keys_and_ids_are_found_both_ways(catalog):
    assert catalog.keys == ["a", "b/c", "d"]
    assert [catalog.id_of(key) for key in catalog.keys] == [0, 1, 2]
    assert catalog.id_of("nobody") is None
    assert len(catalog) == 3


def test_a_missing_or_blank_title_is_the_key(catalog):
    assert catalog.titles == ["First", "b/c", "d"]
    assert catalog.title(1) == "b/c"


def test_a_missing_or_empty_image_is_none(catalog):
    assert [catalog.image(item) for item in range(3)] == ["http://x/1.jpg", None, None]


def test_metadata_of_every_type_goes_into_json(catalog):
    assert catalog.metadata(0) == {
        "title": "First",
        "cover": "http://x/1.jpg",
        "price": 4.34,
        "exact": 1.5,
        "day": "2020-01-02",
        "at": "2020-01-02T03:04:05",
        # No year of four digits.
        "era": None,
        "tags": ["x", "y"],
        "shape": {"w": 1},
        "raw": "00ff",
    }
    for item in range(3):
        json.dumps(catalog.metadata(item), allow_nan=False)


@pytest.mark.parametrize("item", [-1, 3])
def test_an_id_of_no_item_is_refused(catalog, item):
    for ask in (catalog.title, catalog.image, catalog.metadata):
        with pytest.raises(ValueError, match="wanted an item id from 0 to 2"):
            ask(item)


def test_without_title_and_image_columns_the_key_stands_in(bench, changed):
    config = changed(bench.six(), {"items.title": None, "items.metadata": ["title"]})
    catalog = bench.ingest(config).catalog()
    assert catalog.title(2) == "c"
    assert catalog.image(2) is None
    assert catalog.metadata(2) == {"title": "Item c"}

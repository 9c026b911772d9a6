"""The bundled books, read by the same ingest as anybody's tables."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pinsage.graph import DataConfig

FOLDER = Path(__file__).parents[2] / "data" / "goodbooks"


@pytest.fixture
def config():
    return DataConfig.model_validate({
        "items": {
            "path": str(FOLDER / "items.parquet"),
            "title": "title",
            "image": "image_url",
            "metadata": ["title", "authors", "year", "image_url"],
            "features": [{"name": "text", "column": "text_features"}],
        },
        "edges": [
            {"path": str(FOLDER / "shelves.parquet")},
            {
                "path": str(FOLDER / "ratings.parquet"),
                "context_prefix": "likes/",
                "where": [["rating", ">=", 4], ["split", "=", "train"]],
            },
        ],
        "pairs": {"path": str(FOLDER / "pairs.parquet"), "split": "split"},
    })


def test_the_books_make_a_graph_of_shelves_and_train_likes(bench, config):
    graph = bench.ingest(config)
    counts = graph.artifact.manifest.counts
    assert counts["items"] == 10_000
    assert counts["contexts"] == 45_985 + 35_401
    assert counts["edges"] == 909_819 + 416_587
    assert counts["pairs"] == {"train": 413_015, "valid": 51_692, "test": 49_679}
    assert counts["feature_groups"] == {"text": 384, "log_degree": 1}
    assert counts["dropped"] == {}
    catalog = graph.catalog()
    assert catalog.title(0) == "The Hunger Games (The Hunger Games, #1)"
    assert str(catalog.image(0)).startswith("https://")
    text = graph.features().gather(np.arange(10_000))[:, graph.feature_columns["text"]]
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=2e-3)


def test_valid_and_test_pairs_are_likes_of_readers_whose_likes_are_not_in_the_graph():
    ratings = pq.read_table(FOLDER / "ratings.parquet")
    likes = ratings.filter(pc.greater_equal(ratings["rating"], 4))
    splits = likes["split"].to_numpy()
    readers = likes["context_id"].to_numpy()
    items = likes["item_id"].to_numpy()
    held_out = splits != "train"
    assert not set(readers[held_out]) & set(readers[~held_out])
    pairs = pq.read_table(FOLDER / "pairs.parquet")
    for split in ("train", "valid", "test"):
        # In a ring, a book is a query, and a positive, once for each reader who likes it and
        # another book: so no pair's book comes more often than it has likes of that split.
        liked = np.bincount(items[splits == split], minlength=10_000)
        for column in ("query_item", "positive_item"):
            paired = pairs[column].to_numpy()[pairs["split"].to_numpy() == split]
            assert (np.bincount(paired, minlength=10_000) <= liked).all()


def test_the_books_are_small_enough_to_be_bundled():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 20_000_000

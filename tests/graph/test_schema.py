from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pinsage.base.config import dump_config
from pinsage.graph import DataConfig
from pinsage.graph.schema import EdgesConfig, PairsConfig

BOOKS = """
items:
  {path: items.parquet, key: item_id, title: title, metadata: [title, year],
   features: [{name: text, column: text_features}, {name: visual, npy: visual.npy}]}
edges:
  - {path: shelves.parquet}
  - {path: ratings.parquet, context_prefix: "likes/",
     where: [[rating, ">=", 4], [split, "in", [train]]]}
pairs: {path: pairs.parquet, split: split}
"""


def test_a_dumped_configuration_reads_back_the_same():
    config = DataConfig.model_validate(yaml.safe_load(BOOKS))
    assert DataConfig.model_validate(yaml.safe_load(dump_config(config))) == config
    assert config.edges[1].where == (("rating", ">=", 4), ("split", "in", ["train"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": []}, "at least 1"),
        ({"pairs": {"path": "p", "split": "s", "timestamp": "t"}}, "not both"),
        ({"split": {"valid": 0.5, "test": 0.5}}, "must be below 1, found 1"),
        ({"split": {"test": 0}}, "test is 0 but valid is 0.1; hold both out, or neither"),
        ({"edges": [{"path": "e", "where": [["a", "like", 1]]}]}, "Input should be"),
        ({"items": {"path": "i", "features": [{"name": "v"}]}}, "exactly one"),
        (
            {"items": {"path": "i", "features": [{"name": "v", "column": "c", "npy": "n"}]}},
            "exactly one",
        ),
        ({"items": {"path": "i", "features": [{"name": "v", "npy": "n"}] * 2}}, "distinct names"),
        ({"items": {"path": "i", "features": [{"name": "log_degree", "npy": "n"}]}}, "taken"),
    ],
)
def test_settings_that_do_not_describe_data_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(yaml.safe_load(BOOKS) | change)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("rating >= 4", r"as in \[\[rating, '>=', 4\]\]"),
        (["rating", ">=", 4], r"as in \[\[rating, '>=', 4\]\]"),
        ([["rating", ">="]], r"as in \[\[rating, '>=', 4\]\]"),
        ([["shelf", "in", "read"]], r"wanted a list behind `in`"),
        ([["rating", "=>", 4]], r"'>='"),
        ([["rating", ["<"], 4]], r"'>='"),
    ],
)
def test_a_filter_in_another_form_is_refused(where: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        EdgesConfig(path="edges.parquet", where=where)
    assert caught.value.error_count() == 1


def test_one_column_cannot_hold_both_keys() -> None:
    with pytest.raises(ValidationError, match=r"found `item` and `context` both 'item_id'"):
        EdgesConfig(path="edges.parquet", context="item_id")
    with pytest.raises(ValidationError, match=r"found `query` and `positive` both 'a'"):
        PairsConfig(path="pairs.parquet", query="a", positive="a")

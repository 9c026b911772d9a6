"""What a recipe says of its tables is refused as a whole, with an example of what is wanted."""

from typing import Any

import pytest
from pydantic import ValidationError

from pinsage.graph.schema import EdgesConfig, PairsConfig


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


def test_filters_are_kept_as_given() -> None:
    where = (("rating", ">=", 4), ("shelf", "not in", ["read", "owned"]))
    assert EdgesConfig(path="edges.parquet", where=where).where == where


def test_one_column_cannot_hold_both_keys() -> None:
    with pytest.raises(ValidationError, match=r"found `item` and `context` both 'item_id'"):
        EdgesConfig(path="edges.parquet", context="item_id")
    with pytest.raises(ValidationError, match=r"found `query` and `positive` both 'a'"):
        PairsConfig(path="pairs.parquet", query="a", positive="a")

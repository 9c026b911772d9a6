import datetime
import json
import operator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.filters import (
    MOST_CONDITIONS,
    MOST_VALUES,
    OPERATORS,
    Condition,
    FilterError,
    Filters,
    read_filter,
)

VALUES: dict[str, st.SearchStrategy] = {
    "year": st.integers(-3, 3) | st.sampled_from([2**62, -(2**62) - 1]),
    "price": st.sampled_from([0.0, -1.5, 2.0, 4.34]),
    "brand": st.sampled_from(["", "a", "b", "\u00e9", "B"]),
    "new": st.booleans(),
    "day": st.dates(datetime.date(2020, 1, 1), datetime.date(2020, 1, 4)),
    "tags": st.lists(st.sampled_from(["x", "y", "z"]), max_size=3),
}
TYPES = {
    "year": pa.int64(), "price": pa.float64(), "brand": pa.dictionary(pa.int8(), pa.string()),
    "new": pa.bool_(), "day": pa.date32(), "tags": pa.list_(pa.string()),
}  # fmt: skip


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()}
    return pa.table(columns)


@st.composite
def conditions_on(draw: st.DrawFn, column: str) -> Any:
    element = st.sampled_from(["x", "y", "q"]) if column == "tags" else VALUES[column]
    if column in {"year", "price"}:
        element |= st.sampled_from([0.5, 1, 2.0, -1])
    written = element.map(lambda v: v.isoformat() if isinstance(v, datetime.date) else v)
    some = st.lists(written, min_size=1, max_size=3)
    orders = {} if column == "tags" else dict.fromkeys(("gt", "gte", "lt", "lte"), written)
    operators = {
        "eq": written, "ne": written, "in": some, "not_in": some, "exists": st.booleans(), **orders,
    }  # fmt: skip
    one_or_two = st.lists(st.sampled_from(sorted(operators)), min_size=1, max_size=2, unique=True)
    as_object = {operator: draw(operators[operator]) for operator in draw(one_or_two)}
    return draw(st.just(as_object) | written | some)


filters = st.lists(st.sampled_from(sorted(TYPES)), max_size=3, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: conditions_on(name) for name in names})
)
rows = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}),
    max_size=12,
)


@given(rows=rows, wanted=filters)
def test_the_mask_of_a_column_agrees_with_judging_every_item_by_itself(
    rows: list[dict], wanted: dict
):
    made = Filters(table_of(rows))
    conditions = made.parse(json.loads(json.dumps(wanted)))
    mask = made.mask(conditions)
    assert mask.tolist() == [all(holds(c, row[c.column]) for c in conditions) for row in rows]
    # Items outside the table are judged as if they were in it.
    outside = [{name: made.value_of(name, as_json(row[name])) for name in row} for row in rows]
    assert made.mask_of(outside, conditions).tolist() == mask.tolist()


def as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date) else value


def holds(condition: Condition, found: Any) -> bool:
    """Whether one item's value meets a condition, by the words of the module."""
    if condition.operator == "exists":
        return condition.exists is (found is not None)
    if found is None:
        return False
    if condition.operator in ORDERS:
        return ORDERS[condition.operator](found, condition.values[0])
    elements = found if isinstance(found, list) else [found]
    is_among = any(element in condition.values for element in elements)
    return is_among is (condition.operator in {"eq", "in"})


ORDERS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


@pytest.fixture(scope="module")
def books() -> Filters:
    return Filters(
        pa.table({
            "year": pa.array([1813, 1925, None, 2008], pa.int16()),
            "rating": pa.array([4.34, 4.0, float("nan"), None], pa.float32()),
            "shelves": pa.array([["a", "b"], [], None, ["b"]], pa.large_list(pa.large_string())),
            "seen": pa.array([0, 10**6, None, 2 * 10**6], pa.timestamp("us")),
            "cover": pa.array([b"1", b"2", b"3", b"4"]),
        })
    )


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ({}, [0, 1, 2, 3]),
        ({"year": {"gte": 1900, "lt": 2008}}, [1]),
        ({"year": [1813, 2008.0, 2.5]}, [0, 3]),
        ({"year": {"ne": 1813}}, [1, 3]),
        ({"year": {"exists": False}}, [2]),
        ({"rating": 4.34}, [0]),
        ({"rating": {"ne": 4.34}}, [1]),
        ({"rating": {"exists": True}, "year": {"gt": 1813}}, [1]),
        ({"rating": {"lt": 1e18}}, [0, 1]),
        ({"shelves": "b"}, [0, 3]),
        ({"shelves": {"not_in": ["a"]}}, [1, 3]),
        ({"seen": {"gte": "1970-01-01T01:00:01+01:00"}}, [1, 3]),
        ({"seen": {"lt": "1970-01-01"}}, []),
    ],
)
def test_a_filter_keeps_the_items_that_meet_every_condition(
    books: Filters, wanted: dict, kept: list[int]
):
    mask = books.mask(books.parse(wanted))
    assert np.flatnonzero(mask).tolist() == kept


@pytest.mark.parametrize(
    ("wanted", "where", "message"),
    [
        ({"yaer": 1}, "yaer", "there are: rating, seen, shelves, year"),
        ({"cover": "1"}, "cover", "binary is shown alone, neither filtered nor put; there are:"),
        ({"year": {"near": 1}}, "year", "'near'"),
        ({"year": {}}, "year", "found none"),
        ({"year": "1900"}, "year.eq", "found a text"),
        ({"year": True}, "year.eq", "found a truth value"),
        ({"year": None}, "year.eq", "found null"),
        ({"year": {"eq": {"a": 1}}}, "year.eq", "found an object"),
        ({"year": {"gt": [1]}}, "year.gt", "found a list"),
        ({"year": {"in": 1}}, "year.in", "wanted a list"),
        ({"year": []}, "year.in", "wanted a list"),
        ({"year": [1] * (MOST_VALUES + 1)}, "year.in", "at most"),
        ({"year": 10**400}, "year.eq", "2^63"),
        ({"year": float("inf")}, "year.eq", "2^63"),
        ({"rating": float("nan")}, "rating.eq", "finite"),
        ({"year": {"exists": 1}}, "year.exists", "true or false"),
        ({"shelves": {"gt": "a"}}, "shelves.gt", "no order"),
        ({"shelves": "\ud800"}, "shelves.eq", "surrogate"),
        ({"seen": "yesterday"}, "seen.eq", "ISO 8601"),
        ({"seen": "0001-01-01T00:00:00+23:59"}, "seen.eq", "years 1 and 9999"),
        ({"seen": 5}, "seen.eq", "an ISO 8601 text"),
        ({"year": dict.fromkeys(OPERATORS, 1)}, "year.in", "wanted a list"),
    ],
)
def test_a_filter_that_cannot_be_used_says_where_and_what_was_wanted(
    books: Filters, wanted: dict, where: str, message: str
):
    with pytest.raises(FilterError) as raised:
        books.parse(wanted)
    assert raised.value.where == where
    assert message in raised.value.message


def test_a_filter_of_too_many_conditions_is_refused():
    names = [f"c{number}" for number in range(MOST_CONDITIONS + 1)]
    wide = Filters(pa.table({name: [1] for name in names}))
    with pytest.raises(FilterError, match="at most"):
        wide.parse(dict.fromkeys(names, 1))


def test_the_same_filter_is_compiled_once(books: Filters):
    wanted = {"year": {"gte": 1900}}
    first = books.mask(books.parse(wanted))
    assert books.mask(books.parse(dict(wanted))) is first
    assert not first.flags.writeable


@pytest.mark.parametrize("text", ["", "[1]", "{", "1", "nul", "[" * 100_000, '{"a": 1, "a": 2}'])
def test_a_filter_in_a_query_string_is_a_json_object(text: str):
    with pytest.raises(FilterError):
        read_filter(text)


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.uint64(), pa.list_(pa.float32())])
def test_a_whole_number_that_a_float_cannot_hold_is_rounded_as_a_fraction_is(kind: pa.DataType):
    is_list = pa.types.is_list(kind)
    values = [[2.0**62], [1.0]] if is_list else pa.array([2**62, 1]).cast(kind, safe=False)
    made = Filters(pa.table({"n": pa.array(values, kind)}))
    for how in ("eq", "in") if is_list else ("eq", "in", "gte"):
        number = 2**62 + 1
        wanted = {"n": {how: [number] if how == "in" else number}}
        assert made.mask(made.parse(wanted)).tolist() == [True, False]


def test_zeros_of_both_signs_are_equal():
    for zero in (-0.0, 0.0, 0):
        made = Filters(pa.table({"n": [0.0, -0.0, 1.0]}))
        assert made.mask(made.parse({"n": zero})).tolist() == [True, True, False]


def test_a_time_with_half_of_a_character_in_it_is_refused():
    made = Filters(pa.table({"at": pa.array([None], pa.timestamp("us"))}))
    # Any character may stand between the date and the time.
    with pytest.raises(FilterError, match="surrogate"):
        made.value_of("at", "2020-01-01\ud80000:00")


@pytest.mark.parametrize(
    "column",
    [
        pa.chunked_array([["a", "b"], [None]]),
        pa.chunked_array([["a", "b"], [None]]).dictionary_encode(),
        pa.chunked_array([[["c", "a"], ["b"]], [None]]),
    ],
    ids=["plain", "coded", "lists"],
)
def test_text_is_kept_in_a_type_that_can_hold_more_than_2_gib(column: pa.ChunkedArray):
    made = Filters(pa.table({"notes": column}))
    kind = made.columns["notes"]
    assert kind in {"large_string", "list<item: large_string>"}
    assert made.mask(made.parse({"notes": "a"})).tolist() == [True, False, False]
    assert made.mask(made.parse({"notes": {"exists": False}})).tolist() == [False, False, True]
    with pytest.raises(FilterError, match="wanted string, found a number"):
        made.parse({"notes": 1})

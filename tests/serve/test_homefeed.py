from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient

from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from serve.homefeed import recent_items
from tests.serve.fakes import KEYS, NUM_ITEMS, ring_neighbors


@pytest.fixture(scope="module")
def client(generation: Generation) -> Iterator[TestClient]:
    with TestClient(build_api(generation, ServeConfig())) as opened:
        yield opened


def ask(client: TestClient, *keys: str, **further: object) -> dict:
    body = {"recent": [{"key": key} for key in keys], **further}
    reply = client.post("/v1/homefeed", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def keys_of(feed: dict) -> list[str]:
    return [item["key"] for item in feed["items"]]


def test_two_interests_share_the_list_and_say_what_each_item_is_for(client: TestClient):
    # Two places on the ring of embeddings, opposite to each other.
    feed = ask(client, KEYS[5], KEYS[24], KEYS[6], k=4)
    assert [set(interest["item_keys"]) for interest in feed["interests"]] == [
        {KEYS[5], KEYS[6]},
        {KEYS[24]},
    ]
    assert [round(interest["weight"], 3) for interest in feed["interests"]] == [0.667, 0.333]
    by_interest = {item["key"]: item["interest"] for item in feed["items"]}
    assert set(by_interest) & ring_neighbors(24, 1)
    assert all(by_interest[key] == KEYS[24] for key in set(by_interest) & ring_neighbors(24, 1))
    assert len(by_interest) == 4


def test_no_recent_or_excluded_item_is_recommended_and_none_twice(client: TestClient):
    recent = [KEYS[place] for place in (0, 1, 2, 20)]
    feed = ask(client, *recent, k=100, exclude=[KEYS[3], "no such key"])
    found = keys_of(feed)
    assert len(set(found)) == len(found) == NUM_ITEMS - 5
    assert not set(found) & {*recent, KEYS[3]}


def test_with_one_interest_the_last_item_alone_counts(client: TestClient):
    feed = ask(client, KEYS[5], KEYS[24], k=2, max_interests=1)
    assert set(keys_of(feed)) == ring_neighbors(24, 1)
    newest = [{"key": KEYS[24], "timestamp": 5}, {"key": KEYS[5], "timestamp": 9}]
    reply = client.post("/v1/homefeed", json={"recent": newest[::-1], "k": 2, "max_interests": 1})
    assert set(keys_of(reply.json())) == ring_neighbors(5, 1)


def test_a_filter_holds_for_every_recommendation(client: TestClient):
    feed = ask(client, KEYS[5], KEYS[24], filter={"year": {"lt": 1803}}, k=10)
    assert set(keys_of(feed)) == set(KEYS[:3])


def test_unknown_items_are_left_out_and_named_unless_all_are(client: TestClient):
    feed = ask(client, "gone", KEYS[5], "gone", k=2)
    assert feed["unknown_keys"] == ["gone"]
    assert set(keys_of(feed)) == ring_neighbors(5, 1)
    reply = client.post("/v1/homefeed", json={"recent": [{"key": "x"}, {"key": "y"}]})
    assert (reply.status_code, reply.json()["item_keys"]) == (404, ["x", "y"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"recent": []},
        {"recent": [{"key": KEYS[0], "weight": 0}]},
        {"recent": [{"key": KEYS[0], "weight": -1}]},
        {"recent": [{"key": KEYS[0]}], "k": 501},
        {"recent": [{"key": KEYS[0]}], "max_interests": 0},
        {"recent": [{"key": KEYS[0]}], "filter": {"x": 1}},
        {"recent": [{"key": KEYS[0], "timestamp": 1}, {"key": KEYS[1]}]},
        {"recent": [{"key": KEYS[0]}], "half_life_s": 0},
        {"recent": [{"key": KEYS[0]}] * 201},
    ],
)
def test_a_request_that_cannot_be_used_is_a_422(client: TestClient, body: dict):
    reply = client.post("/v1/homefeed", json=body)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")


def test_older_items_count_less_by_their_half_life_and_the_last_mention_counts():
    recent = recent_items([7, 8, 7, 9], [1, 1, 2, 4], [0.0, 100.0, 200.0, 100.0], 100.0)
    assert recent.ids.tolist() == [8, 9, 7]
    assert recent.weights.tolist() == [0.5, 2.0, 2.0]
    assert recent_items([7, 8, 7], [1, 2, 3], None, 10.0).ids.tolist() == [8, 7]
    ancient = recent_items([1, 2], [1, 1], [-1e12, 1e12], 1.0)
    assert np.all(ancient.weights > 0)

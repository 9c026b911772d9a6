from collections.abc import Iterator
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient

from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from serve.live_items import Items
from serve.why import MOST_SHOWN, ContextKeys, Evidence
from tests.serve.fakes import COLD, KEYS, NUM_CONTEXTS, NUM_ITEMS, WALK_STEPS, WALK_WEIGHTS


@pytest.fixture(scope="module")
def evidence(generation: Generation) -> Evidence:
    return Evidence(generation.graph, generation.neighborhoods, Items(generation.catalog))


@pytest.fixture(scope="module")
def client(generation: Generation) -> Iterator[TestClient]:
    with TestClient(build_api(generation, ServeConfig())) as opened:
        yield opened


def test_shared_contexts_are_counted_and_the_smallest_come_first(evidence: Evidence):
    # Item v is in the contexts 0 to NUM_ITEMS - 2 - v, so context c holds as many items.
    ties = evidence.ties(3, 8)
    assert ties.num_shared == NUM_ITEMS - 1 - 8
    assert [shared.num_items for shared in ties.shared] == list(range(9, 9 + MOST_SHOWN))
    assert ties.shared[0].key == f"shelf-{NUM_ITEMS - 2 - 8}"


@pytest.mark.parametrize(
    ("step", "rank", "weight"), [*zip(WALK_STEPS, (1, 2, 3), WALK_WEIGHTS, strict=True)]
)
def test_a_neighbor_is_told_with_its_rank_and_weight(
    evidence: Evidence, step: int, rank: int, weight: float
):
    ties = evidence.ties(4, 4 + step)
    assert ties.neighbor is not None
    assert (ties.neighbor.rank, ties.neighbor.weight) == (rank, weight)
    assert ties.reverse is None
    assert evidence.ties(4 + step, 4).reverse == ties.neighbor


def test_common_neighbors_overlap_by_their_smaller_weights(evidence: Evidence):
    # 4 has 5, 6 and 11; 5 has 6, 7 and 12.
    ties = evidence.ties(4, 5)
    (common,) = ties.common
    assert (common.item_id, common.weight, common.other_weight) == (6, 0.25, 0.5)
    assert (ties.num_common, ties.overlap) == (1, 0.25)


def test_a_cold_item_is_tied_to_nothing(evidence: Evidence):
    ties = evidence.ties(COLD, 0)
    assert (ties.num_shared, ties.num_common, ties.overlap) == (0, 0, 0)
    assert ties.neighbor is None


def test_context_keys_are_found_in_every_piece_of_the_file(generation: Generation):
    ids = np.array([0, 9, 10, NUM_CONTEXTS - 1, 3], dtype=np.int64)
    assert ContextKeys(generation.graph).keys(ids) == [f"shelf-{context}" for context in ids]


def test_why_is_asked_for_by_any_two_keys(client: TestClient):
    for key in ("a/b", "a%2Fb", "?q=1&k=#x"):
        reply = client.get(f"/v1/items/{quote(key, safe='')}/why/{quote(KEYS[0], safe='')}")
        assert (reply.json()["item"]["key"], reply.json()["other"]["key"]) == (key, KEYS[0])


def test_why_gives_the_scores_of_every_method_that_can_say(client: TestClient):
    scores = client.get(f"/v1/items/{KEYS[1]}/why/{KEYS[2]}").json()["scores"]
    assert scores["pinsage"] == pytest.approx(np.cos(2 * np.pi / NUM_ITEMS), abs=1e-6)
    assert scores["walk"] == 0.5
    cold = client.get(f"/v1/items/{KEYS[1]}/why/{quote(KEYS[COLD])}").json()["scores"]
    assert set(cold) == {"pinsage", "walk"}


def test_why_of_one_item_or_an_unknown_one_is_a_problem(client: TestClient):
    same = client.get(f"/v1/items/{KEYS[1]}/why/{KEYS[1]}")
    assert (same.status_code, same.json()["code"]) == (422, "invalid_request")
    unknown = client.get(f"/v1/items/x/why/{KEYS[1]}")
    assert (unknown.status_code, unknown.json()["item_keys"]) == (404, ["x"])


# Filters and exclusions on similar


def keys_of(reply) -> list[str]:
    assert reply.status_code == 200, reply.text
    return [item["key"] for item in reply.json()["items"]]


@pytest.mark.parametrize("method", ["pinsage", "text", "walk"])
def test_a_filter_and_exclusions_hold_in_every_method(client: TestClient, method: str):
    path = f"/v1/items/{KEYS[0]}/similar"
    query = {"method": method, "k": 20}
    everything = keys_of(client.get(path, params=query))
    filtered = keys_of(client.get(path, params={**query, "filter": '{"year": {"gte": 1802}}'}))
    wanted = [key for key in everything if KEYS.index(key) >= 2]
    assert filtered[: len(wanted)] == wanted
    assert all(KEYS.index(key) >= 2 for key in filtered)
    banned = everything[:2]
    left = keys_of(client.get(path, params={**query, "exclude": [*banned, "no such key"]}))
    assert left[: len(everything) - 2] == everything[2:]
    body = {"item_keys": [KEYS[0]], "k": 20, "method": method, "filter": {"year": 1807}}
    (result,) = client.post("/v1/similar", json=body).json()["results"]
    assert {item["key"] for item in result["items"]} <= {KEYS[7]}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{", "query.filter"),
        ("[]", "query.filter"),
        ('{"yaer": 1}', "query.filter.yaer"),
        ('{"year": {"gte": "x"}}', "query.filter.year.gte"),
    ],
)
def test_a_bad_filter_is_a_422_that_says_where(client: TestClient, text: str, where: str):
    reply = client.get(f"/v1/items/{KEYS[0]}/similar", params={"filter": text})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["where"] == where

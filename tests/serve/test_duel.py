"""The head-to-head calls, and the map's, over HTTP."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import orjson
import pytest
from fastapi.testclient import TestClient

from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.duel import ask as draw
from serve.generation import Generation
from tests.serve.fakes import COLD, KEYS, WALK_STEPS, write_generation


@pytest.fixture
def client(generation: Generation, tmp_path: Path) -> Iterator[TestClient]:
    config = ServeConfig(votes=tmp_path / "votes", duel_items=2)
    with TestClient(build_api(generation, config)) as opened:
        yield opened


def code_of(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["code"]


def ask(client: TestClient, **params: str) -> dict:
    reply = client.get("/v1/duel", params=params)
    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "no-store"
    return reply.json()


def vote(client: TestClient, duel: str, choice: str, voter: str = ""):
    body = {"duel": duel, "choice": choice, "voter": voter}
    return client.post("/v1/duel/votes", json=body)


def test_a_question_shows_two_different_answers_and_nothing_that_tells_them_apart(client):
    for _ in range(10):
        question = ask(client)
        left, right = question["left"], question["right"]
        assert [item["key"] for item in left] != [item["key"] for item in right]
        assert 1 <= len(left) <= 2
        assert all(set(item) == {"key", "title", "image", "metadata"} for item in left + right)


def test_a_vote_tells_which_method_stood_where_and_the_sides_are_even(client):
    sides = Counter()
    for _ in range(60):
        question = ask(client, method="walk", rival="pinsage", item_key=KEYS[5])
        told = vote(client, question["duel"], "equal").json()
        answers = {told["left"]: question["left"], told["right"]: question["right"]}
        assert [item["key"] for item in answers["walk"]] == [KEYS[5 + s] for s in WALK_STEPS[:2]]
        sides[told["left"]] += 1
    # Outside of 12 to 48 of 60 once in a million times.
    assert set(sides) == {"walk", "pinsage"}
    assert min(sides.values()) >= 12


def test_votes_add_up_by_pair_with_wilson_s_interval(client):
    for _ in range(4):
        question = ask(client, method="pinsage", rival="text")
        # Whoever knows the answers can tell the sides; a vote for ours each time.
        query = quote(question["query"]["key"], safe="")
        ours = client.get(f"/v1/items/{query}/similar?k=2").json()["items"]
        is_left = [item["key"] for item in question["left"]] == [item["key"] for item in ours]
        told = vote(client, question["duel"], "left" if is_left else "right").json()
        assert told["left" if is_left else "right"] == "pinsage"
    tally = client.get("/v1/duel/votes").json()
    (pair,) = tally["pairs"]
    assert (pair["method"], pair["rival"], pair["wins"], pair["losses"]) == (
        "pinsage", "text", 4, 0,
    )  # fmt: skip
    assert pair["win_fraction"] == 1
    assert pair["interval"] == pytest.approx([0.5101, 1], abs=1e-4)
    assert tally["votes"] == 4


def test_the_same_vote_twice_counts_once_and_a_changed_mind_is_refused(client):
    duel = ask(client)["duel"]
    assert vote(client, duel, "left").json()["is_new"]
    assert not vote(client, duel, "left").json()["is_new"]
    assert code_of(vote(client, duel, "right")) == (409, "duplicate_vote")
    assert client.get("/v1/duel/votes").json()["votes"] == 1


def test_bad_votes_are_refused_and_not_counted(client):
    duel = ask(client)["duel"]
    text, _, mac = duel.partition(".")
    flipped = text[:-1] + ("A" if text[-1] != "A" else "B")
    for forged in (
        text,
        f"{flipped}.{mac}",
        f"{text}.{mac[:-2]}",
        f"{text}.",
        ".",
        "\u00fc.\u00fc",
        "a b.c",
    ):
        assert code_of(vote(client, forged, "left")) == (422, "invalid_request")
    for choice in ("both", "", None, 1):
        assert code_of(vote(client, duel, choice)) == (422, "invalid_request")
    assert code_of(vote(client, duel, "left", voter="a b")) == (422, "invalid_request")
    assert client.get("/v1/duel/votes").json()["votes"] == 0


def test_unknown_methods_and_items_and_equal_pairs_are_refused(client):
    for params in ({"method": "nope"}, {"method": "text", "rival": "text"}):
        assert code_of(client.get("/v1/duel", params=params)) == (422, "invalid_request")
    assert code_of(client.get("/v1/duel", params={"item_key": "nope"})) == (404, "unknown_item")
    # Only embeddings know anything of the cold item.
    cold = client.get("/v1/duel", params={"item_key": KEYS[COLD]})
    assert code_of(cold) == (404, "nothing_to_compare")


def test_a_folder_that_cannot_be_written_is_a_problem_not_a_crash(generation, tmp_path):
    (tmp_path / "votes").write_text("a file")
    with TestClient(build_api(generation, ServeConfig(votes=tmp_path / "votes"))) as client:
        assert code_of(client.get("/v1/duel")) == (503, "votes_unavailable")


def test_the_map_has_the_keys_of_its_items(client):
    points = client.get("/v1/map").json()["points"]
    assert [point["key"] for point in points[:2]] == KEYS[:2]
    assert points[0]["near"] == [1, 2]


def test_a_generation_without_a_report_has_no_map(tmp_path):
    bare = Generation.open(write_generation(tmp_path, with_report=False))
    with TestClient(build_api(bare, ServeConfig())) as client:
        assert code_of(client.get("/v1/map")) == (404, "no_map")


class OneDiffers:
    """Methods of which one rival alone answers otherwise than ours."""

    digest = "g"
    methods = tuple(SimpleNamespace(name=name) for name in ("pinsage", *"abcdefgh"))

    def similar(self, keys, num_items, method):
        answer = {"key": "other" if method == "h" else "same", "score": 1.0}
        return [orjson.dumps({"query": {"key": keys[0]}, "items": [answer]})]


def test_the_one_rival_that_answers_otherwise_is_always_found():
    for _ in range(100):
        found = draw(OneDiffers(), b"secret", num_items=1, query="book-1")
        assert set(found.question.methods) == {"pinsage", "h"}

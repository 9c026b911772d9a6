"""What is written while serving, across switches and the ways back."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pinsage.cluster.run_config import ServeConfig
from serve.answers import Answers
from serve.generation import Generation
from serve.generations import find, newest_digest
from serve.schemas_items import PutReply, PutRequest
from tests.serve.fakes import KEYS, title_of, write_further, write_generation
from tests.serve.replica import Server


def test_what_is_written_outlasts_a_switch_and_the_way_back_and_is_embedded_anew(tmp_path: Path):
    write_generation(tmp_path, with_model=True)
    first = newest_digest(tmp_path)
    server, other = Server(tmp_path), Server(tmp_path)
    second = write_further(tmp_path, 3, with_model=True)
    new = {"title": "Villette", "features": {"text": [0.6, 0.8]}, "contexts": ["shelf-3"]}
    assert server.client.put("/v1/items/new", json=new).status_code == 200
    assert server.client.delete(f"/v1/items/{KEYS[2]}").json()["was_there"]
    near = {first: server.near("new")}

    assert server.ask(generation=second) == (200, "served")
    near[second] = server.near("new")
    assert server.client.put("/v1/items/late", json=new).status_code == 200
    assert server.near("late") == near[second]
    assert near[first] != near[second]
    for _ in range(2):
        other.switcher.follow()
        other.writes.catch_up()
        for one in (server, other):
            assert one.near("new") == one.near("late") == near[one.served]
            assert KEYS[2] not in dict(near[one.served])
            assert one.client.get(f"/v1/items/{KEYS[2]}").status_code == 404
            assert one.client.get("/v1/search?q=villette").json()["items"][0]["key"] == "new"
        server.ask(previous=True)


def test_a_generation_that_was_kept_open_is_as_one_that_is_opened_anew(tmp_path: Path):
    write_generation(tmp_path, with_model=True)
    server = Server(tmp_path)
    second = write_further(tmp_path, 3, with_model=True)
    gone, changed = (f"/v1/items/{KEYS[place]}" for place in (2, 3))
    server.client.delete(gone)
    server.client.delete(changed)
    server.ask(generation=second)
    assert server.client.get(gone).status_code == 404
    server.ask(previous=True)
    assert server.client.put(changed, json={"title": "Changed"}).status_code == 200
    assert server.client.get(changed).json()["title"] == "Changed"
    # The second one's graph has the key, and is read from tables that may have the change.
    read_later(tmp_path, second)
    server.ask(generation=second)
    anew = Server(tmp_path)
    assert anew.served == server.served == second
    for address in (gone, changed, f"{changed}/similar?k=100", "/v1/items?limit=100"):
        assert server.client.get(address).content == anew.client.get(address).content
    assert server.client.get(changed).json()["title"] == title_of(3)


def test_a_put_counts_on_generations_that_were_made_before_it(tmp_path: Path):
    write_generation(tmp_path, with_model=True)
    first = newest_digest(tmp_path)
    server, lagging = Server(tmp_path), Server(tmp_path)
    second = write_further(tmp_path, 3, with_model=True)
    addresses = [f"/v1/items/{KEYS[place]}" for place in (3, 4, 5)]
    assert server.client.put(addresses[0], json={"title": "Changed"}).status_code == 200
    server.ask(generation=second)
    assert server.client.put(addresses[1], json={"title": "Changed"}).status_code == 200
    # One that still serves the first.
    reply = lagging.client.put(addresses[2], json={"title": "Changed"})
    assert reply.headers["x-pinsage-generation"] == first
    for _ in range(2):
        for one in (server, lagging):
            one.switcher.follow()
            one.writes.catch_up()
            titles = [one.client.get(address).json()["title"] for address in addresses]
            assert titles == ["Changed"] * 3
        server.ask(previous=True)
    third = write_further(tmp_path, 4, with_model=True)
    read_later(tmp_path, third)
    server.ask(generation=third)
    titles = [server.client.get(address).json()["title"] for address in addresses]
    assert titles == [title_of(place) for place in (3, 4, 5)]


def test_a_put_names_the_generation_that_it_was_put_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_generation(tmp_path, with_model=True)
    server = Server(tmp_path)
    second = write_further(tmp_path, 3, with_model=True)
    began, asked, swapped = threading.Event(), threading.Event(), threading.Event()
    put_item = server.writes.put

    def hold(answers: Answers) -> Answers:
        began.set()
        swapped.wait(60)
        return Answers(Generation.open(find(tmp_path, second).path), ServeConfig())

    def put_on_what_comes(key: str, request: PutRequest) -> tuple[PutReply, Answers]:
        asked.set()
        return put_item(key, request)

    monkeypatch.setattr(server.writes, "put", put_on_what_comes)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(server.writes._current.replace, hold)
        began.wait(60)
        put = pool.submit(server.client.put, "/v1/items/new", json={"title": "Villette"})
        assert asked.wait(60)
        swapped.set()
        reply = put.result()
    assert reply.status_code == 200
    assert reply.headers["x-pinsage-generation"] == second


def read_later(output: Path, digest: str) -> None:
    """Make a generation's graph one that was read from its tables after all that was put."""
    items = find(output, digest).directory("graph") / "items.parquet"
    os.utime(items, (time.time() + 60, time.time() + 60))


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_an_item_that_overflows_the_next_model_is_left_out_alone(tmp_path: Path):
    write_generation(tmp_path, with_model=True)
    server = Server(tmp_path)
    huge = {"features": {"text": [1e11, -1e11]}}
    for key, item in (("huge", huge), ("cold", {"features": {"text": [0.6, 0.8]}})):
        assert server.client.put(f"/v1/items/{key}", json=item).status_code == 200
    second = write_further(tmp_path, 8, with_model=True, deviation=1e-3)
    assert server.ask(generation=second) == (200, "served")
    assert server.client.get("/v1/items/huge").status_code == 404
    assert server.client.get("/v1/items/cold/similar").json()["items"]
    server.ask(previous=True)
    assert server.client.get("/v1/items/huge").status_code == 200


def test_an_item_that_does_not_fit_a_generation_can_be_deleted_for_the_way_back(tmp_path: Path):
    write_generation(tmp_path, with_model=True)
    server = Server(tmp_path)
    new = {"features": {"text": [0.6, 0.8]}}
    assert server.client.put("/v1/items/new", json=new).status_code == 200
    second = write_further(tmp_path, 3, group="words", with_model=True)
    server.ask(generation=second)
    for _ in range(2):
        assert not server.client.delete("/v1/items/new").json()["was_there"]
    server.ask(previous=True)
    assert server.client.get("/v1/items/new").status_code == 404

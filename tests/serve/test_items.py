"""Items put and deleted over HTTP."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from pinsage.cluster.run_config import ServeConfig
from pinsage.graph import Catalog
from serve.answers import Answers
from serve.api import build_api
from serve.generation import Generation
from serve.log import LOG_FILE, WriteLog
from tests.serve.fakes import KEYS, title_of, write_generation
from tests.waiting import wait_until

ITEM = {
    "title": "Vilette",
    "metadata": {"authors": "Charlotte Bront\u00eb", "year": 1853},
    "features": {"text": [0.6, 0.8]},
    "contexts": ["shelf-3", "attic"],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_generation(tmp_path / "run", with_model=True)


def open_client(path: Path, **settings: Any) -> TestClient:
    return TestClient(build_api(Generation.open(path), ServeConfig(**settings)))


@pytest.fixture
def client(path: Path) -> TestClient:
    return open_client(path)


def test_a_put_item_is_found_everywhere_and_outlasts_a_restart(client: TestClient, path: Path):
    told = client.put("/v1/items/a%2Fvilette", json=ITEM)
    assert told.status_code == 200, told.text
    assert told.json()["is_new"]
    assert told.json()["unknown_contexts"] == ["attic"]
    for served in (client, open_client(path)):
        item = served.get("/v1/items/a%2Fvilette").json()
        assert item == told.json()["item"]
        assert item["metadata"] == ITEM["metadata"]
        found = served.get("/v1/search", params={"q": "vilett"}).json()["items"]
        assert [one["key"] for one in found] == ["a/vilette"]
        near = served.get("/v1/items/a%2Fvilette/similar?k=3").json()["items"]
        back = served.get(f"/v1/items/{near[0]['key']}/similar?k=36").json()["items"]
        assert "a/vilette" in {one["key"] for one in back}


def test_a_deleted_item_is_unknown_and_deleting_again_changes_nothing(
    client: TestClient, path: Path
):
    assert client.delete(f"/v1/items/{KEYS[3]}").json() == {"key": KEYS[3], "was_there": True}
    size = (path.parent / "writes" / LOG_FILE).stat().st_size
    assert not client.delete(f"/v1/items/{KEYS[3]}").json()["was_there"]
    assert (path.parent / "writes" / LOG_FILE).stat().st_size == size
    for tail in ("", "/similar", f"/why/{KEYS[1]}"):
        reply = client.get(f"/v1/items/{KEYS[3]}{tail}")
        assert (reply.status_code, reply.json()["code"]) == (404, "unknown_item")
    assert client.put(f"/v1/items/{KEYS[3]}", json={}).json()["is_new"]
    assert client.get(f"/v1/items/{KEYS[3]}").json() == {
        "key": KEYS[3], "title": KEYS[3], "image": None, "metadata": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "body", "told"),
    [
        ("new", {"features": {"text": [1]}}, "wanted 2 numbers"),
        ("new", {"features": {"text": [1, 1e39]}}, "finite"),
        ("new", {"metadata": {"yaer": 1}}, "there are: authors"),
        ("new", {"metadata": {"year": 1.5}}, "whole number"),
        ("new", {"metadata": {"year": "1853"}}, "metadata.year"),
        ("new", {"metadata": {"title": "x"}}, "as `title`"),
        ("new", {"metadata": {"item_key": "x"}}, "in the path"),
        ("new", {"image": "javascript:alert(1)"}, "image"),
        ("new", {"image": "data:text/html,x"}, "image"),
        ("new", {"image": "covers/a\nb.jpg"}, "image"),
        ("new", {"titel": "x"}, "titel"),
        ("new", {"metadata": {"year": 2**70}}, "between -2^63 and 2^63"),
        ("new", {"metadata": {"year": 10**400}}, "64 bits"),
        ("%0a", {}, "control"),
        ("%2E", {}, "stays in an address"),
        ("%2E%2E", {}, "stays in an address"),
        ("caf%E9", {}, "UTF-8"),
        ("x" * 501, {}, "500 characters"),
        ("", {}, "500 characters"),
    ],
)
def test_what_cannot_be_an_item_is_refused_and_nothing_is_kept(
    client: TestClient, path: Path, key: str, body: dict[str, Any], told: str
):
    reply = client.put(f"/v1/items/{key}", json=body)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert told in reply.json()["detail"]
    assert not (path.parent / "writes" / LOG_FILE).exists()


@pytest.mark.parametrize("number", [2**70, 2**70 + 1, -(2**63) - 1, 2**64])
def test_a_whole_number_of_more_than_64_bits_is_kept_as_a_float(tmp_path: Path, number: int):
    columns = {
        "rating": pa.array([1.5] * len(KEYS)),
        "hash": pa.array([1] * len(KEYS), pa.uint64()),
        "ratings": pa.array([[1.5]] * len(KEYS)),
    }
    path = write_generation(tmp_path, with_model=True, columns=columns)
    client = open_client(path)
    wanted = {"rating": float(number), "hash": float(number), "ratings": [float(number), 1.0]}
    put = {"metadata": {"rating": number, "hash": number, "ratings": [number, 1]}}
    reply = client.put("/v1/items/new", json=put)
    assert (reply.status_code, reply.json()["item"]["metadata"]) == (200, wanted)
    for served in (client, open_client(path)):
        assert served.get("/v1/items/new").json()["metadata"] == wanted
        told = served.get("/v1/items/new/description").json()
        assert served.put("/v1/items/new", json=told).json()["item"]["metadata"] == wanted


def test_a_number_that_its_column_of_32_bits_cannot_hold_is_refused(tmp_path: Path):
    columns = {"rating": pa.array([1.5] * len(KEYS), pa.float32())}
    client = open_client(write_generation(tmp_path, with_model=True, columns=columns))
    reply = client.put("/v1/items/new", json={"metadata": {"rating": 1e300}})
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert "32 bits can hold, found 1e+300" in reply.json()["detail"]
    below = {"item_keys": [KEYS[0]], "k": 100, "filter": {"rating": {"lt": 1e300}}}
    (found,) = client.post("/v1/similar", json=below).json()["results"]
    assert found["items"]


def test_an_item_that_the_model_cannot_calculate_with_is_refused_and_nothing_is_kept(
    tmp_path: Path,
):
    path = write_generation(tmp_path, with_model=True, deviation=1e-3)
    client = open_client(path)
    huge = {"features": {"text": [3e38, -3e38]}}
    for reply in (client.put("/v1/items/new", json=huge), client.post("/v1/embed", json=huge)):
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
        assert "smaller numbers" in reply.json()["detail"]
    assert not (tmp_path / "writes" / LOG_FILE).exists()
    assert client.put("/v1/items/new", json=ITEM).status_code == 200


def test_a_server_that_takes_no_writes_says_so_and_follows_those_of_others(path: Path):
    other = open_client(path)
    with open_client(path, read_only=True) as closed:
        for reply in (
            closed.put("/v1/items/new", json=ITEM),
            closed.delete(f"/v1/items/{KEYS[0]}"),
        ):
            assert (reply.status_code, reply.json()["code"]) == (403, "read_only")
        other.put("/v1/items/new", json=ITEM)
        closed.app.state.writes.catch_up()
        assert closed.get("/v1/items/new").json()["title"] == ITEM["title"]


def test_where_nothing_can_be_kept_nothing_is_put(path: Path):
    (path.parent / "writes").write_text("no folder")
    client = open_client(path)
    reply = client.put("/v1/items/new", json=ITEM)
    assert (reply.status_code, reply.json()["code"]) == (503, "writes_unavailable")
    assert client.get("/v1/items/new").status_code == 404


def test_a_full_disk_keeps_no_server_from_starting(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("serve.live._COMPACTED_FROM", 1)
    client = open_client(path)
    for title in ("One", "Two"):
        client.put("/v1/items/new", json={"title": title})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("serve.log._publish", full)
    anew = open_client(path)
    client.put("/v1/items/late", json=ITEM)
    anew.app.state.writes.catch_up()
    assert anew.get("/v1/items/new").json()["title"] == "Two"
    assert anew.get("/v1/items/late").status_code == 200


def test_a_put_to_a_generation_without_a_model_is_a_problem(tmp_path: Path):
    client = open_client(write_generation(tmp_path))
    reply = client.put("/v1/items/new", json={})
    assert (reply.status_code, reply.json()["code"]) == (409, "no_model")
    assert client.delete(f"/v1/items/{KEYS[0]}").json()["was_there"]


@pytest.mark.parametrize("key", [KEYS[2], "a/vilette"])
def test_a_description_is_what_was_put_and_putting_it_again_changes_nothing(
    client: TestClient, key: str
):
    client.put("/v1/items/a%2Fvilette", json=ITEM)
    path = f"/v1/items/{key.replace('/', '%2F')}"
    told = client.get(f"{path}/description").json()
    before = client.get(path).json()
    if key == "a/vilette":
        assert told["features"]["text"] == pytest.approx(ITEM["features"]["text"])
        assert {name: told[name] for name in ITEM if name != "features"} == {
            name: value for name, value in ITEM.items() if name != "features"
        }
    else:
        assert told["contexts"]
        assert any(told["features"]["text"])
    assert client.put(path, json=told).status_code == 200
    assert client.get(path).json() == before
    assert client.get(f"{path}/description").json() == told


def test_metadata_that_is_as_the_title_is_told_and_the_title_s_own_column_is_not(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    published = Catalog.metadata

    def with_title(self: Catalog, item_id: int) -> dict[str, object]:
        return {**published(self, item_id), "authors": self.title(item_id), "blob": {"x": 1}}

    monkeypatch.setattr(Catalog, "metadata", with_title)
    for key, title in (("new", "Emma"), (KEYS[2], title_of(2))):
        if key == "new":
            item = ITEM | {"title": title, "metadata": {"authors": title}}
            client.put("/v1/items/new", json=item)
        told = client.get(f"/v1/items/{key}/description").json()
        assert told["title"] == told["metadata"]["authors"] == title
        answered = client.get(f"/v1/items/{key}").json()["metadata"]
        assert (answered["authors"], "title" in answered) == (title, False)
        assert client.put(f"/v1/items/{key}", json=told).status_code == 200
        query = {"item_keys": [KEYS[0]], "k": 100, "filter": {"authors": title}}
        (reply,) = client.post("/v1/similar", json=query).json()["results"]
        assert key in {item["key"] for item in reply["items"]}


def test_an_item_of_which_nothing_is_known_is_related_to_nothing(client: TestClient):
    assert client.put("/v1/items/new", json={"title": "Blank"}).status_code == 200
    assert client.put("/v1/items/late", json={"contexts": []}).status_code == 200
    assert client.get("/v1/search?q=blank").json()["items"][0]["key"] == "new"
    assert client.get("/v1/items/new/similar").json()["items"] == []
    feed = client.post("/v1/homefeed", json={"recent": [{"key": "new"}, {"key": "late"}]})
    assert (feed.status_code, feed.json()["items"]) == (200, [])
    query = {"item_keys": [KEYS[0], "late"], "k": 100}
    replies = client.post("/v1/similar", json=query).json()["results"]
    assert not {"new", "late"} & {item["key"] for item in replies[0]["items"]}
    assert replies[1]["items"] == []


def test_a_filter_on_the_key_judges_written_items_too(client: TestClient):
    client.put("/v1/items/new", json=ITEM)
    client.put(f"/v1/items/{KEYS[3]}", json=ITEM)
    wanted = ["new", KEYS[3], KEYS[4]]
    query = {"item_keys": [KEYS[0]], "k": 100, "filter": {"item_key": wanted}}
    (reply,) = client.post("/v1/similar", json=query).json()["results"]
    assert sorted(item["key"] for item in reply["items"]) == sorted(wanted)


def test_an_unknown_item_has_no_description(client: TestClient):
    assert client.get("/v1/items/nowhere/description").json()["code"] == "unknown_item"


@pytest.mark.parametrize(
    "image", ["covers/\u00fc-{}.jpg", "covers/part {}.jpg", "data:image/png;base64,AAA{}="]
)
def test_what_is_published_of_any_catalog_can_be_put_again(tmp_path: Path, image: str):
    columns = {
        "tags": pa.array([["a", None]] * len(KEYS)),
        "hash": pa.array([2**63 + 5] * len(KEYS), pa.uint64()),
    }
    path = write_generation(tmp_path, with_model=True, image=image, columns=columns)
    client = open_client(path)
    item = f"/v1/items/{KEYS[2]}"
    told, before = client.get(f"{item}/description").json(), client.get(item).json()
    assert told["metadata"]["tags"] == ["a", None]
    reply = client.put(item, json=told)
    assert reply.status_code == 200, reply.text
    assert client.get(item).json() == before
    query = {"item_keys": [KEYS[0]], "k": 100, "filter": {"tags": "a"}}
    (reply,) = client.post("/v1/similar", json=query).json()["results"]
    assert KEYS[2] in {item["key"] for item in reply["items"]}


def test_filters_go_on_where_titles_are_numbers_and_one_is_put_that_is_none(tmp_path: Path):
    titles = {"title": pa.array(range(len(KEYS)))}
    path = write_generation(tmp_path, with_model=True, columns=titles)
    client = open_client(path)
    assert client.put("/v1/items/new", json={"title": "Hello"}).json()["item"]["title"] == "Hello"
    query = {"item_keys": [KEYS[0]], "k": 100, "filter": {"title": {"lt": 5}}}
    (reply,) = client.post("/v1/similar", json=query).json()["results"]
    assert {item["key"] for item in reply["items"]} == set(KEYS[1:5])


def test_waiting_writes_hold_up_no_other_call(path: Path):
    with open_client(path) as client:
        writes, answered = client.app.state.writes, threading.Event()

        def hold(answers: Answers) -> Answers:
            answered.wait(60)
            return answers

        pool = ThreadPoolExecutor(60)
        held = pool.submit(writes._current.replace, hold)
        puts = [pool.submit(client.put, f"/v1/items/new{n}", json=ITEM) for n in range(50)]
        try:
            address = f"/v1/items/{KEYS[0]}/similar?method=text"
            reply = pool.submit(client.get, address).result(timeout=50)
            assert reply.status_code == 200
            assert not any(put.done() for put in puts)
        finally:
            answered.set()
        held.result()
        assert {put.result().status_code for put in puts} == {200}


def test_a_write_that_is_kept_is_in_force_later_where_others_could_not_be_put_in_force_before_it(
    client: TestClient, path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: Any, **__: Any) -> Answers:
        raise ZeroDivisionError

    other = open_client(path)
    assert other.put("/v1/items/theirs", json=ITEM).status_code == 200
    with monkeypatch.context() as patched:
        patched.setattr(Answers, "written", broken)
        reply = client.put("/v1/items/ours", json=ITEM)
        assert (reply.status_code, reply.json()["code"]) == (500, "internal_error")
    for served in (client, other):
        served.app.state.writes.catch_up()
        for key in ("ours", "theirs"):
            assert served.get(f"/v1/items/{key}").status_code == 200, key


def test_a_long_log_is_shortened_while_the_server_runs(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("serve.live._COMPACTED_FROM", 10)
    with open_client(path) as client, open_client(path) as other:
        for number in range(40):
            client.put("/v1/items/new", json={"title": f"Title {number}"})
        log = path.parent / "writes" / LOG_FILE
        wait_until(lambda: log.read_bytes().count(b"\n") < 10)
        client.put("/v1/items/new", json={"title": "Last"})
        wait_until(lambda: other.get("/v1/items/new").json().get("title") == "Last")


def test_what_cannot_be_embedded_holds_up_no_delete_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("serve.live._PAUSE_S", 0.05)
    path = write_generation(tmp_path, with_model=True)
    first = open_client(path)
    assert first.put("/v1/items/new", json=ITEM).status_code == 200
    assert first.delete(f"/v1/items/{KEYS[3]}").json()["was_there"]
    (weights,) = tmp_path.glob("model/*/*.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(bytes(len(whole)))
    with open_client(path) as anew:
        assert anew.get(f"/v1/items/{KEYS[3]}").status_code == 404
        assert anew.get("/v1/items/new").status_code == 404
        assert anew.delete(f"/v1/items/{KEYS[4]}").json()["was_there"]
        assert anew.get(f"/v1/items/{KEYS[4]}").status_code == 404
        put = anew.put("/v1/items/late", json=ITEM)
        assert (put.status_code, put.json()["code"]) == (503, "model_unavailable")
        weights.write_bytes(whole)
        wait_until(lambda: anew.get("/v1/items/new").status_code == 200)
        anew.app.state.writes.check()


def test_a_replica_that_no_longer_follows_the_log_is_not_healthy(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(self: WriteLog) -> bool:
        raise ZeroDivisionError

    with open_client(path) as client:
        writes = client.app.state.writes
        writes.check()
        with monkeypatch.context() as patched:
            patched.setattr(WriteLog, "has_changed", property(broken))
            wait_until(lambda: writes._bug is not None)
            with pytest.raises(RuntimeError, match="isn't followed"):
                writes.check()
        wait_until(lambda: writes._bug is None)
        writes.check()


def test_a_log_that_is_damaged_while_it_is_followed_is_told_by_a_metric(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("serve.live._PAUSE_S", 0.05)
    log = path.parent / "writes" / LOG_FILE
    with open_client(path) as client:

        def is_behind() -> bool:
            return "pinsage_writes_behind 1.0" in client.get("/metrics").text

        client.put("/v1/items/new", json=ITEM)
        assert not is_behind()
        whole = log.read_bytes()
        log.write_bytes(whole + b"damaged\n")
        wait_until(is_behind)
        assert client.get("/readyz").status_code == 200
        log.write_bytes(whole)
        wait_until(lambda: not is_behind())

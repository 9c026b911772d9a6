"""What one process has written and answered for, another one answers with at once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from serve.live import Writes
from serve.log import LOG_FILE
from tests.serve.fakes import KEYS, write_generation

NEW = "a/new"
ITEM = {"title": "New", "features": {"text": [0.6, 0.8]}, "contexts": ["shelf-3"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_generation(tmp_path / "run", with_model=True)


def process(path: Path) -> TestClient:
    """One that doesn't follow the log by itself, for its thread is not started."""
    return TestClient(build_api(Generation.open(path), ServeConfig()))


@pytest.fixture
def writer(path: Path) -> TestClient:
    return process(path)


@pytest.fixture
def reader(path: Path) -> TestClient:
    return process(path)


def written(key: str) -> str:
    return key.replace("/", "%2F")


QUESTIONS = ["item", "description", "similar", "similar by method", "why", "why of", "many", "feed"]


def asked(client: TestClient, question: str, key: str) -> Response:
    path = f"/v1/items/{written(key)}"
    gets = {
        "item": path,
        "description": f"{path}/description",
        "similar": f"{path}/similar?k=3",
        "similar by method": f"{path}/similar?method=text",
        "why": f"{path}/why/{KEYS[1]}",
        "why of": f"/v1/items/{KEYS[1]}/why/{written(key)}",
    }
    if question in gets:
        return client.get(gets[question])
    if question == "many":
        return client.post("/v1/similar", json={"item_keys": [key]})
    return client.post("/v1/homefeed", json={"recent": [{"key": key}]})


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_item_put_by_one_process_is_known_to_another_one_at_once_and_unknown_when_deleted(
    writer: TestClient, reader: TestClient, question: str
):
    assert asked(reader, question, NEW).status_code == 404
    assert writer.put(f"/v1/items/{written(NEW)}", json=ITEM).status_code == 200
    assert asked(reader, question, NEW).json() == asked(writer, question, NEW).json()
    assert asked(reader, question, NEW).status_code == 200
    assert writer.delete(f"/v1/items/{written(NEW)}").json()["was_there"]
    assert asked(reader, question, NEW).status_code == 404


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_published_item_changed_or_deleted_by_another_process_is_so_at_once(
    writer: TestClient, reader: TestClient, question: str
):
    before = asked(reader, question, KEYS[5]).json()
    assert writer.put(f"/v1/items/{KEYS[5]}", json=ITEM).status_code == 200
    after = asked(reader, question, KEYS[5]).json()
    assert after == asked(writer, question, KEYS[5]).json() != before
    assert writer.delete(f"/v1/items/{KEYS[5]}").json()["was_there"]
    assert asked(reader, question, KEYS[5]).status_code == 404


def test_a_question_about_another_item_does_not_wait_until_what_was_written_is_embedded(
    writer: TestClient, reader: TestClient
):
    writer.put(f"/v1/items/{written(NEW)}", json=ITEM)
    assert asked(reader, "similar", KEYS[5]).status_code == 200
    assert reader.app.state.current.now.num_writes == 0
    assert asked(reader, "item", NEW).status_code == 200
    assert reader.app.state.current.now.num_writes == 1


def test_a_question_does_not_wait_while_its_own_process_embeds_another_item(
    writer: TestClient, reader: TestClient, monkeypatch: pytest.MonkeyPatch
):
    embeds, ends = threading.Event(), threading.Event()
    maker = reader.app.state.current.now.maker
    make = maker.make

    def make_slowly(found: Any) -> Any:
        embeds.set()
        assert ends.wait(60)
        return make(found)

    monkeypatch.setattr(maker, "make", make_slowly)
    with ThreadPoolExecutor(2) as pool:
        put = pool.submit(reader.put, f"/v1/items/{written(NEW)}", json=ITEM)
        assert embeds.wait(60)
        writer.put(f"/v1/items/{KEYS[7]}", json=ITEM)
        assert pool.submit(asked, reader, "similar", KEYS[5]).result(30).status_code == 200
        assert not put.done()
        ends.set()
        assert put.result(60).status_code == 200


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A list with one entry for each time that a log is read."""
    found: list[Any] = []
    read = Writes._read
    monkeypatch.setattr(Writes, "_read", lambda self: (found.append(self), read(self))[1])
    return found


def test_the_log_is_read_once_for_all_questions_after_a_write(
    writer: TestClient, reader: TestClient, reads: list[Any]
):
    writer.put(f"/v1/items/{KEYS[7]}", json=ITEM)
    reads.clear()
    for _ in range(3):
        assert asked(reader, "similar", KEYS[5]).status_code == 200
    assert len(reads) == 1


def test_a_log_that_is_damaged_while_serving_fails_no_question_and_is_left_to_the_follower(
    writer: TestClient, reader: TestClient, path: Path, reads: list[Any]
):
    writer.put(f"/v1/items/{written(NEW)}", json=ITEM)
    log = path.parent / "writes" / LOG_FILE
    log.write_bytes(b"x" + log.read_bytes()[1:])
    reads.clear()
    for _ in range(3):
        assert asked(reader, "item", NEW).status_code == 404
        assert asked(reader, "similar", KEYS[5]).status_code == 200
    assert len(reads) == 1

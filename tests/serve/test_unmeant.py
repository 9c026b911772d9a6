"""Requests that nobody meant, from clients as they are."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from pinsage.cluster.boundary_config import BoundaryConfig
from pinsage.cluster.run_config import ServeConfig
from serve import log
from serve.__main__ import first_answer, main
from serve.api import build_api
from serve.generation import Generation
from serve.keys import Role, add_key
from tests.runs import ROOT
from tests.serve.fakes import KEYS
from tests.waiting import free_port, wait_until

Listening = Callable[[FastAPI], AbstractContextManager[int]]


def app_of(generation: Generation, **settings: Any) -> FastAPI:
    return build_api(generation, ServeConfig(boundary=BoundaryConfig(**settings)))


@pytest.fixture
def client(generation: Generation) -> Iterator[TestClient]:
    with TestClient(app_of(generation)) as opened:
        yield opened


@contextmanager
def listening(app: FastAPI) -> Iterator[int]:
    """Serve an app over a real socket; give the port."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield port
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    "settings",
    [{"reads": "key"}, {"local_callers": False}, {"requests_per_s": 0.001, "burst": 1}],
)
def test_a_server_that_wants_a_key_of_its_own_machine_starts(
    generation: Generation, tmp_path: Path, settings: dict[str, Any]
) -> None:
    add_key(tmp_path / "keys.json", Role.READ)
    app = app_of(generation, keys=tmp_path / "keys.json", **settings)
    with listening(app) as port:
        served, told = first_answer(f"http://127.0.0.1:{port}")
    assert served is None
    assert told.startswith("GET /readyz; answers are for callers with a key (HTTP 4")


@pytest.mark.parametrize("how", [["--direct"], []])
def test_a_key_file_that_cannot_be_used_is_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: list[str]
) -> None:
    missing = f"serve.boundary.keys={tmp_path}/keys.json"
    recipe = str(ROOT / "ray_jobs/recipes/smoke.yaml")
    assert main(["--config", recipe, "--set", missing, *how]) == 2
    assert f"{tmp_path}/keys.json" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_no_log_without_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert log.main(["check", str(tmp_path / "wriets")]) == 2
    assert "wriets: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["/metrics", "/metrics%0A", "/v1/generation%0A", "/v1/items%0A"])
def test_a_line_feed_behind_an_address_opens_nothing(
    generation: Generation, tmp_path: Path, path: str
) -> None:
    add_key(tmp_path / "keys.json", Role.READ)
    app = app_of(generation, keys=tmp_path / "keys.json", local_callers=False)
    with TestClient(app) as stranger:
        assert stranger.get(path).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/similar", {"item_keys": [[]] * 5000}),
        ("POST", "/v1/similar", {"item_keys": ["1"], "exclude": [[]] * 900}),
        ("POST", "/v1/homefeed", {"recent": [[]] * 150}),
        ("POST", "/v1/embed", {"features": {"size": ["x"] * 5000}}),
        ("POST", "/v1/embed", {"contexts": [[]] * 5000}),
        ("PUT", "/v1/items/new", {"contexts": [[]] * 5000}),
    ],
)
def test_a_list_of_mistakes_is_read_up_to_the_first(
    client: TestClient, method: str, path: str, body: dict[str, Any]
) -> None:
    reply = client.request(method, path, json=body)
    assert reply.status_code == 422
    assert len(reply.json()["errors"]) == 1


def test_many_mistakes_are_told_in_part(client: TestClient) -> None:
    body = {"features": {f"group{number}": ["x"] for number in range(300)}}
    assert len(client.post("/v1/embed", json=body).json()["errors"]) == 20


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain"])
def test_json_sent_as_something_else_is_told_by_its_content_type(
    client: TestClient, kind: str
) -> None:
    text = b'{"recent": [{"key": "1"}]}'
    reply = client.post("/v1/homefeed", content=text, headers={"content-type": kind})
    assert reply.status_code == 422
    assert reply.json()["detail"] == (
        f"body: wanted JSON, with content-type: application/json, found content-type: {kind}"
    )


def test_a_mistyped_parameter_is_not_left_out_of_the_answer(client: TestClient) -> None:
    path = f"/v1/items/{KEYS[5]}/similar"
    reply = client.get(path, params={"k": 3, "filters": "{}"})
    assert reply.status_code == 422
    assert reply.json()["errors"] == [
        {
            "where": "query.filters",
            "message": "no such parameter; there are: k, method, filter, exclude",
        }
    ]
    # What takes none is asked by monitors with whatever keeps caches out.
    assert client.get("/healthz", params={"now": 1}).status_code == 200


@pytest.mark.parametrize(
    ("address", "where", "told"),
    [
        (f"/v1/items/{KEYS[5]}/similar?k=3&k=4", "query.k", "given twice"),
        (f"/v1/items/{KEYS[5]}/similar?k=3&k=3&k=3", "query.k", "given 3 times"),
        (f"/v1/items/{KEYS[5]}/similar?filter=&filter=%7B%7D", "query.filter", "given twice"),
        ("/v1/search?q=a&q=b", "query.q", "given twice"),
        ("/v1/items?limit=1&exclude=a", "query.exclude", "no such parameter; there are: limit"),
        ("/v1/duel?method=text&method=walk", "query.method", "given twice"),
    ],
)
def test_of_two_values_of_a_parameter_none_is_left_out_without_a_word(
    client: TestClient, address: str, where: str, told: str
) -> None:
    reply = client.get(address)
    assert reply.status_code == 422
    assert reply.json()["errors"] == [{"where": where, "message": told}]


def test_a_parameter_that_is_a_list_may_be_given_many_times(client: TestClient) -> None:
    path = f"/v1/items/{KEYS[5]}/similar"
    near = [item["key"] for item in client.get(f"{path}?k=4").json()["items"]]
    reply = client.get(path, params=[("k", 2), ("exclude", near[0]), ("exclude", near[1])])
    assert [item["key"] for item in reply.json()["items"]] == near[2:]


@pytest.mark.parametrize(
    ("method", "path", "body", "where"),
    [
        ("POST", "/v1/similar", {"item_keys": KEYS[:1], "k": True}, "body.k"),
        ("POST", "/v1/similar", {"item_keys": KEYS[:1], "k": "3"}, "body.k"),
        ("POST", "/v1/homefeed", {"recent": [{"key": KEYS[0]}], "k": "3"}, "body.k"),
        (
            "POST",
            "/v1/homefeed",
            {"recent": [{"key": KEYS[0]}], "max_interests": True},
            "body.max_interests",
        ),
        (
            "POST",
            "/v1/homefeed",
            {"recent": [{"key": KEYS[0]}], "half_life_s": "9"},
            "body.half_life_s",
        ),
        (
            "POST",
            "/v1/homefeed",
            {"recent": [{"key": KEYS[0], "weight": True}]},
            "body.recent.0.weight",
        ),
        (
            "POST",
            "/v1/homefeed",
            {"recent": [{"key": KEYS[0], "timestamp": "5"}]},
            "body.recent.0.timestamp",
        ),
        ("POST", "/v1/embed", {"features": {"text": [1, "0.5"]}}, "body.features.text.1"),
        ("PUT", "/v1/items/new", {"features": {"text": [True, 0]}}, "body.features.text.0"),
    ],
)
def test_texts_and_booleans_are_no_numbers(
    client: TestClient, method: str, path: str, body: dict[str, Any], where: str
) -> None:
    reply = client.request(method, path, json=body)
    assert reply.status_code == 422
    assert [part["where"] for part in reply.json()["errors"]] == [where]


def test_a_whole_number_may_be_written_as_a_float(client: TestClient) -> None:
    reply = client.post("/v1/similar", json={"item_keys": KEYS[:1], "k": 3.0})
    assert len(reply.json()["results"][0]["items"]) == 3


@pytest.mark.parametrize("other", ["Bearer nobody", "Basic eDp5", "Bearer", ""])
@pytest.mark.parametrize("path", [f"/v1/items/{KEYS[5]}/similar", "/v1/items"])
def test_a_key_beside_another_authorization_is_refused_in_either_order(
    generation: Generation, tmp_path: Path, other: str, path: str
) -> None:
    key = add_key(tmp_path / "keys.json", Role.ADMIN)
    ours = ("authorization", f"Bearer {key}")
    app = app_of(generation, keys=tmp_path / "keys.json")
    with TestClient(app, client=("192.0.2.7", 1)) as client:
        assert client.get(path, headers=[ours]).status_code == 200
        for sent in ([ours, ("authorization", other)], [("authorization", other), ours]):
            reply = client.get(path, headers=sent)
            assert (reply.status_code, reply.json()["code"]) == (401, "key_needed")
            assert "one key" in reply.json()["detail"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/items", "/docs"])
def test_whatever_can_be_read_can_be_asked_for_by_head(generation: Generation, path: str) -> None:
    with listening(app_of(generation)) as port:
        address = f"http://127.0.0.1:{port}{path}"
        reply, whole = httpx.head(address), httpx.get(address)
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize("body", [b"\xff\xfe", b"\x1f\x8b\x08", b"[" * 100_000, b"1" * 5_000])
def test_a_body_that_is_no_json_we_read_is_told_what_is(client: TestClient, body: bytes) -> None:
    kind = {"content-type": "application/json"}
    reply = client.post("/v1/similar", content=body, headers=kind)
    assert reply.status_code in (400, 422)
    assert reply.json()["code"] == "invalid_request"
    assert "JSON" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/items/1", "DELETE, GET, HEAD, PUT"),
        ("PUT", "/v1/generation", "GET, HEAD, POST"),
        ("PUT", "/v1/duel/votes", "GET, HEAD, POST"),
        ("POST", "/readyz", "GET, HEAD"),
    ],
)
def test_a_method_that_an_address_has_not_is_told_with_all_that_it_has(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    reply = client.request(method, path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allowed)


def test_no_comparison_yet_is_no_recall(client: TestClient) -> None:
    client.get(f"/v1/items/{KEYS[5]}/similar")
    assert "\npinsage_recall NaN\n" in client.get("/metrics").text


def test_a_client_that_leaves_before_its_body_is_here_is_no_error(
    generation: Generation, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(generation)
    head = b"POST /v1/similar HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n{"
    with listening(app) as port, TestClient(app) as client:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(head)

        def counted() -> list[str]:
            lines = client.get("/metrics").text.splitlines()
            return [line for line in lines if line.startswith("pinsage_requests_total{")]

        wait_until(lambda: any('status="499"} 3.0' in line for line in counted()))
        assert not any('method="POST"' in line and "499" not in line for line in counted())
    assert not caplog.records

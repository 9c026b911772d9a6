import asyncio
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from anyio import to_thread
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from pinsage.cluster.boundary_config import BoundaryConfig
from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.boundary import Boundary
from serve.generation import Generation
from serve.keys import Role, add_key
from serve.metrics import Metrics
from serve.patience import patient
from tests.serve.fakes import KEYS

SIMILAR = f"/v1/items/{KEYS[5]}/similar"


def client_of(generation: Generation, **settings: Any) -> TestClient:
    config = ServeConfig(boundary=BoundaryConfig(**settings))
    return TestClient(build_api(generation, config), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(generation: Generation) -> Iterator[TestClient]:
    with client_of(generation) as opened:
        yield opened


def values(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# Request ids


def test_a_request_keeps_the_id_it_came_with(client: TestClient):
    reply = client.get("/healthz", headers={"x-request-id": "trace-7.a:b"})
    assert reply.headers.get_list("x-request-id") == ["trace-7.a:b"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "\u00e4", '"'])
def test_an_id_that_does_not_belong_in_a_log_is_replaced(client: TestClient, given: str):
    reply = client.get("/healthz", headers={"x-request-id": given.encode("latin-1")})
    assert reply.headers["x-request-id"] != given
    assert len(reply.headers["x-request-id"]) == 24


def test_every_answer_has_an_id_of_its_own(client: TestClient):
    replies = [client.get(path) for path in (SIMILAR, "/nope", "/", SIMILAR)]
    assert len({reply.headers["x-request-id"] for reply in replies}) == 4


# Callers


def test_a_key_opens_what_its_role_covers(generation: Generation, tmp_path: Path):
    path = tmp_path / "keys.json"
    reader, admin = add_key(path, Role.READ), add_key(path, Role.ADMIN)
    with client_of(generation, keys=path, reads="key") as locked:
        reply = locked.get(SIMILAR)
        assert (reply.status_code, reply.json()["code"]) == (401, "key_needed")
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert reply.headers["content-type"] == "application/problem+json"
        for headers in ({"authorization": f"Bearer {reader}"}, {"x-api-key": admin}):
            assert locked.get(SIMILAR, headers=headers).status_code == 200
        forbidden = locked.delete("/v1/items/a", headers={"x-api-key": reader})
        assert (forbidden.status_code, forbidden.json()["code"]) == (403, "forbidden")
        for path_of_all in ("/", "/healthz", "/readyz", "/openapi.json"):
            assert locked.get(path_of_all).status_code == 200
        assert locked.get("/metrics").status_code == 401


def test_too_many_requests_are_told_when_to_come_again(generation: Generation):
    with client_of(generation, requests_per_s=0.25, burst=2) as limited:
        replies = [limited.get(SIMILAR) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert replies[2].json()["code"] == "too_many_requests"
    assert 1 <= int(replies[2].headers["retry-after"]) <= 4


def test_no_other_site_may_read_unless_it_is_named(generation: Generation, client: TestClient):
    asked = {"origin": "https://shop.example", "access-control-request-method": "GET"}
    assert client.options(SIMILAR, headers=asked).status_code == 405
    assert "access-control-allow-origin" not in client.get(SIMILAR, headers=asked).headers
    with client_of(generation, allowed_origins=("https://shop.example",), reads="key") as shared:
        assert shared.options(SIMILAR, headers=asked).status_code == 200
        reply = shared.get(SIMILAR, headers=asked)
        assert reply.headers["access-control-allow-origin"] == "https://shop.example"
        other = shared.get(SIMILAR, headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("server", "status"),
    [(("/run/pinsage.sock", None), 200), (("0.0.0.0", 8000), 401), (None, 401)],
)
def test_who_has_no_address_is_on_this_machine_only_over_a_unix_socket(
    server: tuple[str, int | None] | None, status: int
):
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await _answer(send, b"")

    async def scenario() -> None:
        asked = {"client": None, "server": server}
        assert (await Caller(app).ask("DELETE", "/v1/items/a", **asked))[0] == status

    asyncio.run(scenario())


def test_a_connection_that_was_reset_opens_nothing():
    asked: list[Any] = []

    class Told(Metrics):
        def answered(self, route: str, method: str, status: int, seconds: float) -> None:
            asked.append((method, status))
            server.should_exit = True

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await _answer(send, b"")

    boundary = Boundary(app, config=ServeConfig(), metrics=Told())
    server = uvicorn.Server(uvicorn.Config(boundary, log_level="warning", lifespan="off"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as stranger:
            stranger.sendall(b"DELETE /v1/items/book-1 HTTP/1.1\r\nHost: x\r\n\r\n")
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.run(sockets=[listener])
    assert asked == [("DELETE", 401)]


# Limits


def test_an_address_too_long_is_a_414(client: TestClient):
    for path in ("/v1/items/" + "a" * 9000, "/v1/search?q=" + "a" * 9000):
        assert client.get(path).json()["code"] == "url_too_long"


Run = Callable[[Any, Any, Any], Awaitable[None]]


class Caller:
    """Calls a boundary around any app without a server between them."""

    def __init__(self, app: Run, **settings: Any) -> None:
        self.metrics = Metrics()
        self._boundary = Boundary(app, config=ServeConfig(**settings), metrics=self.metrics)

    async def get(self, path: str) -> tuple[int, dict[bytes, bytes], Any]:
        return await self.ask("GET", path)

    async def ask(
        self, method: str, path: str, receive: Any = None, **scope: Any
    ) -> tuple[int, dict[bytes, bytes], Any]:
        sent: list[Any] = []
        answered = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)
            if not message.get("more_body", message["type"] == "http.response.start"):
                answered.set()

        asked = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": [], "client": ("127.0.0.1", 1), **scope,
        }  # fmt: skip
        running = asyncio.ensure_future(self._boundary(asked, receive or _no_body, send))
        await asyncio.wait_for(answered.wait(), 60)
        self.running = running
        status, headers = sent[0]["status"], dict(sent[0]["headers"])
        return status, headers, b"".join(message.get("body", b"") for message in sent[1:])


async def _no_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _answer(send: Any, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def test_a_call_that_takes_too_long_is_a_504_and_what_it_says_later_is_dropped():
    async def scenario() -> None:
        release = threading.Event()

        async def slow(_scope: Any, _receive: Any, send: Any) -> None:
            await to_thread.run_sync(release.wait)
            await _answer(send, b"late")

        caller = Caller(slow, boundary=BoundaryConfig(request_timeout_s=0.001))
        status, _, body = await caller.get("/v1/items")
        assert status == 504
        assert json.loads(body)["code"] == "timed_out"
        assert values(caller.metrics.written().decode())["pinsage_requests_in_flight",] == 1
        release.set()
        await caller.running
        samples = values(caller.metrics.written().decode())
        assert samples["pinsage_requests_in_flight",] == 0
        assert samples["pinsage_requests_total", "GET", "unmatched", "504"] == 1

    asyncio.run(scenario())


def test_what_comes_on_top_of_a_full_server_is_a_503_while_health_still_answers():
    async def scenario() -> None:
        release = asyncio.Event()

        async def app(scope: Any, _receive: Any, send: Any) -> None:
            if scope["path"] == "/v1/items":
                await release.wait()
            await _answer(send, b"done")

        caller = Caller(app, max_ongoing_requests=2)
        working = [asyncio.ensure_future(caller.get("/v1/items")) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        status, headers, body = await caller.get("/v1/items")
        assert (status, headers[b"retry-after"]) == (503, b"1")
        assert json.loads(body)["code"] == "overloaded"
        assert (await caller.get("/healthz"))[0] == 200
        release.set()
        assert [(await answer)[0] for answer in working] == [200, 200]
        assert (await caller.get("/v1/items"))[0] == 200

    asyncio.run(scenario())


async def _never() -> dict[str, Any]:
    return await asyncio.Future()


def test_bodies_that_do_not_come_hold_up_no_other_call():
    async def scenario() -> None:
        async def app(_scope: Any, receive: Any, send: Any) -> None:
            await _answer(send, (await receive())["body"])

        caller = Caller(app, max_ongoing_requests=2)
        stuck = [asyncio.ensure_future(caller.ask("POST", "/v1/similar", _never)) for _ in range(9)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        parts = [
            {"type": "http.request", "body": b"ab", "more_body": True},
            {"type": "http.request", "body": b"c", "more_body": False},
        ]

        async def in_parts() -> dict[str, Any]:
            return parts.pop(0)

        assert (await caller.ask("POST", "/v1/similar", in_parts))[::2] == (200, b"abc")
        assert (await caller.get("/v1/items"))[0] == 200
        assert not any(one.done() for one in stuck)

    asyncio.run(scenario())


def test_a_body_that_does_not_come_whole_in_time_is_a_408_after_which_nothing_was_done():
    async def scenario() -> None:
        async def app(_scope: Any, _receive: Any, _send: Any) -> None:
            pytest.fail("was begun without its body")

        caller = Caller(app, boundary=BoundaryConfig(request_timeout_s=0.001))
        status, headers, body = await caller.ask("DELETE", "/v1/items/a", _never)
        assert (status, headers[b"connection"]) == (408, b"close")
        problem = json.loads(body)
        assert problem["code"] == "body_too_slow"
        assert "nothing was done" in problem["detail"]

    asyncio.run(scenario())


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nX-A: b"])
def test_a_connection_that_never_says_what_it_wants_is_closed(sent: bytes):
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await _answer(send, b"done")

    with closing(Listening(app)) as server, server.connected() as silent:
        # One that has asked before is not taken for granted either.
        with server.connected() as asking:
            asking.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert asking.recv(1000).startswith(b"HTTP/1.1 200")
            asking.sendall(sent or b"GET")
            assert asking.recv(1000) == b""
        silent.sendall(sent)
        assert silent.recv(1000) == b""


class Listening:
    """An app behind the protocol of `--direct`, with little patience."""

    def __init__(self, app: Any) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=patient(0.2), log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()

    def connected(self) -> socket.socket:
        return socket.create_connection(self._socket.getsockname(), timeout=20)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()


def test_the_body_of_a_call_that_is_open_to_everyone_is_not_taken_in():
    async def scenario() -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await _answer(send, b"")

        caller = Caller(app)
        assert (await caller.ask("POST", "/", _never))[0] == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(("is_whole", "found"), [(True, "found 70;"), (False, "found 70 or more;")])
def test_a_body_too_large_is_told_with_the_limit_its_setting_and_what_was_found(
    *, is_whole: bool, found: str
):
    async def scenario() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"x" * 70, "more_body": not is_whole}

        status, _, body = await Caller(_never, max_body_bytes=60).ask("PUT", "/v1/items/a", receive)
        told = json.loads(body)
        assert (status, told["code"]) == (413, "body_too_large")
        for words in ("at most 60 bytes (serve.max_body_bytes)", found, "fewer items or contexts"):
            assert words in told["detail"]

    asyncio.run(scenario())


def test_no_more_is_held_of_bodies_on_their_way_than_of_those_in_work():
    async def scenario() -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await _answer(send, b"")

        def halves() -> Callable[[], Awaitable[dict[str, Any]]]:
            parts = [{"type": "http.request", "body": b"x" * 50, "more_body": True}]

            async def receive() -> dict[str, Any]:
                return parts.pop() if parts else await _never()

            return receive

        caller = Caller(app, max_ongoing_requests=2, max_body_bytes=60)
        ask = partial(caller.ask, "POST", "/v1/similar")
        arriving = [asyncio.ensure_future(ask(halves())) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        status, headers, body = await ask(halves())
        assert (status, headers[b"retry-after"]) == (503, b"1")
        assert json.loads(body)["code"] == "overloaded"
        assert (await caller.get("/v1/items"))[0] == 200
        assert not any(one.done() for one in arriving)

    asyncio.run(scenario())


def test_writes_that_wait_hold_up_no_read_and_too_many_of_them_are_a_503():
    async def scenario() -> None:
        async def app(scope: Any, _receive: Any, send: Any) -> None:
            if scope["method"] != "GET":
                await _never()
            await _answer(send, b"done")

        caller = Caller(app, max_ongoing_requests=2)
        waiting = [asyncio.ensure_future(caller.ask("PUT", "/v1/items/a")) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await caller.get("/v1/items"))[0] == 200
        assert (await caller.ask("DELETE", "/v1/items/a"))[0] == 503
        assert not any(one.done() for one in waiting)

    asyncio.run(scenario())


def test_what_is_given_up_frees_its_place_and_is_not_done_if_it_still_waits():
    async def scenario() -> None:
        turn, done = asyncio.Lock(), []

        async def app(scope: Any, _receive: Any, send: Any) -> None:
            async with turn:
                done.append(scope["path"])
                await _answer(send, b"done")

        caller = Caller(app, max_ongoing_requests=1, boundary={"request_timeout_s": 0.001})
        async with turn:
            assert (await caller.ask("PUT", "/v1/items/a"))[0] == 504
            await caller.running
        assert (await caller.ask("PUT", "/v1/items/b"))[0] == 200
        assert done == ["/v1/items/b"]

    asyncio.run(scenario())


# What is written down


def test_requests_are_counted_by_route_method_and_status(generation: Generation):
    with client_of(generation) as fresh:
        for path in (SIMILAR, SIMILAR, "/v1/items/nope", "/nope/1", "/nope/2"):
            fresh.get(path)
        fresh.request("BREW", "/v1/search")
        samples = values(fresh.get("/metrics").text)
    route = "/v1/items/{item_key:path}"
    assert samples["pinsage_requests_total", "GET", f"{route}/similar", "200"] == 2
    assert samples["pinsage_requests_total", "GET", route, "404"] == 1
    assert samples["pinsage_requests_total", "GET", "unmatched", "404"] == 2
    assert samples["pinsage_requests_total", "other", "/v1/search", "405"] == 1
    assert samples["pinsage_request_seconds_count", f"{route}/similar"] == 2


def test_what_is_refused_is_counted_under_the_route_that_it_asked_for(
    generation: Generation, tmp_path: Path
):
    path = tmp_path / "keys.json"
    key, other = ({"x-api-key": add_key(path, Role.ADMIN)} for _ in range(2))
    with client_of(generation, keys=path, reads="key", requests_per_s=0.001, burst=4) as locked:
        for asked in (SIMILAR, "/v1/items/a%2Fb", "/v1/nope", "/v1/search?q=" + "a" * 9000):
            locked.get(asked)
        locked.delete("/v1/search")
        large = {"content-length": "99999999", **key}
        locked.post("/v1/similar", headers=large)
        samples = values(locked.get("/metrics", headers=key).text)
        for _ in range(4):
            locked.get("/v1/generations", headers=key)
        later = values(locked.get("/metrics", headers=other).text)
    route, name = "/v1/items/{item_key:path}", "pinsage_requests_total"
    assert samples[name, "GET", f"{route}/similar", "401"] == 1
    assert samples[name, "GET", route, "401"] == 1
    assert samples[name, "GET", "unmatched", "401"] == 1
    assert samples[name, "GET", "/v1/search", "414"] == 1
    assert samples[name, "DELETE", "/v1/search", "401"] == 1
    assert samples[name, "POST", "/v1/similar", "413"] == 1
    assert later[name, "GET", "/v1/generations", "429"] == 2


def test_metrics_can_be_left_out(generation: Generation):
    with client_of(generation, metrics=False) as without:
        assert without.get("/metrics").status_code == 404


def test_the_access_log_is_one_json_line_a_request(
    generation: Generation, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    with client_of(generation, access_log=True) as logged:
        monkeypatch.setattr(logging.getLogger("pinsage.serve.access"), "propagate", True)
        logged.get("/v1/items/a%0Ab?k=1", headers={"x-request-id": "r1"})
    (line,) = [json.loads(r.message) for r in caplog.records if r.name.endswith("access")]
    assert (line["request_id"], line["status"], line["method"]) == ("r1", 404, "GET")
    assert line["path"] == "/v1/items/a%0Ab"
    assert line["sent_bytes"] > 0
    assert line["seconds"] > 0
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert (line["level"], line["process"]) == ("INFO", os.getpid())

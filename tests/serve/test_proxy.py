import asyncio
import json
from typing import Any

import pytest

from serve.proxy import AskAgain

BODY = [b'{"item_keys":', b'["1"]}']


class Replicas:
    """The first so many are lost with the request in their hands; the next one answers."""

    def __init__(self, lost: int, *, begins: bool = False) -> None:
        self.lost = lost
        self.begins = begins
        self.asked: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        self.asked.append(body)
        scope["path"] = "changed by whoever routes it"
        is_lost = len(self.asked) <= self.lost
        if self.begins or not is_lost:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if not is_lost:
            await send({"type": "http.response.body", "body": b"answer", "more_body": False})


def ask(
    app: Any,
    method: str,
    path: str,
    heard: list[dict] | None = None,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> list[dict]:
    """Send one request; gives what was sent back."""
    messages = heard or [
        {"type": "http.request", "body": part, "more_body": part is BODY[0]} for part in BODY
    ]
    waiting, sent = iter(messages), []

    async def receive() -> dict:
        return next(waiting)

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode()}
    scope["headers"] = headers or []
    asyncio.run(AskAgain(app)(scope, receive, send))
    return sent


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/items/1/similar"), ("HEAD", "/")]
    + [("POST", f"/v1/{call}") for call in ("similar", "homefeed", "embed")],
)
def test_a_question_of_a_lost_replica_is_asked_again_word_for_word(
    method: str, path: str, lost: int
):
    replicas = Replicas(lost)
    start, body = ask(replicas, method, path)
    assert (start["status"], body["body"]) == (200, b"answer")
    assert replicas.asked == [b"".join(BODY)] * (lost + 1)


@pytest.mark.parametrize(
    ("method", "path", "lost", "asked"),
    [
        ("GET", "/v1/items/1", 9, 3),
        ("PUT", "/v1/items/1", 9, 1),
        ("DELETE", "/v1/items/1", 9, 1),
        ("POST", "/v1/duel/votes", 9, 1),
        ("POST", "/v1/generation", 9, 1),
    ],
)
def test_what_may_change_something_is_sent_once_and_the_loss_is_a_problem(
    method: str, path: str, lost: int, asked: int
):
    replicas = Replicas(lost)
    start, body = ask(replicas, method, path)
    assert len(replicas.asked) == asked
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert json.loads(body["body"])["code"] == "replica_lost"
    assert json.loads(body["body"])["instance"] == path


def test_an_answer_that_has_begun_is_not_begun_again():
    replicas = Replicas(9, begins=True)
    assert [message["type"] for message in ask(replicas, "GET", "/")] == ["http.response.start"]
    assert len(replicas.asked) == 1


def test_a_client_that_has_left_is_not_answered():
    replicas = Replicas(9)
    assert ask(replicas, "GET", "/", [{"type": "http.disconnect"}]) == []
    assert replicas.asked == []


def answering(status: int, headers: list[tuple[bytes, bytes]], found: list[Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.extend(scope["headers"])
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"words", "more_body": False})

    return app


@pytest.mark.parametrize(
    ("status", "code", "retry"), [(503, "overloaded", True), (500, "internal_error", False)]
)
def test_an_error_in_the_proxy_s_own_words_is_a_problem(status: int, code: str, *, retry: bool):
    start, body = ask(answering(status, [], []), "GET", "/v1/items/1")
    assert start["status"] == status
    assert json.loads(body["body"])["code"] == code
    assert ((b"retry-after", b"1") in start["headers"]) == retry


@pytest.mark.parametrize(
    ("status", "path", "headers"),
    [
        (503, "/v1/items/1", [(b"x-content-type-options", b"nosniff")]),
        (503, "/-/healthz", []),
        (404, "/v1/items/1", []),
    ],
)
def test_what_a_replica_says_and_the_proxy_s_health_pass(status: int, path: str, headers: list):
    start, body = ask(answering(status, headers, []), "GET", path)
    assert (start["status"], start["headers"], body["body"]) == (status, headers, b"words")


def test_headers_that_the_proxy_cannot_read_are_left_out():
    given = [(b"x-request-id", b"\xff"), (b"x-other", b"\xff"), (b"x-request-id", b"trace")]
    found: list[tuple[bytes, bytes]] = []
    ask(answering(200, [], found), "GET", "/healthz", headers=given)
    assert found == given[1:]

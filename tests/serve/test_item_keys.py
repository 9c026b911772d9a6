"""Item keys in addresses: which address means which key, and which means none."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from fastapi.testclient import TestClient

from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from serve.log import LOG_FILE
from tests.serve.fakes import KEYS, write_generation

ITEM = {"title": "Vilette", "features": {"text": [0.6, 0.8]}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_generation(tmp_path, with_model=True)


@pytest.fixture
def client(path: Path) -> TestClient:
    return TestClient(build_api(Generation.open(path), ServeConfig()))


@pytest.mark.parametrize("tail", ["/similar", "/description", f"/why/{KEYS[2]}"])
def test_no_write_goes_to_an_address_that_tells_something_of_an_item(
    client: TestClient, path: Path, tail: str
):
    address = f"/v1/items/{KEYS[1]}"
    for reply in (client.put(address + tail, json=ITEM), client.delete(address + tail)):
        assert (reply.status_code, reply.json()["code"]) == (405, "method_not_allowed")
        assert reply.headers["allow"] == "GET"
        assert "%2F" in reply.json()["detail"]
    assert not (path.parent / "writes" / LOG_FILE).exists()
    assert client.put(address + tail.replace("/", "%2F"), json=ITEM).json()["is_new"]


@pytest.mark.parametrize("tail", ["", "/similar", "/similar?k=3", "/description", "/why/a"])
def test_bytes_that_are_no_text_are_no_key(client: TestClient, tail: str):
    client.put("/v1/items/caf%EF%BF%BD", json=ITEM)
    for asked in (f"caf%E8{tail}", f"{KEYS[1]}/why/caf%E8"):
        reply = client.get(f"/v1/items/{asked}")
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
        assert "wanted UTF-8" in reply.json()["detail"]
    assert client.delete("/v1/items/caf%FF").status_code == 422
    assert client.get("/v1/items/caf%EF%BF%BD").status_code == 200


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (f"{KEYS[1]}/", "%2F"),
        (f"/{KEYS[1]}", "%2F"),
        (f"{KEYS[1]}/why", "%2F"),
        ("a/b", "%2F"),
        ("a//b", "%2F"),
        ("%2Fa/", "%2F"),
        ("100%", "%25"),
        ("%", "%25"),
        ("%zz", "%25"),
        ("%2", "%25"),
        ("%%41", "%25"),
        ("caf\u00e9", "percent-encoded"),
    ],
)
def test_a_key_is_written_to_by_one_address_alone(path: Path, written: str, told: str):
    app = build_api(Generation.open(path), ServeConfig())
    for method, body in (("PUT", ITEM), ("DELETE", None)):
        status, problem = asyncio.run(sent(app, method, f"/v1/items/{written}", body))
        assert (status, problem["code"]) == (422, "invalid_request")
        assert problem["errors"][0]["where"] == "path.item_key"
        assert told in problem["detail"]
    assert not (path.parent / "writes" / LOG_FILE).exists()
    key = unquote(written, errors="surrogateescape")
    encoded = f"/v1/items/{quote(key, safe='')}"
    status, reply = asyncio.run(sent(app, "PUT", encoded, ITEM))
    assert (status, reply["item"]["key"]) == (200, key)
    assert asyncio.run(sent(app, "DELETE", encoded)) == (200, {"key": key, "was_there": True})


async def sent(app: Any, method: str, address: str, body: Any = None) -> tuple[int, Any]:
    """Send a request whose address stays as it is written, which no client of ours lets it."""
    raw = address.encode()
    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": unquote(address),
        "raw_path": raw,
        "query_string": b"",
        "headers": [(b"host", b"x"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    heard: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"" if body is None else json.dumps(body).encode()}

    async def send(message: Any) -> None:
        heard.append(message)

    await app(scope, receive, send)
    text = b"".join(message.get("body", b"") for message in heard)
    return heard[0]["status"], json.loads(text)

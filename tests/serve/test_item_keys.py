"""Item keys in addresses: which address means which key, and which means none."""

from pathlib import Path

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

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from tests.serve.fakes import KEYS, write_generation


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    path = write_generation(tmp_path_factory.mktemp("embed"), with_model=True)
    return TestClient(build_api(Generation.open(path), ServeConfig()))


def test_a_described_item_is_embedded_and_its_unknown_contexts_are_named(client: TestClient):
    described = {"features": {"text": [0.6, 0.8]}, "contexts": ["shelf-3", "attic", "shelf-1"]}
    reply = client.post("/v1/embed", json=described)
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    assert np.linalg.norm(answer["embedding"]) == pytest.approx(1, abs=1e-5)
    assert answer["unknown_contexts"] == ["attic"]
    weights = [neighbor["weight"] for neighbor in answer["neighbors"]]
    assert weights == sorted(weights, reverse=True)
    assert {neighbor["key"] for neighbor in answer["neighbors"]} <= set(KEYS)
    assert answer["generation"] == reply.headers["x-pinsage-generation"]


def test_an_item_of_which_nothing_is_known_is_embedded_without_neighbors(client: TestClient):
    answer = client.post("/v1/embed", json={}).json()
    assert not any(answer["embedding"])
    assert answer["neighbors"] == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"features": {"text": [1]}}', "wanted 2 numbers, found 1"),
        ('{"features": {"text": [1, 1e300]}}', "finite"),
        ('{"features": {"text": [1, NaN]}}', "finite"),
        ('{"features": {"text": [1, 1e25]}}', "wanted smaller numbers"),
        ('{"features": {"text": [-1e37, 1e37]}}', "wanted smaller numbers"),
        ('{"features": {"log_degree": [1]}}', "there are: text"),
        ('{"contexts": ["\\ud800"]}', "contexts"),
    ],
)
def test_what_the_model_cannot_take_is_a_problem(client: TestClient, body: str, told: str):
    reply = client.post("/v1/embed", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 422
    assert reply.json()["code"] == "invalid_request"
    assert told in reply.json()["detail"]


def test_a_model_damaged_before_it_is_first_asked_for_is_a_problem_until_it_is_whole(
    tmp_path: Path,
):
    path = write_generation(tmp_path, with_model=True)
    served: Any = TestClient(build_api(Generation.open(path), ServeConfig()))
    (weights,) = tmp_path.glob("model/*/*.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    reply = served.post("/v1/embed", json={})
    assert (reply.status_code, reply.json()["code"]) == (503, "model_unavailable")
    assert str(tmp_path) not in reply.text
    put = served.put("/v1/items/new", json={})
    assert (put.status_code, put.json()["code"]) == (503, "model_unavailable")
    weights.write_bytes(whole)
    assert served.post("/v1/embed", json={}).status_code == 200


def test_a_generation_without_a_model_says_so(generation: Generation):
    plain: Any = TestClient(build_api(generation, ServeConfig()))
    reply = plain.post("/v1/embed", json={})
    assert (reply.status_code, reply.json()["code"]) == (409, "no_model")

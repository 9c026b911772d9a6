import json
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient

from pinsage.cluster.run_config import ServeConfig
from pinsage.retrieval.approximate import FaissIndex
from pinsage.retrieval.index import IndexConfig, build_index
from serve.answers import is_quick
from serve.api import build_api
from serve.generation import Generation
from serve.replies import ItemTexts, score_texts, scored_text
from serve.schemas import Item, ScoredItem, SimilarBatchReply, SimilarReply
from tests.serve.fakes import KEYS


@pytest.fixture(scope="module")
def client(generation: Generation) -> Iterator[TestClient]:
    with TestClient(build_api(generation, ServeConfig(max_item_keys=NUM))) as opened:
        yield opened


NUM = len(KEYS)


def item(item_id: int) -> Item:
    return Item(key=str(item_id), title=f'"{item_id}\u2028', metadata={"n": None, "x": [1, "\\"]})


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("query", ["", "?k=1", "?k=20"])
def test_the_quick_way_and_the_framework_answer_byte_for_byte_alike(
    client: TestClient, key: str, query: str
):
    path = f"/v1/items/{quote(key, safe='')}/similar{query}"
    quick = client.get(path)
    # An explicit method is not plain, so the framework answers.
    framework = client.get(f"{path}{'&' if query else '?'}method=pinsage")
    assert quick.content == framework.content
    assert quick.headers["content-type"] == framework.headers["content-type"]
    SimilarReply.model_validate_json(quick.content)


@pytest.mark.parametrize(
    ("kind", "quick"),
    [("exact", False), ("flat", False), ("hnsw", True), ("ivf", True), ("lsh", True)],
)
def test_only_searches_that_read_few_vectors_run_where_requests_are_taken(
    kind: str, *, quick: bool
):
    vectors = np.random.default_rng(0).standard_normal((3_000, 800)).astype(np.float32)
    settings = {"kind": kind, "recall_target": 0.01, "faiss": {"build_width": 8}}
    index = build_index(vectors, IndexConfig.model_validate(settings))
    assert is_quick(index) == quick
    assert is_quick(build_index(vectors[:300], IndexConfig(kind=kind)))
    if isinstance(index, FaissIndex):
        assert not is_quick(replace(index, on_gpu=True))
    if kind == "ivf":
        assert not is_quick(replace(index, width=10**6))


def test_many_answers_are_as_their_schema_says(client: TestClient):
    reply = client.post("/v1/similar", json={"item_keys": KEYS, "k": 7})
    found = SimilarBatchReply.model_validate_json(reply.content)
    assert [result.query.key for result in found.results] == KEYS


def test_written_items_read_back_as_they_were():
    texts = ItemTexts(item)
    written = json.loads(scored_text([texts.text(3), texts.text(1)], [0.5, np.float32(1 / 3)]))
    read = [ScoredItem.model_validate(part) for part in written]
    assert [scored.model_dump(exclude={"score"}) for scored in read] == [
        item(3).model_dump(),
        item(1).model_dump(),
    ]
    assert [np.float32(scored.score) for scored in read] == [np.float32(0.5), np.float32(1 / 3)]
    assert scored_text([], []) == b"[]"


def test_scores_read_back_as_the_same_32_bit_numbers():
    scores = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    read = np.array([float(text) for text in score_texts(scores)])
    assert np.array_equal(read.astype(np.float32), scores)


def test_an_items_text_is_written_once_unless_the_room_is_used_up():
    described: list[int] = []

    def describe(item_id: int) -> Item:
        described.append(item_id)
        return item(item_id)

    texts = ItemTexts(describe, most_bytes=2 * len(ItemTexts(item).text(1)))
    for item_id in (1, 2, 1, 2, 3, 3):
        texts.text(item_id)
    assert described == [1, 2, 3, 3]

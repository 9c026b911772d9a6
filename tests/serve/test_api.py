import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from pinsage.cluster.run_config import ServeConfig
from serve import api as api_module
from serve.answers import Answers
from serve.api import build_api
from serve.generation import Generation
from tests.serve.fakes import (
    COLD,
    KEYS,
    NUM_ITEMS,
    ODD_KEYS,
    WALK_STEPS,
    ring_neighbors,
    title_of,
    write_generation,
)

CONFIG = ServeConfig(title="Old books", default_k=4, max_k=20, max_item_keys=3, max_body_bytes=500)


@pytest.fixture(scope="module")
def client(generation: Generation) -> Iterator[TestClient]:
    with TestClient(build_api(generation, CONFIG), raise_server_exceptions=False) as opened:
        yield opened


def path_of(key: str) -> str:
    return f"/v1/items/{quote(key, safe='')}"


def assert_problem(reply, status: int, code: str) -> dict:
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"/docs#{code}"
    assert problem["title"]
    assert problem["detail"]
    return problem


# What is related


def test_similar_gives_the_query_the_method_and_scored_items(client: TestClient):
    reply = client.get(f"{path_of(KEYS[5])}/similar?k=2")
    assert reply.status_code == 200
    body = reply.json()
    assert body["query"] == {
        "key": KEYS[5],
        "title": title_of(5),
        "image": "https://covers.invalid/5.jpg",
        "metadata": {"authors": "Oscar Wilde", "language": "en", "year": 1805},
    }
    assert body["method"] == "pinsage"
    assert {item["key"] for item in body["items"]} == ring_neighbors(5, 1)
    assert set(body["items"][0]) == {"key", "score", "title", "image", "metadata"}


def test_similar_gives_the_default_number_when_none_is_asked_for(client: TestClient):
    assert len(client.get(f"{path_of(KEYS[5])}/similar").json()["items"]) == CONFIG.default_k


def test_similar_never_holds_the_query_itself(client: TestClient):
    for method in ("pinsage", "text", "walk"):
        reply = client.get(f"{path_of(KEYS[7])}/similar?k=20&method={method}")
        keys = [item["key"] for item in reply.json()["items"]]
        assert keys
        assert KEYS[7] not in keys


def test_similar_answers_by_the_method_asked_for(client: TestClient):
    body = client.get(f"{path_of(KEYS[3])}/similar?method=walk").json()
    assert body["method"] == "walk"
    assert [item["key"] for item in body["items"]] == [KEYS[3 + step] for step in WALK_STEPS]


def test_a_cold_item_is_answered_by_its_embedding_and_has_no_walk(client: TestClient):
    path = path_of(KEYS[COLD])
    assert len(client.get(f"{path}/similar?k=2").json()["items"]) == 2
    assert client.get(f"{path}/similar?method=walk").json()["items"] == []


@pytest.mark.parametrize("key", ODD_KEYS.values())
def test_any_key_can_be_asked_for_percent_encoded(client: TestClient, key: str):
    assert client.get(path_of(key)).json()["key"] == key
    assert client.get(f"{path_of(key)}/similar?k=1").json()["query"]["key"] == key


def test_a_key_with_a_slash_can_be_asked_for_unencoded(client: TestClient):
    assert client.get("/v1/items/a/b").json()["key"] == "a/b"
    assert client.get("/v1/items/a/b/similar").json()["query"]["key"] == "a/b"


def test_a_plain_word_similar_in_the_path_is_the_call_and_an_encoded_slash_is_the_key(
    client: TestClient,
):
    assert client.get("/v1/items/a/similar").json()["query"]["key"] == "a"
    assert client.get("/v1/items/a%2Fsimilar").json()["key"] == "a/similar"


def test_keys_keep_their_meaning_behind_a_path_prefix(generation: Generation):
    app = build_api(generation, CONFIG)
    with TestClient(app, root_path="/books") as behind_prefix:
        assert behind_prefix.get("/books/v1/items/a%252Fb").json()["key"] == "a%2Fb"
        assert behind_prefix.get("/books/v1/items/a%2Fsimilar").json()["key"] == "a/similar"


def test_similar_to_each_answers_in_the_order_of_the_keys(client: TestClient):
    keys = [KEYS[9], KEYS[2], KEYS[9]]
    body = client.post("/v1/similar", json={"item_keys": keys, "k": 2}).json()
    assert [result["query"]["key"] for result in body["results"]] == keys
    single = client.get(f"{path_of(KEYS[2])}/similar?k=2").json()
    assert [item["key"] for item in body["results"][1]["items"]] == [
        item["key"] for item in single["items"]
    ]


def test_similar_to_each_takes_whole_numbers_for_keys(client: TestClient):
    reply = client.post("/v1/similar", json={"item_keys": [404]})
    assert assert_problem(reply, 404, "unknown_item")["item_keys"] == ["404"]


# The catalog


def test_search_finds_titles_as_they_are_typed(client: TestClient):
    body = client.get("/v1/search", params={"q": "les mis"}).json()
    assert [item["title"] for item in body["items"]] == ["Les Mis\u00e9rables"]
    assert body["items"][0]["key"] == KEYS[4]


def test_search_finds_by_author_but_not_by_a_column_of_few_values(client: TestClient):
    authors = client.get("/v1/search", params={"q": "verne"}).json()["items"]
    assert {item["metadata"]["authors"] for item in authors} == {"Jules Verne"}
    assert client.get("/v1/search", params={"q": "en"}).json()["items"] == []


def test_search_finds_an_exact_key_when_no_title_matches(client: TestClient):
    body = client.get("/v1/search", params={"q": "book-3"}).json()
    assert [item["key"] for item in body["items"]] == ["book-3"]


def test_search_has_the_item_of_an_exact_key_before_titles_of_its_words(tmp_path: Path):
    generation = Generation.open(write_generation(tmp_path, with_model=True))
    served = TestClient(build_api(generation, ServeConfig()))
    put = served.put("/v1/items/wild", json={"title": "White Teeth", "features": {"text": [1, 0]}})
    assert put.status_code == 200
    for limit in (1, 2):
        found = served.get("/v1/search", params={"q": "wild", "limit": limit}).json()["items"]
        assert [item["title"] for item in found] == ["White Teeth", "The Call of the Wild"][:limit]


def test_search_keeps_to_its_limit_and_an_empty_text_finds_nothing(client: TestClient):
    found = client.get("/v1/search", params={"q": "the", "limit": 2}).json()["items"]
    assert len(found) == 2
    assert client.get("/v1/search", params={"q": ""}).json() == {"items": []}


def test_starting_points_are_connected_distinct_and_begin_with_the_best_known(client: TestClient):
    items = client.get("/v1/items?limit=10").json()["items"]
    keys = [item["key"] for item in items]
    assert len(set(keys)) == 10
    assert keys[0] == KEYS[0]
    assert KEYS[COLD] not in keys
    assert keys == sorted(keys, key=KEYS.index)
    assert keys[-1] == KEYS[NUM_ITEMS // 2 - 1]


def test_starting_points_are_always_the_same(client: TestClient):
    assert client.get("/v1/items").json() == client.get("/v1/items").json()


# What is served


def test_generation_says_what_is_served(client: TestClient, generation: Generation):
    body = client.get("/v1/generation").json()
    assert body["generation"] == generation.parts.digest
    assert body["title"] == "Old books"
    assert body["parts"]["index"] == "index/23456789abcd"
    assert body["counts"]["items"] == NUM_ITEMS
    assert [method["name"] for method in body["methods"]] == ["pinsage", "text", "walk"]
    assert body["methods"][0]["quality"]["hit_rate@100"] == 0.1
    assert body["quality"]["popularity"]["hit_rate@10"] == 0.04
    assert (body["default_k"], body["max_k"]) == (4, 20)


def test_a_default_above_the_most_allowed_is_lowered_to_it(generation: Generation):
    config = ServeConfig(default_k=50, max_k=6)
    with TestClient(build_api(generation, config)) as small:
        assert len(small.get(f"{path_of(KEYS[5])}/similar").json()["items"]) == 6


def test_the_server_is_alive_and_ready(client: TestClient, generation: Generation):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["generation"] == generation.parts.digest


# Problems


@pytest.mark.parametrize("path", ["/v1/items/nope", "/v1/items/nope/similar", "/v1/items/"])
def test_an_unknown_key_is_a_404(client: TestClient, path: str):
    problem = assert_problem(client.get(path), 404, "unknown_item")
    assert problem["item_keys"] == ["nope" if "nope" in path else ""]
    assert problem["instance"] == path


def test_unknown_keys_of_many_are_all_listed_once(client: TestClient):
    reply = client.post("/v1/similar", json={"item_keys": ["x", KEYS[0], "x"]})
    assert assert_problem(reply, 404, "unknown_item")["item_keys"] == ["x"]
    reply = client.post("/v1/similar", json={"item_keys": ["x", KEYS[0], "y"]})
    assert assert_problem(reply, 404, "unknown_item")["item_keys"] == ["x", "y"]


@pytest.mark.parametrize("k", ["0", "-1", "21", "many", "", "1.5", "NaN", "9" * 40])
def test_a_bad_k_is_a_422_that_says_where(client: TestClient, k: str):
    reply = client.get(f"{path_of(KEYS[0])}/similar?k={k}")
    problem = assert_problem(reply, 422, "invalid_request")
    assert problem["errors"][0]["where"] == "query.k"


def test_an_unknown_method_is_a_422_that_lists_the_known_ones(client: TestClient):
    for reply, where in (
        (client.get(f"{path_of(KEYS[0])}/similar?method=magic"), "query.method"),
        (
            client.post("/v1/similar", json={"item_keys": KEYS[:1], "method": "magic"}),
            "body.method",
        ),
    ):
        problem = assert_problem(reply, 422, "invalid_request")
        assert problem["errors"][0]["where"] == where
        assert problem["detail"].startswith(f"{where}: wanted one of pinsage, text, walk")


def test_an_item_compared_with_itself_is_a_422_that_says_where(client: TestClient):
    reply = client.get(f"{path_of(KEYS[0])}/why/{KEYS[0]}")
    assert assert_problem(reply, 422, "invalid_request")["errors"][0]["where"] == "path.other_key"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"item_keys": []},
        {"item_keys": "book-1"},
        {"item_keys": [None]},
        {"item_keys": [KEYS[0]] * 4},
        {"item_keys": [KEYS[0]], "k": 0},
        {"item_keys": [KEYS[0]], "k": 21},
        {"item_keys": [KEYS[0]], "method": "magic"},
        {"item_keys": [KEYS[0]], "kk": 3},
        [],
    ],
)
def test_a_bad_body_is_a_422(client: TestClient, body: object):
    problem = assert_problem(client.post("/v1/similar", json=body), 422, "invalid_request")
    assert problem["errors"]


@pytest.mark.parametrize("content", [b"{", b"\xff", b"", b"[" * 400])
def test_a_body_that_is_not_json_is_a_422(client: TestClient, content: bytes):
    reply = client.post(
        "/v1/similar", content=content, headers={"content-type": "application/json"}
    )
    assert_problem(reply, 422, "invalid_request")


@pytest.mark.parametrize(
    "path",
    ["/v1/search", "/v1/search?q=a&limit=0", f"/v1/search?q={'a' * 201}", "/v1/items?limit=x"],
)
def test_a_bad_query_is_a_422(client: TestClient, path: str):
    assert_problem(client.get(path), 422, "invalid_request")


def test_a_body_too_large_by_its_declared_length_is_a_413(client: TestClient):
    reply = client.post("/v1/similar", json={"item_keys": ["x" * 600]})
    assert "500 bytes" in assert_problem(reply, 413, "body_too_large")["detail"]


def test_a_body_too_large_without_a_declared_length_is_a_413(client: TestClient):
    def chunks() -> Iterator[bytes]:
        yield from [b" " * 100] * 6

    reply = client.post(
        "/v1/similar", content=chunks(), headers={"content-type": "application/json"}
    )
    assert_problem(reply, 413, "body_too_large")


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/", "/app.js/..%2f..%2fapi.py", "/explorer/"])
def test_an_unknown_page_is_a_404(client: TestClient, path: str):
    assert_problem(client.get(path), 404, "not_found")


def test_a_wrong_verb_is_a_405_that_names_the_right_one(client: TestClient):
    reply = client.delete("/v1/search")
    assert_problem(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, HEAD"


def test_a_mistake_of_ours_is_a_500_that_shows_nothing_of_the_inside(
    generation: Generation, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(Answers, "search", broken)
    with TestClient(api_module.build_api(generation, CONFIG)) as fresh:
        reply = fresh.get("/v1/search?q=a")
        assert_problem(reply, 500, "internal_error")
        assert "secret" not in reply.text
        assert "Traceback" not in reply.text
        assert fresh.get("/healthz").status_code == 200


# Pages


@pytest.mark.parametrize("path", ["/", "/docs", "/app.css", "/app.js", "/docs.js", "/icon.svg"])
def test_pages_come_with_a_type_and_are_not_sent_twice(client: TestClient, path: str):
    reply = client.get(path)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith(("text/", "image/svg"))
    again = client.get(path, headers={"if-none-match": reply.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for condition in ("*", f'"other", W/{reply.headers["etag"]}'):
        assert client.get(path, headers={"if-none-match": condition}).status_code == 304
    assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200
    assert client.head(path).status_code == 200


def test_every_reply_forbids_scripts_from_elsewhere(client: TestClient):
    for path in ("/", "/docs", "/v1/items", "/nope"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "img-src *" in policy


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_pages_ask_for_nothing_from_elsewhere(client: TestClient, page: str):
    html = client.get(page).text
    addresses = re.findall(r"""(?:src|href)="([^"#]*)""", html)
    assert addresses
    for address in addresses:
        assert "//" not in address
        assert client.get(f"/{address.removeprefix('./')}").status_code == 200
    assert "<script>" not in html
    assert "style=" not in html


# The description


def test_every_call_is_described_with_its_problems(client: TestClient):
    described = client.get("/openapi.json").json()
    assert described["info"]["title"] == "Old books"
    assert set(described["paths"]) == {
        "/v1/items/{item_key}/similar",
        "/v1/similar",
        "/v1/homefeed",
        "/v1/embed",
        "/v1/search",
        "/v1/items",
        "/v1/items/{item_key}",
        "/v1/items/{item_key}/description",
        "/v1/items/{item_key}/why/{other_key}",
        "/v1/duel",
        "/v1/duel/votes",
        "/v1/map",
        "/v1/generation",
        "/v1/generations",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    for calls in described["paths"].values():
        for call in calls.values():
            assert call["summary"]
            assert call["description"]
            for status, reply in call["responses"].items():
                is_problem = "application/problem+json" in reply["content"]
                assert is_problem == (not status.startswith("2"))


def test_the_description_refers_to_nothing_it_lacks(client: TestClient):
    text = client.get("/openapi.json").text
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= set(schemas)
    assert "HTTPValidationError" not in text


def test_the_description_states_the_limits_in_force(client: TestClient):
    call = client.get("/openapi.json").json()["paths"]["/v1/items/{item_key}/similar"]["get"]
    by_name = {parameter["name"]: parameter["schema"] for parameter in call["parameters"]}
    assert (by_name["k"]["maximum"], by_name["k"]["default"]) == (20, 4)
    assert by_name["method"]["enum"] == ["pinsage", "text", "walk"]


def test_every_problem_code_has_its_place_on_the_page_its_type_points_to(client: TestClient):
    codes = client.get("/openapi.json").json()["components"]["schemas"]["Problem"]["x-codes"]
    assert {code["code"] for code in codes} >= {"unknown_item", "internal_error"}


def test_an_api_without_a_report_has_methods_without_figures(tmp_path: Path):
    bare = Generation.open(write_generation(tmp_path, with_report=False))
    with TestClient(build_api(bare, CONFIG)) as opened:
        body = opened.get("/v1/generation").json()
    assert body["quality"] == {}
    assert [method["quality"] for method in body["methods"]] == [{}, {}, {}]

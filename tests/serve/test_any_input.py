"""No input is answered with a 5xx, and every answer is as the API's description says."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from serve.schemas_embed import EmbedRequest
from tests.serve.fakes import KEYS, write_generation

EXAMPLES = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def api(generation: Generation) -> Any:
    return build_api(generation, ServeConfig(max_body_bytes=20_000))


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Any:
    # One of its own: items are written and deleted here.
    path = write_generation(tmp_path_factory.mktemp("any"), with_model=True)
    made = build_api(Generation.open(path), ServeConfig(max_body_bytes=20_000))
    # What is compiled on first use may take longer than a request may.
    made.state.current.now.embed(EmbedRequest(contexts=["shelf-1"]))
    return made


@pytest.fixture(scope="module")
def client(api: Any) -> Iterator[TestClient]:
    with TestClient(api, raise_server_exceptions=False) as opened:
        yield opened


def test_every_answer_is_as_described_and_none_is_a_mistake_of_ours(writable: Any):
    description = schemathesis.openapi.from_asgi("/openapi.json", writable)
    operations = [found.ok() for found in description.get_all_operations()]
    for operation in operations:

        @EXAMPLES
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            # Random keys are unknown ones, so every other one is replaced by one there is.
            for name, value in (case.path_parameters or {}).items():
                if len(str(value)) % 2:
                    case.path_parameters[name] = KEYS[len(str(value)) % len(KEYS)]
            case.call_and_validate(checks=CHECKS)

        check()
    assert len(operations) >= 10


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=8)
    | st.sampled_from([KEYS[0], "year", "gte", "\ud800", 10**400, -0.0, 1e308]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["year", "authors", "gte", "in", "x", ""]), inner)
    ),
    max_leaves=8,
)


@settings(EXAMPLES, max_examples=150)
@given(
    item_keys=st.just([KEYS[0]]) | anything,
    k=st.just(3) | anything,
    filter_=anything,
    exclude=st.just([]) | anything,
    path=st.sampled_from(["/v1/similar", "/v1/homefeed"]),
)
def test_no_json_is_a_mistake_of_ours(
    client: TestClient, item_keys: Any, k: Any, filter_: Any, exclude: Any, path: str
):
    body = {"item_keys": item_keys, "k": k, "filter": filter_, "exclude": exclude}
    if path == "/v1/homefeed":
        body["recent"] = [{"key": key} for key in body.pop("item_keys")] if isinstance(
            item_keys, list
        ) else item_keys  # fmt: skip
    # As a careless client writes it: NaN and half surrogates included.
    content = json.dumps(body).encode()
    reply = client.post(path, content=content, headers={"content-type": "application/json"})
    assert reply.status_code in {200, 404, 422}
    assert_whole(reply)


@settings(EXAMPLES, max_examples=150)
@given(
    path=st.sampled_from(["/v1/items/%s/similar", "/v1/items/%s", "/v1/items/%s/why/%s", "/%s"]),
    raw=st.text(
        st.sampled_from("%/\\.?#:;=&+ab2F0c~^[]{}|\"'<>\u00e9\u4e2d\u202e ")
        | st.characters(codec="utf-8"),
        max_size=12,
    ),
    query=st.text(st.sampled_from("k=&filter{}[]:\"'%0aé;exclud"), max_size=20),
)
def test_no_address_is_a_mistake_of_ours(client: TestClient, path: str, raw: str, query: str):
    url = f"http://testserver{path.replace('%s', raw)}?{query}"
    # What no client can send raw.
    sendable = (char if char.isprintable() else quote(char) for char in url)
    reply = client.get("".join(sendable))
    assert reply.status_code in {200, 404, 405, 422}
    assert_whole(reply)


BAD_BODIES = {
    "deep": b'{"item_keys":' + b"[" * 9000 + b"]" * 9000 + b"}",
    "deep filter": b'{"item_keys":["a"],"filter":' + b'{"year":' * 2000 + b"1" + b"}" * 2001,
    "huge number": b'{"item_keys":["a"],"k":' + b"9" * 5000 + b"}",
    "huge key": b'{"item_keys":[' + b"9" * 5000 + b"]}",
    "exponent": b'{"item_keys":["a"],"k":1e999}',
    "nan": b'{"item_keys":[NaN],"k":Infinity}',
    "bad UTF-8": b'{"item_keys":["\xff\xfe\xc3("]}',
    "UTF-16": '{"item_keys":["a"]}'.encode("utf-16"),
    "BOM": b'\xef\xbb\xbf{"item_keys":["a"]}',
    "half surrogate": b'{"item_keys":["\\ud800"],"exclude":["\\udfff"]}',
    "NUL": b'{"item_keys":["\\u0000"]}',
    "raw NUL": b"\x00" * 100,
    "twice": b'{"item_keys":["a"],"item_keys":[]}',
    "prototype": b'{"item_keys":["a"],"__proto__":{"k":1},"__class__":1}',
}


@pytest.mark.parametrize("content", BAD_BODIES.values(), ids=BAD_BODIES)
@pytest.mark.parametrize("path", ["/v1/similar", "/v1/homefeed"])
def test_no_body_is_a_mistake_of_ours(client: TestClient, content: bytes, path: str):
    reply = client.post(path, content=content, headers={"content-type": "application/json"})
    assert reply.status_code in {200, 404, 413, 422}
    assert_whole(reply)


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "application/xml",
        "multipart/form-data",
        "application/json;charset=x",
        "application/x-www-form-urlencoded",
        "a" * 500,
        "image/\u00e9",
    ],
)
def test_a_body_of_another_type_is_taken_as_json_or_refused(client: TestClient, kind: str):
    reply = client.post(
        "/v1/similar",
        content=b'{"item_keys":["a"]}',
        headers={"content-type": kind.encode("latin-1")},
    )
    assert reply.status_code in {200, 422}
    assert_whole(reply)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PATCH", "CONNECT", "BREW", "get"])
@pytest.mark.parametrize("path", ["/", "/v1/items/a", "/v1/similar", "/nope"])
def test_no_method_is_a_mistake_of_ours(client: TestClient, method: str, path: str):
    reply = client.request(method, path)
    assert reply.status_code in {200, 404, 405}


@pytest.mark.parametrize(
    "headers",
    [
        {"content-length": "-1"},
        {"content-length": "9" * 30},
        {"x-request-id": "a\r\nset-cookie: b"},
        {"authorization": "Bearer"},
        {"authorization": "Basic " + "\u00ff" * 20},
        {"x-api-key": "\u00ff"},
        {"host": "\u00ff"},
        {"origin": "\u00ff://["},
        {"x-forwarded-for": ",,,\u00ff"},
        {"if-none-match": '"' * 300},
        {"accept": "\u00ff" * 1000},
    ],
)
def test_no_header_is_a_mistake_of_ours(client: TestClient, headers: dict[str, str]):
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    for path in ("/v1/items/a/similar", "/", "/v1/items/nope"):
        reply = client.get(path, headers=sent)
        assert reply.status_code < 500
        assert "set-cookie" not in reply.headers
        assert_whole(reply)


@pytest.mark.parametrize(
    "path",
    ["/../serve/api.py", "/..%2fserve%2fapi.py", "/%2e%2e/keys.json", "//etc/passwd", "/.env",
     "/app.js/../../keys.json", "/..\\keys.json", "/%00", "/explorer/../index.html"],
)  # fmt: skip
def test_no_path_leads_to_a_file_that_is_no_page(client: TestClient, path: str):
    reply = client.get(f"http://testserver{path}")
    assert reply.status_code == 404 or "text/html" in reply.headers["content-type"]
    assert "import " not in reply.text


def assert_whole(reply: Any) -> None:
    """An error is a problem; nothing shows its inside."""
    if reply.status_code >= 400:
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json()["status"] == reply.status_code
    assert "Traceback" not in reply.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "x" * 9_000},
        {"filter": {"x" * 9_000: 1}},
        {"filter": {"year": {"x" * 9_000: 1}}},
        {"filter": {"year": "x" * 9_000}},
        {"x" * 9_000: 1},
    ],
    ids=["method", "column", "operator", "value", "field"],
)
def test_a_refusal_is_short_however_long_what_it_refuses_is(client: TestClient, wrong: Any):
    reply = client.post("/v1/similar", json={"item_keys": KEYS[:1]} | wrong)
    assert reply.status_code == 422
    assert len(reply.content) < 5_000

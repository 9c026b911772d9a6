"""Every error the API answers with: a JSON problem (RFC 9457) with a code that stays."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from serve.schemas import InvalidPart, Problem

logger = logging.getLogger("pinsage.serve")

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class _Kind:
    """One kind of problem."""

    status: int
    title: str


class Code(Enum):
    """Kinds of problems; names and statuses are for ever."""

    UNKNOWN_ITEM = _Kind(404, "Unknown item")
    NOT_FOUND = _Kind(404, "No such page")
    METHOD_NOT_ALLOWED = _Kind(405, "Method not allowed")
    NO_MODEL = _Kind(409, "No model to embed with")
    BODY_TOO_LARGE = _Kind(413, "Body too large")
    INVALID_REQUEST = _Kind(422, "Invalid request")
    INTERNAL_ERROR = _Kind(500, "Internal error")
    KEY_NEEDED = _Kind(401, "API key needed")
    FORBIDDEN = _Kind(403, "Forbidden")
    BODY_TOO_SLOW = _Kind(408, "Body too slow")
    URL_TOO_LONG = _Kind(414, "Address too long")
    TOO_MANY_REQUESTS = _Kind(429, "Too many requests")
    OVERLOADED = _Kind(503, "Overloaded")
    TIMED_OUT = _Kind(504, "Timed out")
    NO_MAP = _Kind(404, "No map")
    NOTHING_TO_COMPARE = _Kind(404, "Nothing to compare")
    DUPLICATE_VOTE = _Kind(409, "Duplicate vote")
    VOTES_UNAVAILABLE = _Kind(503, "Votes unavailable")
    READ_ONLY = _Kind(403, "Read-only server")
    WRITES_UNAVAILABLE = _Kind(503, "Writes unavailable")
    UNKNOWN_GENERATION = _Kind(404, "Unknown generation")
    DAMAGED_GENERATION = _Kind(409, "Damaged generation")
    NO_PREVIOUS_GENERATION = _Kind(409, "No previous generation")
    SWITCH_OVERTAKEN = _Kind(409, "Switch overtaken")
    SWITCH_UNAVAILABLE = _Kind(503, "Switching unavailable")
    MODEL_UNAVAILABLE = _Kind(503, "Model unavailable")
    REPLICA_LOST = _Kind(503, "Replica lost")

    @property
    def text(self) -> str:
        """The code as programs read it."""
        return self.name.lower()


_MOST_PARTS = 20
"""Parts of a request that cannot be used, that are told at once."""

_MOST_LETTERS = 500
"""Letters of what is told of one of them."""

_PLACES = ("path", "query", "body", "header")

_BY_STATUS = {
    400: Code.INVALID_REQUEST,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.BODY_TOO_LARGE,
    422: Code.INVALID_REQUEST,
}


class ProblemError(Exception):
    """Raised by a call to answer with a problem."""

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        item_keys: Sequence[str] | None = None,
        errors: Sequence[InvalidPart] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.item_keys = item_keys
        self.errors = errors
        self.headers = headers


def unknown_items(keys: Sequence[str]) -> ProblemError:
    """Make the problem for keys that aren't in the catalog."""
    if len(keys) == 1:
        detail = f"There is no item with the key {keys[0]!r}; find keys with /v1/search."
    else:
        detail = f"{len(keys)} of the keys are not in the catalog; find keys with /v1/search."
    return ProblemError(Code.UNKNOWN_ITEM, detail, item_keys=list(keys))


def invalid(where: str, message: str) -> ProblemError:
    """Make the problem for one part of a request that can't be used.

    Args:
        where: its place; whoever doesn't know whether it came in the path, the query or the body
            leaves that out, and the answer says it.
        message: what was wanted, and what was found.
    """
    return _invalid([InvalidPart(where=where, message=message)])


def _invalid(told: Sequence[InvalidPart]) -> ProblemError:
    parts = [
        InvalidPart(where=_cut(part.where), message=_cut(part.message))
        for part in told[:_MOST_PARTS]
    ]
    detail = "; ".join(f"{part.where}: {part.message}" for part in parts[:3])
    return ProblemError(Code.INVALID_REQUEST, detail, errors=parts)


def _cut(text: str) -> str:
    """Leave out the end of a long text: what was found may be as long as a body."""
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"


def _placed(part: InvalidPart, request: Request) -> InvalidPart:
    """Say how a part of a request came, if its place doesn't."""
    first = part.where.partition(".")[0]
    if first in _PLACES:
        return part
    place = "query" if request.method in ("GET", "DELETE") else "body"
    if first in request.path_params:
        place = "path"
    return InvalidPart(where=f"{place}.{part.where}", message=part.message)


def problem_response(error: ProblemError, instance: str) -> Response:
    """Write a problem down."""
    kind = error.code.value
    problem = Problem(
        type=f"/docs#{error.code.text}",
        title=kind.title,
        status=kind.status,
        detail=error.detail,
        code=error.code.text,
        instance=instance,
        item_keys=None if error.item_keys is None else list(error.item_keys),
        errors=None if error.errors is None else list(error.errors),
    )
    # A key that a request made up may hold half of a surrogate pair, which no encoding can.
    text = json.dumps(problem.model_dump(exclude_none=True), ensure_ascii=False)
    return Response(
        text.encode(errors="replace"),
        status_code=kind.status,
        headers=error.headers,
        media_type=MEDIA_TYPE,
    )


def internal_error() -> ProblemError:
    """Make the problem for a mistake of ours; what went wrong is in the log alone."""
    return ProblemError(
        Code.INTERNAL_ERROR, "The server made a mistake; its log says which. Please report it."
    )


def answer_with_problems(app: FastAPI) -> None:
    """Let an app answer every error with a problem."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


def described(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """Give the problems of a call, for its description; those of one status together."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        told = f"{code.value.title} (`{code.text}`)"
        before = found.get(code.value.status)
        found[code.value.status] = {
            "description": f"{before['description']}; {told}" if before else told,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return found


def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    if error.errors:
        error = _invalid([_placed(part, request) for part in error.errors])
    return problem_response(error, instance_of(request.scope))


def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    parts = [
        InvalidPart(
            where=".".join(str(part) for part in found["loc"]),
            message=_reason(found),
        )
        for found in error.errors()[:_MOST_PARTS]
    ]
    kind = request.headers.get("content-type", "none")
    if any(part.where == "body" for part in parts) and "json" not in kind.lower():
        message = f"wanted JSON, with content-type: application/json, found content-type: {kind}"
        parts = [InvalidPart(where="body", message=message)]
    return problem_response(_invalid(parts), instance_of(request.scope))


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code)
    if code is None:
        logger.error("unforeseen HTTP status %s: %s", error.status_code, error.detail)
        return problem_response(internal_error(), instance_of(request.scope))
    detail = {
        Code.NOT_FOUND: "There is nothing at this address; /docs lists every call.",
        Code.METHOD_NOT_ALLOWED: f"{request.method} can't be used here; /docs lists every call.",
        # The framework tells in one word all that its reader of JSON doesn't tell apart.
        Code.INVALID_REQUEST: "body: wanted JSON in UTF-8, not compressed, nested a few hundred "
        "levels deep at most and with numbers of at most 4,300 digits; found something else",
    }.get(code, str(error.detail))
    response = problem_response(ProblemError(code, detail), instance_of(request.scope))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    if code is Code.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(sorted(_methods_at(request)))
    return response


def _methods_at(request: Request) -> set[str]:
    """List the methods of an address, whose calls are routes of their own."""
    methods = {
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in getattr(route, "methods", None) or ()
    }
    return methods | ({"HEAD"} if "GET" in methods else set())


def _reason(found: Mapping[str, Any]) -> str:
    """Say what was wanted: in our own words, or pydantic's with those of the JSON reader."""
    reason = found.get("ctx", {}).get("error", "")
    if found["type"] == "value_error":
        return str(reason)
    message = str(found["msg"])
    return f"{message} ({reason})" if found["type"] == "json_invalid" and reason else message


def instance_of(scope: Mapping[str, Any]) -> str:
    """Give the path that was asked for, as it was written."""
    raw = scope.get("raw_path") or scope.get("path", "").encode()
    return bytes(raw).partition(b"?")[0].decode("ascii", errors="replace")


def with_refusals(replies: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add the problems that stand before every call, marked so that a page may leave them out.

    Args:
        replies: a call's own replies, by status.
    """
    codes = (
        Code.KEY_NEEDED,
        Code.FORBIDDEN,
        Code.BODY_TOO_LARGE,
        Code.BODY_TOO_SLOW,
        Code.URL_TOO_LONG,
        Code.TOO_MANY_REQUESTS,
        Code.OVERLOADED,
        Code.TIMED_OUT,
    )
    found = dict(replies)
    for status, reply in described(*codes).items():
        own = found.get(str(status))
        if own is None:
            found[str(status)] = {**reply, "x-before-every-call": True}
        elif reply["description"] not in own["description"]:
            told = f"{own['description']}; {reply['description']}"
            found[str(status)] = {**own, "description": told}
    return found

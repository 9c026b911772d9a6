"""What every request passes on its way in and out: limits, headers, and mistakes of ours."""

import logging
import re
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.problems import Code, ProblemError, instance_of, internal_error, problem_response

logger = logging.getLogger("pinsage.serve")

_KEYED = re.compile(rb"/v1/items/.")

_HEADERS = [
    # Covers come from anywhere; everything else is ours.
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src * data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Boundary:
    """ASGI middleware around the whole API.

    It refuses bodies that are too large, sets the security headers, keeps percent signs and slashes
    of item keys apart from those of the path, and answers a mistake of ours with a problem that
    doesn't show its traceback.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        try:
            self._check_length(_declared_length(scope))
            await self._app(_with_encoded_key(scope), self._counted(receive), send_with_headers)
        except HTTPException:
            too_large = ProblemError(Code.BODY_TOO_LARGE, self._too_large())
            await problem_response(too_large, instance_of(scope))(scope, receive, send_with_headers)
        except Exception:
            logger.exception("%s %s failed", scope["method"], instance_of(scope))
            if started:
                raise
            answer = problem_response(internal_error(), instance_of(scope))
            await answer(scope, receive, send_with_headers)

    def _counted(self, receive: Receive) -> Receive:
        """Count the body while it comes in: its length may not be declared."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            self._check_length(seen)
            return message

        return counted

    def _check_length(self, length: int) -> None:
        if length > self._max_body_bytes:
            raise HTTPException(413, self._too_large())

    def _too_large(self) -> str:
        return f"The body is longer than {self._max_body_bytes} bytes; send fewer items at a time."


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _with_encoded_key(scope: Scope) -> Scope:
    """Route paths with an item key as they were written, so that `%2F` in a key isn't a slash.

    The calls decode the key themselves.
    """
    root = scope.get("root_path", "")
    path = scope["path"][len(root) :]
    raw: bytes = (scope.get("raw_path") or b"").partition(b"?")[0]
    written = raw[len(quote(root)) :] if raw else quote(path).encode()
    if not _KEYED.match(written):
        return scope
    return {**scope, "path": root + written.decode("latin-1")}

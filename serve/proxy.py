"""What Ray Serve's proxies do for this server: a question that a lost replica had is asked again.

Serve's proxy sends every request to one replica. If that dies before it answers, the client gets a
bare 500, though any other replica could answer: a question changes nothing if it is asked twice.
"""

import os
from collections.abc import Iterator

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.limits import retry_after
from serve.problems import Code, ProblemError, instance_of, internal_error, problem_response
from serve.questions import changes_something

_ASKED = 3
_RETRY_S = 1.0
_READ_BY_PROXY = frozenset({b"x-request-id", b"serve_multiplexed_model_id"})
_HEALTH = "/-/"
"""Where the proxy tells load balancers of itself."""
_SERVER_ERROR = 500
_OURS = b"x-content-type-options"
"""A header of every answer that a replica gives."""

_ENVIRONMENT = {
    # A proxy that isn't there within Ray's five seconds is ended and started again, on a busy
    # machine for ever.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "50",
    # A proxy is given up, and another started, when three checks in a row have failed; Ray's ten
    # seconds between them make that half a minute without any.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.proxy.middlewares",
}
"""Ray reads these when its processes start, and has no other way to be told."""


def prepare_proxies() -> None:
    """Tell a Ray that this process will start about its proxies; what is set already stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def middlewares() -> list[Middleware]:
    """Give what Ray Serve puts around every proxy."""
    return [Middleware(AskAgain)]


class AskAgain:
    """ASGI middleware that asks once more if nobody has begun to answer.

    What may change something is not sent twice: whoever asked is told that nobody knows.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Stand before an app that returns without a word when its replica is lost."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, until there is an answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        heard: list[Message] = []
        has_begun = False
        own: ProblemError | None = None

        async def send_on(message: Message) -> None:
            nonlocal has_begun, own
            has_begun = True
            if message["type"] == "http.response.start" and not scope["path"].startswith(_HEALTH):
                own = _of_the_proxy(message)
            if own is None:
                await send(message)

        scope = {**scope, "headers": [pair for pair in scope["headers"] if _is_readable(*pair)]}
        for _ in range(1 if changes_something(scope["method"], scope["path"]) else _ASKED):
            await self._app(dict(scope), _from_the_beginning(heard, receive), send_on)
            has_left = any(message["type"] == "http.disconnect" for message in heard)
            if own is not None:
                await problem_response(own, instance_of(scope))(scope, receive, send)
            if has_begun or has_left:
                return
        lost = ProblemError(
            Code.REPLICA_LOST,
            "The process that was to answer has ended. A question may be asked again; of anything "
            "else it isn't known whether it was done.",
            headers=retry_after(_RETRY_S),
        )
        await problem_response(lost, instance_of(scope))(scope, receive, send)


def _is_readable(name: bytes, value: bytes) -> bool:
    """Tell whether Ray's proxy can read a header; it answers a bare 500 where it can't."""
    return name not in _READ_BY_PROXY or value.isascii()


def _of_the_proxy(start: Message) -> ProblemError | None:
    """Give the problem for an error in Ray's own words; None for what a replica says."""
    headers = dict(start["headers"])
    if start["status"] < _SERVER_ERROR or _OURS in headers:
        return None
    if start["status"] == Code.OVERLOADED.value.status:
        detail = "As many requests wait as may; come again in a moment."
        return ProblemError(Code.OVERLOADED, detail, headers=retry_after(_RETRY_S))
    return internal_error()


def _from_the_beginning(heard: list[Message], receive: Receive) -> Receive:
    """Give what was heard before, then what comes, which is kept for the next time."""
    again: Iterator[Message] = iter(list(heard))

    async def receive_on() -> Message:
        for message in again:
            return message
        message = await receive()
        heard.append(message)
        return message

    return receive_on

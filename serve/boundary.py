"""What every request passes on its way in and out: callers, limits, headers, our mistakes."""

import asyncio
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from anyio import CancelScope
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pinsage.cluster.boundary_config import BoundaryConfig
from pinsage.cluster.run_config import ServeConfig
from serve.accesses import log_accesses, tell_access
from serve.auth import Caller, Gate, by_name, role_needed
from serve.item_keys import with_encoded_key
from serve.limits import Places, retry_after
from serve.metrics import UNMATCHED, Metrics
from serve.problems import Code, ProblemError, instance_of, internal_error, problem_response
from serve.questions import changes_something

logger = logging.getLogger("pinsage.serve")

REQUEST_ID = b"x-request-id"

_GOOD_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_RETRY_S = 1.0

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

    It lets callers in or refuses them, bounds bodies, addresses, time and the number of requests at
    once, sets the security headers, names every request, counts and times it, keeps percent signs
    and slashes of item keys apart from those of the path, and answers a mistake of ours with a
    problem that doesn't show its traceback.
    """

    def __init__(
        self, app: ASGIApp, *, config: ServeConfig, metrics: Metrics, names_requests: bool = True
    ) -> None:
        """Stand before an app.

        Args:
            app: what answers.
            config: whom to let in, and the limits.
            metrics: where to count.
            names_requests: whether to send `x-request-id`; no where something before us does.

        Raises:
            ConfigError: the key file cannot be used.
        """
        self._app = app
        self._config = config
        self._metrics = metrics
        self._gate = Gate(config.boundary)
        self._names_requests = names_requests
        self._reads = Places(config.max_ongoing_requests)
        # Writes wait for one another, which holds up no question.
        self._writes = Places(config.max_ongoing_requests)
        self._arriving = Places(config.max_ongoing_requests * config.max_body_bytes)
        if config.boundary.access_log:
            log_accesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, names_requests=self._names_requests)
        routed = with_encoded_key(scope)
        if scope["method"] == "HEAD":
            # As GET, but that the server before us leaves the body out.
            routed["method"] = "GET"
        try:
            path = routed["path"][len(scope.get("root_path", "")) :]
            exchange.caller = self._admitted(scope, path, exchange.headers)
            exchange.is_write = changes_something(scope["method"], path)
            with exchange.within(self._config.boundary.request_timeout_s):
                if scope["method"] not in _WITHOUT_BODY and role_needed(scope["method"], path):
                    with exchange.arriving():
                        receive = await self._arrived(receive)
                with self._place(scope["method"], path):
                    exchange.is_passed_on = True
                    await self._app(routed, receive, exchange.send)
        except ProblemError as error:
            await exchange.answer(error)
        except _LeftError:
            exchange.status = _LEFT
        except asyncio.CancelledError:
            exchange.status = exchange.status or _LEFT
            raise
        except Exception:
            logger.exception(
                "request %s: %s %s failed", exchange.request_id, scope["method"], exchange.instance
            )
            if exchange.status and not exchange.has_given_up:
                raise
            await exchange.answer(internal_error())
        finally:
            await exchange.end()
            self._account(exchange, routed)

    def _admitted(self, scope: Scope, path: str, headers: Mapping[bytes, bytes]) -> Caller:
        """Refuse what may not be answered, cheapest check first."""
        limit = self._config.boundary.max_url_bytes
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > limit:
            raise ProblemError(Code.URL_TOO_LONG, f"The address is longer than {limit} bytes.")
        caller = self._gate.admit(scope["method"], path, _client_of(scope), headers)
        declared = headers.get(b"content-length", b"")
        self._check_length(int(declared) if declared.isdigit() else 0)
        return caller

    async def _arrived(self, receive: Receive) -> Receive:
        """Take a body in whole, before there is a place for it: one that comes slowly holds none.

        Its bytes are counted as they come: its length may not be declared.
        """
        body = bytearray()
        try:
            while True:
                message = await _next_part(receive)
                part = message.get("body", b"")
                if not self._arriving.take(len(part)):
                    raise _overloaded("As many bytes are arriving")
                body += part
                self._check_length(len(body), is_whole=not message.get("more_body", False))
                if not message.get("more_body", False):
                    return _after({**message, "body": bytes(body)}, receive)
        finally:
            self._arriving.free(len(body))

    @contextmanager
    def _place(self, method: str, path: str) -> Iterator[None]:
        """Hold one of the places for requests at once; health and pages need none."""
        if role_needed(method, path) is None or path == "/metrics":
            yield
            return
        is_write = changes_something(method, path)
        places = self._writes if is_write else self._reads
        if not places.take():
            what = "writes wait or are being done" if is_write else "requests are being answered"
            raise _overloaded(f"{places.taken} {what}, as many")
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            places.free()
            self._metrics.in_flight.dec()

    def _check_length(self, length: int, *, is_whole: bool = True) -> None:
        limit = self._config.max_body_bytes
        if length > limit:
            raise ProblemError(
                Code.BODY_TOO_LARGE,
                f"Wanted a body of at most {limit} bytes (serve.max_body_bytes), found "
                f"{length}{'' if is_whole else ' or more'}; send fewer items or contexts at a "
                "time, or raise that setting of the server.",
            )

    def _account(self, exchange: "_Exchange", routed: Scope) -> None:
        seconds = time.perf_counter() - exchange.started
        # What was refused was never looked for; it is only now, so that refusing stays quick.
        found = routed.get("route") if exchange.is_passed_on else _route_of(routed)
        route = getattr(found, "path", UNMATCHED)
        method = exchange.scope["method"]
        # Methods are without number too: a client may invent them.
        method = method if method in _METHODS else "other"
        self._metrics.answered(route, method, exchange.status, seconds)
        if self._config.boundary.access_log:
            caller = exchange.caller
            tell_access({
                "request_id": exchange.request_id,
                "client": caller.address if caller else _client_of(exchange.scope),
                "key": caller.key.id if caller and caller.key else None,
                "method": method,
                "path": exchange.instance,
                "route": route,
                "status": exchange.status,
                "sent_bytes": exchange.sent_bytes,
                "seconds": round(seconds, 6),
            })


_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = frozenset({*_WITHOUT_BODY, "POST", "PUT", "DELETE", "PATCH"})


_LATE_BODY = "The body did not come whole in %g s; nothing was done. Send it again, all at once."
_LATE_QUESTION = "This took too long; ask for less at a time."
_LATE_WRITE = (
    "This took too long: it isn't known whether it was done, or will be; look before you send it "
    "again."
)

_LEFT = 499
"""What a request is counted as whose client left before all of it was here, as nginx does."""


class _LeftError(Exception):
    """The client has left before its request was here."""


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, send: Send, *, names_requests: bool) -> None:
        self.scope = scope
        self.headers = by_name(scope["headers"])
        self.started = time.perf_counter()
        given = self.headers.get(REQUEST_ID, b"")
        self._id = given if _GOOD_ID.fullmatch(given) else os.urandom(12).hex().encode()
        self._named = [(REQUEST_ID, self._id)] if names_requests else []
        self.caller: Caller | None = None
        self.status = 0
        self.sent_bytes = 0
        self.has_given_up = False
        self.is_write = False
        self.is_passed_on = False
        self._is_arriving = False
        self._timeout_s = 0.0
        self._send = send
        self._waiting: CancelScope | None = None
        self._last_word: asyncio.Task[None] | None = None

    @property
    def request_id(self) -> str:
        """Its name in logs."""
        return self._id.decode("ascii")

    @property
    def instance(self) -> str:
        """The path that was asked for, as it was written."""
        return instance_of(self.scope)

    async def send(self, message: Message) -> None:
        """Send what the app answers, unless it comes too late."""
        if not self.has_given_up:
            await self._send_on(message)

    async def answer(self, error: ProblemError) -> None:
        """Answer with a problem."""
        await problem_response(error, self.instance)(self.scope, _nothing_more, self.send)

    @contextmanager
    def within(self, timeout_s: float) -> Iterator[None]:
        """Give up what takes longer without an answer.

        What waits then, for its body or for its turn, is ended; what a thread has begun is not.
        What comes without a body waits for neither, and goes without the scope that would end it,
        which costs a third of everything else here.
        """
        self._timeout_s = timeout_s
        timer = asyncio.get_running_loop().call_later(timeout_s, self._give_up)
        try:
            if self.scope["method"] in _WITHOUT_BODY:
                yield
            else:
                with CancelScope() as self._waiting:
                    yield
        finally:
            timer.cancel()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Know that it is the client who is waited for: nothing is done yet."""
        self._is_arriving = True
        try:
            yield
        finally:
            self._is_arriving = False

    async def end(self) -> None:
        """Wait until the last word is said."""
        if self._last_word is not None:
            await asyncio.wait([self._last_word])

    def _give_up(self) -> None:
        """Answer that it took too long, if there is no answer yet."""
        if self.status:
            return
        self.has_given_up = True
        late = self._late()
        if self._waiting is not None:
            self._waiting.cancel()
        answer = problem_response(late, self.instance)
        self._last_word = asyncio.ensure_future(answer(self.scope, _nothing_more, self._send_on))

    def _late(self) -> ProblemError:
        if self._is_arriving:
            # What still comes is no next request.
            headers = {"connection": "close"}
            return ProblemError(Code.BODY_TOO_SLOW, _LATE_BODY % self._timeout_s, headers=headers)
        logger.warning(
            "request %s: %s %s took too long", self.request_id, self.scope["method"], self.instance
        )
        return ProblemError(Code.TIMED_OUT, _LATE_WRITE if self.is_write else _LATE_QUESTION)

    async def _send_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self._named, *_HEADERS]}
        else:
            self.sent_bytes += len(message.get("body", b""))
        await self._send(message)


async def _nothing_more() -> Message:
    """What an answer without a question receives."""
    return {"type": "http.disconnect"}


async def _next_part(receive: Receive) -> Message:
    """Wait for more of a body.

    Raises:
        _LeftError: the client has left, or Ray ends the wait since it has.
    """
    try:
        message = await receive()
    except Exception as error:
        raise _LeftError from error
    if message["type"] == "http.disconnect":
        raise _LeftError
    return message


def _after(message: Message, receive: Receive) -> Receive:
    """Give a message, then what comes."""
    first = iter([message])

    async def receive_on() -> Message:
        for told in first:
            return told
        return await receive()

    return receive_on


def _route_of(scope: Scope) -> BaseRoute | None:
    """Find the route that a call would have had; that of another method, if it has none."""
    found = None
    for route in getattr(scope.get("app"), "routes", ()):
        how_well = route.matches(scope)[0]
        if how_well is Match.FULL:
            return cast(BaseRoute, route)
        if how_well is Match.PARTIAL and found is None:
            found = route
    return found


def _client_of(scope: Scope) -> str | None:
    """Give the address of the other end: empty over a Unix socket, None if nobody can say."""
    if client := scope.get("client"):
        address: str = client[0]
        return address
    server = scope.get("server")
    # A connection that was reset has lost its address, and may have come from anywhere.
    return "" if server and server[1] is None else None


def _overloaded(what: str) -> ProblemError:
    return ProblemError(
        Code.OVERLOADED,
        f"{what} as this server takes at a time; try again soon.",
        headers=retry_after(_RETRY_S),
    )


def allow_origins(app: FastAPI, config: BoundaryConfig) -> None:
    """Let pages of the configured web sites call an app (CORS); without any, none may."""
    if config.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.allowed_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id"],
            expose_headers=["x-request-id", "retry-after", "x-pinsage-generation"],
        )

"""The call that is made most, answered before the framework has looked at it."""

import re
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.current import answers_in
from serve.item_keys import decoded
from serve.live import Writes

_HEAD, _TAIL = "/v1/items/", "/similar"
_PLAIN = re.compile(rb"(?:k=([1-9][0-9]{0,4}))?")


@dataclass(frozen=True)
class _Route:
    """What metrics call it: as the framework's route is."""

    path: str = "/v1/items/{item_key:path}/similar"


_ROUTE = _Route()


class QuickSimilar:
    """ASGI middleware that answers a plain `GET /v1/items/{item_key}/similar`.

    Plain is a known key, nothing written since that may concern it, and no parameter but a k in
    bounds. Everything else, mistakes above all, goes on to the framework's route of the same path,
    which answers plain ones byte for byte alike.
    """

    def __init__(self, app: ASGIApp, *, writes: Writes) -> None:
        """Stand before an app.

        Args:
            app: what answers everything else.
            writes: know what was written since.
        """
        self._app = app
        self._writes = writes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        text = self._text(scope) if scope["type"] == "http" else None
        if text is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        length = (b"content-length", b"%d" % len(text))
        headers = [length, (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    def _text(self, scope: Scope) -> bytes | None:
        path: str = scope["path"]
        if not path.endswith(_TAIL) or scope["method"] != "GET":
            return None
        plain = _PLAIN.fullmatch(scope["query_string"])
        written = path.removeprefix(scope.get("root_path", ""))
        if plain is None or not written.startswith(_HEAD) or len(written) < len(_HEAD + _TAIL):
            return None
        key = written[len(_HEAD) : -len(_TAIL)]
        try:
            key = decoded(key) if "%" in key else key
        except ValueError:
            return None
        answers = answers_in(scope)
        if self._writes.lacks(answers, (key,)):
            return None
        return answers.quick_similar(key, int(plain[1]) if plain[1] else None)

"""One reference a request: what is served when it begins is what all of its answer comes from."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.answers import Answers

GENERATION_HEADER = b"x-pinsage-generation"

_ANSWERS = "pinsage.answers"


class OneReference:
    """ASGI middleware that looks once, at the beginning, at what is being served.

    Whoever answers the request finds it in the scope, so a switch of generations, or an item
    written meanwhile, changes no answer half way; the header names the generation it came from.
    """

    def __init__(self, app: ASGIApp, *, take: Callable[[], Answers]) -> None:
        """Stand before an app.

        Args:
            app: what answers.
            take: gives what is being served now.
        """
        self._app = app
        self._take = take

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answers = self._take()
        header = (GENERATION_HEADER, answers.digest.encode("ascii"))

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], header]}
            await send(message)

        scope[_ANSWERS] = answers
        await self._app(scope, receive, send_named)


def answers_in(scope: Scope) -> Answers:
    """Give what a request answers from."""
    answers = scope[_ANSWERS]
    assert isinstance(answers, Answers)
    return answers


async def _asked(request: Request) -> Answers:
    return answers_in(request.scope)


Asked = Annotated[Answers, Depends(_asked)]
"""The parameter of a call that answers from what is being served."""

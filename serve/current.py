"""One reference a request: what is served when it begins is what all of its answer comes from."""

import threading
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.answers import Answers
from serve.metrics import Metrics

GENERATION_HEADER = b"x-pinsage-generation"

_ANSWERS = "pinsage.answers"


class Current:
    """The answers in force: one reference, which is only ever replaced whole.

    Reading it takes no lock. Replacing it does, one after another, so that a switch of generations
    and an item written at the same moment both count.
    """

    def __init__(self, answers: Answers, metrics: Metrics) -> None:
        """Put the first answers in force.

        Args:
            answers: what is served from now on.
            metrics: where it is told.
        """
        self.metrics = metrics
        self._replacing = threading.Lock()
        self._now = answers
        metrics.served(answers.digest, answers.num_items)

    @property
    def now(self) -> Answers:
        """The answers in force."""
        return self._now

    def replace(self, make: Callable[[Answers], Answers]) -> Answers:
        """Put other answers in force.

        Args:
            make: gives them, from those in force; nobody else replaces them meanwhile. What it
                raises is passed on, and nothing changes.

        Returns:
            Those in force now.
        """
        with self._replacing:
            made = make(self._now)
            self._now = made
            self.metrics.served(made.digest, made.num_items)
        return made


class OneReference:
    """ASGI middleware that looks once, at the beginning, at what is being served.

    Whoever answers the request finds it in the scope, so a switch of generations, or an item
    written meanwhile, changes no answer half way; the header names the generation it came from.
    Only a write, which comes after all that is in force, may put another in the scope.
    """

    def __init__(self, app: ASGIApp, *, current: Current) -> None:
        """Stand before an app.

        Args:
            app: what answers.
            current: holds what is being served now.
        """
        self._app = app
        self._current = current

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                header = (GENERATION_HEADER, answers_in(scope).digest.encode("ascii"))
                message = {**message, "headers": [*message["headers"], header]}
            await send(message)

        answer_from(scope, self._current.now)
        await self._app(scope, receive, send_named)


def answer_from(scope: Scope, answers: Answers) -> None:
    """Say what a request answers from."""
    scope[_ANSWERS] = answers


def answers_in(scope: Scope) -> Answers:
    """Give what a request answers from."""
    answers = scope[_ANSWERS]
    assert isinstance(answers, Answers)
    return answers


async def _asked(request: Request) -> Answers:
    return answers_in(request.scope)


Asked = Annotated[Answers, Depends(_asked)]
"""The parameter of a call that answers from what is being served."""

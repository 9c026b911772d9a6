"""The calls that write items."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Request
from starlette.routing import Match

from serve.answers import Answers
from serve.current import answer_from
from serve.item_keys import WrittenKey
from serve.live import Writes
from serve.problems import Code, ProblemError, described
from serve.schemas_items import DeleteReply, PutReply, PutRequest

_Reply = TypeVar("_Reply")

_ITEM = "/v1/items/{item_key:path}"

_PROBLEMS = (
    Code.METHOD_NOT_ALLOWED,
    Code.INVALID_REQUEST,
    Code.READ_ONLY,
    Code.WRITES_UNAVAILABLE,
)


def add_items(app: FastAPI, writes: Writes) -> None:
    """Add them to an app.

    Args:
        app: the app.
        writes: where they are kept.
    """
    # Writes take effect one after another. Those that wait for their turn hold no thread, of which
    # there are some tens for all calls.
    turn = CapacityLimiter(1)

    async def written(http: Request, write: Callable[[], tuple[_Reply, Answers]]) -> _Reply:
        reply, answers = await to_thread.run_sync(write, limiter=turn)
        answer_from(http.scope, answers)
        return reply

    @app.put(
        _ITEM,
        summary="Add or change an item",
        tags=["Catalog"],
        responses=described(
            Code.NO_MODEL,
            Code.MODEL_UNAVAILABLE,
            Code.BODY_TOO_LARGE,
            *_PROBLEMS,
        ),
        dependencies=[Depends(_check_address)],
    )
    async def put_item(http: Request, item_key: WrittenKey, request: PutRequest) -> PutReply:
        """Embed an item by the model, keep it durably, and let answers have it from now on.

        The item is replaced whole. Calls that name it know it at once, whichever process answers;
        all others within a tenth of a second. It counts until a generation is served whose graph
        has its key and of whose tables one was written after this: that batch run has taken it in.
        Walks from published items don't meet it before.
        """
        return await written(http, partial(writes.put, item_key, request))

    @app.delete(
        _ITEM,
        summary="Delete an item",
        tags=["Catalog"],
        responses=described(*_PROBLEMS),
        dependencies=[Depends(_check_address)],
    )
    async def delete_item(http: Request, item_key: WrittenKey) -> DeleteReply:
        """Take an item out of answers, durably; again, or of an unknown key, changes nothing.

        Calls that name it know so at once, whichever process answers; all others within a tenth of
        a second.

        It stays out in later generations too, until its key is put again.
        """
        return await written(http, partial(writes.delete, item_key))


async def _check_address(http: Request) -> None:
    """Refuse to write to an address where a longer one is read, as if it were a key with slashes.

    Raises:
        ProblemError: the same address with GET is no item's.
    """
    asked = {**http.scope, "method": "GET"}
    read = next(route for route in http.app.routes if route.matches(asked)[0] is Match.FULL)
    if getattr(read, "path", "") != _ITEM:
        raise ProblemError(
            Code.METHOD_NOT_ALLOWED,
            f"{http.method} can't be used here, where GET tells something of an item; write a "
            "slash inside a key as %2F.",
            headers={"Allow": "GET"},
        )

"""The calls that write items."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar
from urllib.parse import unquote

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi import Path as PathPart

from serve.answers import Answers
from serve.current import answer_from
from serve.live import Writes
from serve.problems import Code, described
from serve.schemas_items import DeleteReply, PutReply, PutRequest

ItemKey = Annotated[str, PathPart(description="The item's key, percent-encoded.", examples=["1"])]

_Reply = TypeVar("_Reply")

_PROBLEMS = (Code.READ_ONLY, Code.WRITES_UNAVAILABLE)


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
        "/v1/items/{item_key:path}",
        summary="Add or change an item",
        tags=["Catalog"],
        responses=described(
            Code.NO_MODEL,
            Code.MODEL_UNAVAILABLE,
            Code.BODY_TOO_LARGE,
            Code.INVALID_REQUEST,
            *_PROBLEMS,
        ),
    )
    async def put_item(http: Request, item_key: ItemKey, request: PutRequest) -> PutReply:
        """Embed an item by the model, keep it durably, and let every answer have it from now on.

        The item is replaced whole. Other replicas look for it twenty times a second. It counts
        until a generation is served whose graph has its key and was read from its tables after
        this: that batch run has taken it in. Walks from published items don't meet it before.
        """
        return await written(http, partial(writes.put, unquote(item_key), request))

    @app.delete(
        "/v1/items/{item_key:path}",
        summary="Delete an item",
        tags=["Catalog"],
        responses=described(*_PROBLEMS),
    )
    async def delete_item(http: Request, item_key: ItemKey) -> DeleteReply:
        """Take an item out of every answer, durably; again, or of an unknown key, changes nothing.

        It stays out in later generations too, until its key is put again.
        """
        return await written(http, partial(writes.delete, unquote(item_key)))

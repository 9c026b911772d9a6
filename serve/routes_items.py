"""The calls that write items."""

from typing import Annotated
from urllib.parse import unquote

from fastapi import FastAPI
from fastapi import Path as PathPart

from serve.live import Writes
from serve.problems import Code, described
from serve.schemas_items import DeleteReply, PutReply, PutRequest

ItemKey = Annotated[str, PathPart(description="The item's key, percent-encoded.", examples=["1"])]

_PROBLEMS = (Code.READ_ONLY, Code.WRITES_UNAVAILABLE)


def add_items(app: FastAPI, writes: Writes) -> None:
    """Add them to an app.

    Args:
        app: the app.
        writes: where they are kept.
    """

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
    def put_item(item_key: ItemKey, request: PutRequest) -> PutReply:
        """Embed an item by the model, keep it durably, and let every answer have it from now on.

        The item is replaced whole. Other replicas look for it twenty times a second. It counts
        until a generation over another graph that has its key is served: that batch run has taken
        it in. Walks from published items don't meet it before.
        """
        return writes.put(unquote(item_key), request)

    @app.delete(
        "/v1/items/{item_key:path}",
        summary="Delete an item",
        tags=["Catalog"],
        responses=described(*_PROBLEMS),
    )
    def delete_item(item_key: ItemKey) -> DeleteReply:
        """Take an item out of every answer, durably; again, or of an unknown key, changes nothing.

        It stays out in later generations too, until its key is put again.
        """
        return writes.delete(unquote(item_key))

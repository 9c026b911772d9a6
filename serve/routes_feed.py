"""The calls that start from several items, and the one that explains."""

from fastapi import FastAPI, Request

from serve.asked import AskedOfItems, with_writes
from serve.item_keys import ItemKey, OtherKey
from serve.problems import Code, described
from serve.schemas_feed import HomefeedReply, HomefeedRequest, WhyReply


def add_feed(app: FastAPI) -> None:
    """Add them to an app."""

    @app.post(
        "/v1/homefeed",
        summary="Recommendations for recent items",
        tags=["Related items"],
        responses=described(Code.UNKNOWN_ITEM, Code.BODY_TOO_LARGE, Code.INVALID_REQUEST),
    )
    def homefeed(http: Request, request: HomefeedRequest) -> HomefeedReply:
        """Take recent items for a few interests, search for each, and merge what is found.

        Items that are alike make one interest, and the one in their middle is searched for. The
        list is shared out by the interests' weights from its beginning on. Recent items that aren't
        known are left out and named; if none is known, nothing is answered.
        """
        return with_writes(http, [item.key for item in request.recent]).homefeed(request)

    @app.get(
        "/v1/items/{item_key:path}/why/{other_key:path}",
        summary="What ties two items together",
        tags=["Related items"],
        responses=described(Code.UNKNOWN_ITEM, Code.INVALID_REQUEST),
    )
    def why(answers: AskedOfItems, item_key: ItemKey, other_key: OtherKey) -> WhyReply:
        """Give the graph's evidence that an item is related to another one.

        The contexts that hold both, the place of each in the other's neighborhood with the weight
        it has in what is pooled, the neighbors they share, and how closely each method relates
        them.
        """
        return answers.why(item_key, other_key)

"""The call that embeds an item without storing it."""

from fastapi import FastAPI

from serve.current import Asked
from serve.problems import Code, described
from serve.schemas_embed import EmbedReply, EmbedRequest


def add_embed(app: FastAPI) -> None:
    """Add it to an app."""

    @app.post(
        "/v1/embed",
        summary="The embedding of an item that isn't in the catalog",
        tags=["Related items"],
        responses=described(
            Code.NO_MODEL, Code.MODEL_UNAVAILABLE, Code.BODY_TOO_LARGE, Code.INVALID_REQUEST
        ),
    )
    def embed(answers: Asked, request: EmbedRequest) -> EmbedReply:
        """Walk from the contexts given, and embed with the model; nothing is kept.

        The first such call opens the model, which takes some seconds.
        """
        return answers.embed(request)

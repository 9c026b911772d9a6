"""The request and reply of `POST /v1/embed`."""

from typing import Annotated

from pydantic import ConfigDict, FailFast, Field, StringConstraints

from serve.schemas import Schema

_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

Key = Annotated[str, StringConstraints(max_length=1000)]


class EmbedRequest(Schema):
    """An item, described; all parts may be left out."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    features: dict[str, Annotated[list[_Number], FailFast()]] = Field(default_factory=dict)
    """Content features by group, as wide as those ingested; a group left out is all zeros."""

    contexts: Annotated[list[Key], FailFast()] = Field(
        default_factory=list, max_length=1_000_000, examples=[["shelf-1", "shelf-2"]]
    )
    """Keys of the contexts it is in. Without any it is a cold item."""


class EmbedNeighbor(Schema):
    """An item of its neighborhood."""

    key: str
    """The item's key."""

    weight: float
    """Its importance weight: the share it has in what is pooled."""


class EmbedReply(Schema):
    """What the model makes of the item."""

    generation: str
    """Whose model and graph that were; embeddings of different generations don't compare."""

    embedding: list[float]
    """Of length 1, so inner products with other items' embeddings are the scores of `similar`; all
    zeros where nothing is known of the item."""

    neighbors: list[EmbedNeighbor]
    """The items that walks from its contexts meet most, most visited first."""

    unknown_contexts: list[str]
    """Contexts that the graph doesn't have; they count for its degree, and nothing else."""

    missing_features: list[str]
    """Feature groups left out, which are zeros: such an item lands among those that have none."""

"""Requests and replies of the calls that write items."""

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from serve.schemas import Item, Schema, whole
from serve.schemas_embed import EmbedNeighbor, EmbedRequest

Title = Annotated[str, StringConstraints(min_length=1, max_length=10_000), AfterValidator(whole)]


def _in_words(image: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Say what is wanted, instead of the pattern."""
    try:
        return check(image)
    except ValidationError:
        raise ValueError(
            "wanted an address of http or https, a picture as data:image/..., or a path beside "
            "this page, of at most 10,000 characters and no control characters"
        ) from None


Image = Annotated[
    str,
    StringConstraints(
        max_length=10_000,
        pattern=r"^(([hH][tT][tT][pP][sS]?://|data:image/)[^\s]([^\x00-\x1f]*[^\s])?|[^\s:]([^:\x00-\x1f]*[^\s:])?)$",
    ),
    AfterValidator(whole),
    WrapValidator(_in_words),
]


def _of_64_bits(value: Any) -> Any:
    """Give a whole number that 64 bits can't hold as a float; one too large for that is refused."""
    if not isinstance(value, int) or -(2**63) <= value < 2**64:
        return value
    try:
        return float(value)
    except OverflowError:
        raise ValueError("wanted numbers that 64 bits can hold") from None


def _writable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Bring numbers to what the log and answers can hold."""
    return {
        name: [_of_64_bits(one) for one in value] if isinstance(value, list) else _of_64_bits(value)
        for name, value in metadata.items()
    }


class PutRequest(EmbedRequest):
    """An item, whole: what is left out it doesn't have, whatever it had before."""

    title: Title | None = Field(default=None, examples=["The Daughters' War"])
    """Its title; its key if left out."""

    image: Image | None = Field(default=None, examples=["https://example.com/covers/1.jpg"])
    """Where its picture is: an address of http or https, a picture as `data:image/…`, or a path
    beside this page."""

    metadata: Annotated[dict[str, Any], AfterValidator(_writable)] = Field(
        default_factory=dict, examples=[{"authors": "Christopher Buehlman", "year": 2024}]
    )
    """Values for the catalog's further columns; they must be of the columns' types. Dates and times
    are written as ISO 8601."""


class DescriptionReply(Schema):
    """An item as it would be put: all that `PUT` takes.

    Columns of structs, maps and binary are shown with items alone.
    """

    title: str
    """Its title."""

    image: str | None
    """Where its picture is; null if it has none."""

    metadata: dict[str, Any]
    """Values of the catalog's further columns."""

    features: dict[str, list[float]]
    """Content features by group; all zeros where it has none."""

    contexts: list[str]
    """Keys of the contexts it is in."""


class PutReply(Schema):
    """What is served from now on."""

    item: Item
    """The item, as every answer shows it."""

    is_new: bool
    """Whether there was no item of this key."""

    neighbors: list[EmbedNeighbor]
    """The items that walks from its contexts meet most, most visited first."""

    unknown_contexts: list[str]
    """Contexts that the graph doesn't have; they count for its degree, and nothing else."""

    missing_features: list[str]
    """Feature groups left out, which are zeros: such an item lands among those that have none."""


class DeleteReply(Schema):
    """The item is in no answer from now on, of other processes once they have looked."""

    key: str = Field(examples=["1"])
    """The key that was deleted."""

    was_there: bool
    """Whether there was an item of this key."""

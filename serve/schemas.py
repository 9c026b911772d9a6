"""Requests and replies of the API, as its description at `/docs` shows them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field

FILTER_EXAMPLE: dict[str, Any] = {"year": {"gte": 2000}, "language": ["en", "fr"]}


def whole(text: str) -> str:
    """Refuse a text that can't be written down again: JSON can spell halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # The error's own text holds what can't be written down.
        raise ValueError("half of a surrogate pair is no text") from None
    return text


Text = Annotated[str, AfterValidator(whole)]
"""A text that is whole."""


def _number(value: Any) -> Any:
    """Refuse what a whole number would else be read from: true is no 1, and a text is no number."""
    if isinstance(value, bool | str):
        raise ValueError(
            f"wanted a number, found {'a boolean' if isinstance(value, bool) else 'text'}"
        )
    return value


Whole = Annotated[int, BeforeValidator(_number)]
"""A whole number, which may be written as 3.0."""


class Schema(BaseModel):
    """The base of every request and reply."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")


class Item(Schema):
    """One item of the catalog."""

    key: str = Field(examples=["1"])
    """The key it was ingested under."""

    title: str = Field(examples=["The Hunger Games"])
    """Its title; its key if it came without one."""

    image: str | None = Field(default=None, examples=["https://example.com/covers/1.jpg"])
    """Where its picture is, if it came with one."""

    metadata: dict[str, Any] = Field(
        default_factory=dict, examples=[{"authors": "Suzanne Collins", "year": 2008}]
    )
    """Everything else that was ingested with it."""


class ScoredItem(Item):
    """A related item."""

    score: float = Field(examples=[0.87])
    """How closely it is related; scores of different methods don't compare."""


class ItemList(Schema):
    """Some items."""

    items: list[Item]


class SimilarReply(Schema):
    """An item, and what is related to it."""

    query: Item
    """The item that was asked about."""

    method: str = Field(examples=["pinsage"])
    """How the related items were found."""

    items: list[ScoredItem]
    """Related items, best first; never the item itself. Fewer than k if no more are related."""


class SimilarRequest(Schema):
    """A question about several items at once."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    item_keys: Annotated[list[Text], FailFast()] = Field(min_length=1, examples=[["1", "2"]])
    """The items asked about, in any number the server allows."""

    k: Whole | None = Field(default=None, ge=1, examples=[10])
    """Related items wanted for each; the server's default if left out."""

    method: str = Field(default="pinsage", examples=["pinsage"])
    """How to find them: one of the methods `/v1/generation` lists."""

    filter: dict[str, Any] | None = Field(default=None, examples=[FILTER_EXAMPLE])
    """Conditions on metadata that every related item meets."""

    exclude: Annotated[list[Text], FailFast()] = Field(
        default_factory=list, max_length=1000, examples=[["3"]]
    )
    """Keys that aren't answered; unknown ones change nothing."""


class SimilarBatchReply(Schema):
    """The answers, in the order of the questions."""

    results: list[SimilarReply]


class MethodInfo(Schema):
    """One way to find related items."""

    name: str = Field(examples=["pinsage"])
    """What a request says to get it."""

    label: str = Field(examples=["PinSage"])
    """A short name for people."""

    description: str
    """What it does, in one sentence."""

    quality: dict[str, float] = Field(examples=[{"hit_rate@10": 0.08, "hit_rate@500": 0.41}])
    """Its figures in the generation's report; empty if it wasn't evaluated."""


class GenerationInfo(Schema):
    """What is being served."""

    generation: str = Field(examples=["3f0c9a51d2e4"])
    """Names exactly this set of published directories."""

    title: str = Field(examples=["PinSage explorer"])
    """The catalog's title, as the page shows it."""

    parts: dict[str, str] = Field(examples=[{"graph": "graph/ab12cd34ef56"}])
    """The published directory of each stage, relative to the run's output folder."""

    counts: dict[str, int] = Field(examples=[{"items": 10000, "contexts": 45985, "edges": 909819}])
    """How large the graph is."""

    methods: list[MethodInfo]
    """Ways to find related items, PinSage first."""

    quality: dict[str, dict[str, float]]
    """Every figure of the report, by method; methods that only the report knows included."""

    default_k: int = Field(examples=[12])
    """Related items an answer holds if a request doesn't say."""

    max_k: int = Field(examples=[100])
    """The most related items a request may ask for."""


class Health(Schema):
    """The server answers."""

    status: str = Field(default="ok", examples=["ok"])


class Readiness(Schema):
    """The server has opened a generation and answers from it."""

    status: str = Field(default="ready", examples=["ready"])
    generation: str = Field(examples=["3f0c9a51d2e4"])


class InvalidPart(Schema):
    """One part of a request that can't be used."""

    where: str = Field(examples=["query.k"])
    """Its place: path, query or body, then its name."""

    message: str = Field(examples=["Input should be greater than or equal to 1"])
    """What was wanted."""


class Problem(Schema):
    """An error, as RFC 9457 describes it; `code` never changes its meaning."""

    type: str = Field(examples=["/docs#unknown_item"])
    """Where this kind of problem is described."""

    title: str = Field(examples=["Unknown item"])
    """The kind of problem, in words."""

    status: int = Field(examples=[404])
    """The HTTP status."""

    detail: str = Field(examples=["There is no item with the key 'x'."])
    """What happened this time, and what to try."""

    code: str = Field(examples=["unknown_item"])
    """The kind of problem, for programs."""

    instance: str = Field(examples=["/v1/items/x/similar"])
    """The path that was asked for."""

    item_keys: list[str] | None = None
    """The keys that aren't in the catalog (only with `unknown_item`)."""

    errors: list[InvalidPart] | None = None
    """What can't be used (only with `invalid_request`)."""

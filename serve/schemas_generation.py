"""What the calls about generations take and give."""

from typing import Literal

from pydantic import Field, model_validator

from serve.schemas import Schema

_DIGEST = r"^[0-9a-f]{12}$"


class PublishedGeneration(Schema):
    """One generation that is published."""

    generation: str = Field(examples=["3f0c9a51d2e4"])
    """Names it."""

    published_at: str = Field(examples=["2026-05-04T12:00:00Z"])
    """When its file was written, in UTC."""

    counts: dict[str, int] = Field(examples=[{"items": 10000, "contexts": 45985, "edges": 909819}])
    """How large its graph is; empty if it is damaged."""

    quality: dict[str, dict[str, float]]
    """Every figure of its report, by method; empty without a report."""

    is_served: bool
    """Whether answers come from it."""

    is_previous: bool
    """Whether `{"previous": true}` goes back to it."""

    damage: str | None = None
    """Why it can't be served, as far as that can be told without opening it."""


class FailedSwitch(Schema):
    """A switch that came to nothing."""

    generation: str = Field(examples=["3f0c9a51d2e4"])
    """The generation that was asked for."""

    reason: str
    """Why it isn't served."""


class GenerationList(Schema):
    """What is published, the newest first."""

    served: str = Field(examples=["3f0c9a51d2e4"])
    """The generation that answers come from."""

    previous: str | None = Field(default=None, examples=["9d2e43f0c9a5"])
    """The one served before; null until something was switched."""

    trouble: str | None = None
    """Why what was decided isn't in force here; null if it is."""

    failed: FailedSwitch | None = None
    """The last switch that this process was asked for, if it came to nothing, and nothing else was
    put in force since."""

    generations: list[PublishedGeneration]


class SwitchRequest(Schema):
    """Which generation to serve from now on: one of these, not both."""

    generation: str | None = Field(default=None, pattern=_DIGEST, examples=["3f0c9a51d2e4"])
    """The one of this name."""

    previous: Literal[True] | None = None
    """The one that was served before."""

    @model_validator(mode="after")
    def _one_is_named(self) -> "SwitchRequest":
        if (self.generation is None) == (self.previous is None):
            raise ValueError("wanted either `generation` or `previous`")
        return self


class SwitchReply(Schema):
    """What became of it."""

    generation: str = Field(examples=["3f0c9a51d2e4"])
    """The generation asked for."""

    state: Literal["served", "opening"]
    """`served`: every answer that begins from now on comes from it, here; other replicas follow.
    `opening`: that takes longer than a request may; `GET /v1/generations` shows when it is done, or
    what it failed for."""

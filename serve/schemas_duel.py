"""Requests and replies of the head-to-head comparison and of the map."""

from typing import Annotated

from pydantic import Field

from pinsage.evaluation.head_to_head import Choice
from serve.schemas import Item, Schema


class DuelReply(Schema):
    """Which of two answers is more related to the query?"""

    duel: str
    """What a vote must show."""

    query: Item
    """The item asked about."""

    left: list[Item]
    """One method's answer, best first."""

    right: list[Item]
    """The other's."""


class VoteRequest(Schema):
    """A person's choice."""

    duel: str = Field(min_length=1, max_length=8000, examples=["WyIzZjBjIl0.c2lnbg"])
    """The `duel` that the question came with."""

    choice: Choice = Field(examples=["left"])
    """Which answer is more related, or `equal`."""

    voter: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9_-]*$", examples=["p1"])
    """A name of the voter's own making; no question is counted twice for one. May be empty."""


class VoteReply(Schema):
    """Who stood where, now that the choice is made."""

    left: str = Field(examples=["pinsage"])
    """The method on the left."""

    right: str = Field(examples=["text"])
    """The method on the right."""

    is_new: bool
    """False if the same vote was there already; it counts once."""


class TallyInfo(Schema):
    """One pair of methods, as in Table 2 of the paper."""

    method: str = Field(examples=["pinsage"])
    rival: str = Field(examples=["text"])

    wins: int = Field(ge=0)
    """How often the method's answer was chosen."""

    losses: int = Field(ge=0)
    """How often the rival's was."""

    equal: int = Field(ge=0)
    """How often neither."""

    win_fraction: float | None = Field(examples=[0.6])
    """Wins among the votes that chose one; null without any."""

    interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        examples=[[0.45, 0.73]]
    )
    """Its 95% interval (Wilson); null without any."""


class TallyReply(Schema):
    """What all votes add up to."""

    generation: str | None
    """The generation whose votes were counted; null counts those of every generation."""

    votes: int = Field(ge=0)
    pairs: list[TallyInfo]

    damaged_lines: int = Field(ge=0)
    """Lines of the file of votes that could not be read, such as one cut short by a crash."""


class MapPoint(Schema):
    """One item on the map."""

    key: str = Field(examples=["1"])
    title: str = Field(examples=["The Hunger Games"])
    image: str | None
    degree: int = Field(ge=0)
    """Contexts it is in."""

    x: float = Field(ge=0, le=1)
    y: float = Field(ge=0, le=1)
    near: list[int]
    """Places in `points` of the nearest ones by embedding."""


class MapReply(Schema):
    """The embeddings in the plane (the paper's figure 6), as the generation's report drew them."""

    how: str = Field(examples=["t-SNE of 1,000 random items, perplexity 30"])
    points: list[MapPoint]

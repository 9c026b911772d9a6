"""Requests and replies of the calls that explain, and that start from several items."""

from typing import Annotated, Any

from pydantic import ConfigDict, FailFast, Field, StrictFloat

from serve.schemas import FILTER_EXAMPLE, Item, Schema, ScoredItem, Text, Whole


class SharedContextInfo(Schema):
    """A context that holds both items."""

    key: str = Field(examples=["shelf:123"])
    """Its key, as ingested."""

    num_items: int = Field(examples=[17])
    """How many items are in it; the fewer, the more it says."""


class NeighborInfo(Schema):
    """One item's place in another one's neighborhood."""

    rank: int = Field(examples=[3])
    """Counted from 1, most visited first."""

    weight: float = Field(examples=[0.12])
    """Its importance weight: the share it has in what is pooled."""


class CommonNeighborInfo(Schema):
    """An item in both neighborhoods."""

    item: Item
    weight: float
    """Its importance weight for the item asked about."""

    other_weight: float
    """Its importance weight for the other item."""


class WhyReply(Schema):
    """What ties an item to another one."""

    item: Item
    """The item asked about."""

    other: Item
    """The item it is tied to."""

    scores: dict[str, float] = Field(examples=[{"pinsage": 0.87, "text": 0.41}])
    """How closely each method relates them; methods that can't say are left out."""

    num_shared_contexts: int
    """How many contexts hold both."""

    shared_contexts: list[SharedContextInfo]
    """Those of them with the fewest items, at most 10."""

    neighbor: NeighborInfo | None
    """Where the other item is in this one's neighborhood; null if it isn't."""

    reverse: NeighborInfo | None
    """Where this item is in the other one's neighborhood; null if it isn't."""

    overlap: float = Field(ge=0, le=1, examples=[0.3])
    """How much of what the two pool is the same: the sum of common neighbors' smaller weights."""

    num_common_neighbors: int
    """How many items are in both neighborhoods."""

    common_neighbors: list[CommonNeighborInfo]
    """Those of them with the most weight in both, at most 10."""


class RecentItem(Schema):
    """An item that somebody has just looked at, taken, or liked."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    key: Text = Field(examples=["1"])
    """Its key."""

    weight: StrictFloat = Field(default=1.0, gt=0, le=1e6, allow_inf_nan=False, examples=[1.0])
    """How much it says about the taste, compared with the others."""

    timestamp: StrictFloat | None = Field(default=None, ge=-1e12, le=1e12, allow_inf_nan=False)
    """When it was, in seconds since 1970; what is older than others counts less. Either all recent
    items have one or none has, and they then count as given in order, the last one newest."""


class HomefeedRequest(Schema):
    """Some recent items, and what is wanted for them."""

    recent: Annotated[list[RecentItem], FailFast()] = Field(
        min_length=1, max_length=200, examples=[[{"key": "1"}, {"key": "2"}]]
    )
    """Recent items, in any order if they have timestamps, else oldest first."""

    k: Whole | None = Field(default=None, ge=1, examples=[10])
    """Recommendations wanted; the server's default if left out."""

    max_interests: Whole = Field(default=3, ge=1, le=10, examples=[3])
    """Interests that the recent items are taken for, at most; 1 goes by the last item alone."""

    half_life_s: StrictFloat | None = Field(
        default=None, gt=0, le=1e12, allow_inf_nan=False, examples=[604800]
    )
    """After so many seconds an item counts half; left out, timestamps only give the order."""

    filter: dict[str, Any] | None = Field(default=None, examples=[FILTER_EXAMPLE])
    """Conditions on metadata that every recommendation meets."""

    exclude: Annotated[list[Text], FailFast()] = Field(
        default_factory=list, max_length=1000, examples=[["3"]]
    )
    """Keys that aren't recommended, besides the recent ones; unknown ones change nothing."""


class InterestInfo(Schema):
    """Recent items that are alike."""

    key: str = Field(examples=["1"])
    """The recent item that stands for them."""

    weight: float = Field(ge=0, le=1, examples=[0.6])
    """Its share in the taste; the shares of all interests make 1."""

    item_keys: list[str] = Field(examples=[["1", "2"]])
    """The recent items it is made of."""


class FeedItem(ScoredItem):
    """A recommendation."""

    interest: str = Field(examples=["1"])
    """The key of the interest that it comes from."""


class HomefeedReply(Schema):
    """Recommendations for the recent items."""

    interests: list[InterestInfo]
    """What the recent items were taken for, most weight first."""

    items: list[FeedItem]
    """Recommendations, none of them recent, none twice."""

    unknown_keys: list[str]
    """Recent items that aren't in the catalog; they were left out."""

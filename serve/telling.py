"""Replies of several parts, put together from what was found."""

from dataclasses import asdict

import numpy as np
from jaxtyping import Float32, Int64

from serve.homefeed import Feed, Recent
from serve.live_items import Items
from serve.schemas_embed import EmbedNeighbor
from serve.schemas_feed import (
    CommonNeighborInfo,
    FeedItem,
    HomefeedReply,
    InterestInfo,
    NeighborInfo,
    SharedContextInfo,
    WhyReply,
)
from serve.why import Neighbor, Ties


def feed_reply(found: Feed, recent: Recent, items: Items, unknown_keys: list[str]) -> HomefeedReply:
    """Tell recommendations, and the interests they come from."""
    keys = [items.key(int(item_id)) for item_id in recent.ids]
    return HomefeedReply(
        interests=[
            InterestInfo(
                key=keys[interest.medoid],
                weight=min(interest.weight, 1.0),
                item_keys=[keys[place] for place in interest.members],
            )
            for interest in found.interests
        ],
        items=[
            FeedItem(
                **items.item(item_id).model_dump(),
                score=score,
                interest=keys[found.interests[interest].medoid],
            )
            for item_id, score, interest in zip(
                found.item_ids, found.scores, found.of_interest, strict=True
            )
        ],
        unknown_keys=unknown_keys,
    )


def why_reply(
    items: Items, item_id: int, other_id: int, scores: dict[str, float], ties: Ties
) -> WhyReply:
    """Tell what ties an item to another one."""
    return WhyReply(
        item=items.item(item_id),
        other=items.item(other_id),
        scores=scores,
        num_shared_contexts=ties.num_shared,
        shared_contexts=[SharedContextInfo(**asdict(shared)) for shared in ties.shared],
        neighbor=_neighbor_info(ties.neighbor),
        reverse=_neighbor_info(ties.reverse),
        overlap=ties.overlap,
        num_common_neighbors=ties.num_common,
        common_neighbors=[
            CommonNeighborInfo(
                item=items.item(common.item_id),
                weight=common.weight,
                other_weight=common.other_weight,
            )
            for common in ties.common
        ],
    )


def neighbors_told(
    items: Items,
    item_ids: Int64[np.ndarray, " neighbors"],
    weights: Float32[np.ndarray, " neighbors"],
) -> list[EmbedNeighbor]:
    """Name the published items of a neighborhood, those that are still there."""
    weighed = zip(items.now(item_ids).tolist(), weights.tolist(), strict=True)
    return [
        EmbedNeighbor(key=items.key(item_id), weight=weight)
        for item_id, weight in weighed
        if item_id >= 0
    ]


def _neighbor_info(neighbor: Neighbor | None) -> NeighborInfo | None:
    return None if neighbor is None else NeighborInfo(**asdict(neighbor))

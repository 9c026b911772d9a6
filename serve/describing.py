"""What an item is made from, as it would be put: its features, its contexts, and what is shown."""

from collections.abc import Collection

import numpy as np

from pinsage.graph.schema import LOG_DEGREE, STRUCTURE
from serve.generation import Generation
from serve.live_items import Items
from serve.schemas_items import DescriptionReply
from serve.why import Evidence


def description(
    generation: Generation,
    items: Items,
    evidence: Evidence,
    item_id: int,
    columns: Collection[str],
) -> DescriptionReply:
    """Describe an item, published or written, so that putting it again changes nothing that is put.

    Args:
        generation: where it is published.
        items: what was written on top of that.
        evidence: knows the contexts of both.
        item_id: the item.
        columns: those that an item's metadata is put into.
    """
    graph, item = generation.graph, items.item(item_id)
    live = items.live.get(item_id)
    if live is None:
        row = graph.features().gather(np.array([item_id]))[0]
        catalog, unknown = generation.catalog, []
        own = catalog.own_columns
        metadata = {
            name: value
            for name, value in catalog.metadata(item_id).items()
            if name in columns and name not in own and value is not None
        }
    else:
        metadata = dict(live.metadata)
        row, unknown = live.features, live.unknown_contexts
    known = graph.context_keys().take(evidence.contexts_of(item_id)).to_pylist()
    return DescriptionReply(
        title=item.title,
        image=item.image,
        metadata=metadata,
        features={
            name: row[columns].astype(float).tolist()
            for name, columns in graph.feature_columns.items()
            if name not in {LOG_DEGREE, STRUCTURE}
        },
        contexts=[str(key) for key in known] + unknown,
    )

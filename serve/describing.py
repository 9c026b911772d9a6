"""What an item is made from, as it would be put: its features, its contexts, and what is shown."""

from collections.abc import Collection

import numpy as np

from pinsage.graph.schema import LOG_DEGREE, STRUCTURE
from serve.generation import Generation
from serve.live_items import Items
from serve.schemas_items import DescriptionReply


def description(
    generation: Generation, items: Items, item_id: int, columns: Collection[str]
) -> DescriptionReply:
    """Describe an item, published or written, so that putting it again changes nothing that is put.

    Args:
        generation: where it is published.
        items: what was written on top of that.
        item_id: the item.
        columns: those that an item's metadata is put into.
    """
    graph, item = generation.graph, items.item(item_id)
    live = items.live.get(item_id)
    if live is None:
        row = graph.features().gather(np.array([item_id]))[0]
        adjacency = graph.adjacency()
        place = slice(*adjacency.item_starts[item_id : item_id + 2])
        context_ids, unknown = adjacency.item_contexts[place], []
        catalog = generation.catalog
        own = catalog.own_columns
        metadata = {
            name: value
            for name, value in catalog.metadata(item_id).items()
            if name in columns and name not in own and value is not None
        }
    else:
        metadata = dict(live.metadata)
        row, context_ids, unknown = live.features, live.context_ids, live.unknown_contexts
    known = graph.context_keys().take(np.asarray(context_ids, np.int64)).to_pylist()
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

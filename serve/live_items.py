"""The items that answers speak of: those published, and those written while serving.

A written item gets an id behind all that were given before; so does one that is changed, and its
old id is hidden. No id ever means two things, so whatever is kept by id stays true.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import orjson
from jaxtyping import Float32, Int, Int64

from pinsage.graph import Catalog
from pinsage.sampling.neighborhood import Neighborhoods
from serve.schemas import Item

GONE = -1
"""Where a hidden item has moved to if it was deleted."""


@dataclass(frozen=True)
class LiveItem:
    """An item written while serving, as the model of one generation takes it.

    Attributes:
        item: what answers show.
        metadata: all that it was put with but nulls, as JSON.
        values: its metadata as filters compare it, by column.
        embedding: of unit length.
        features: its layer-0 row.
        context_ids: the contexts of the graph that it is in, ascending.
        unknown_contexts: keys of those that the graph doesn't have.
        neighbor_ids: published items of its neighborhood, most visited first.
        neighbor_weights: their importance weights.
    """

    item: Item
    metadata: Mapping[str, object]
    values: Mapping[str, object]
    embedding: Float32[np.ndarray, " width"] = field(repr=False)
    features: Float32[np.ndarray, " features"] = field(repr=False)
    context_ids: Int64[np.ndarray, " contexts"]
    unknown_contexts: list[str]
    neighbor_ids: Int64[np.ndarray, " neighbors"]
    neighbor_weights: Float32[np.ndarray, " neighbors"]

    @property
    def num_contexts(self) -> int:
        """All contexts, unknown ones included."""
        return len(self.context_ids) + len(self.unknown_contexts)

    @cached_property
    def text(self) -> bytes:
        """Its JSON object."""
        return orjson.dumps(self.item.model_dump())


@dataclass(frozen=True)
class Change:
    """What some writes come to.

    Attributes:
        added: new ids, ascending and without a gap, and their items.
        gone: ids that are hidden from now on.
    """

    added: dict[int, LiveItem]
    gone: list[int]


class Items:
    """All items by id and by key; never changed, only replaced."""

    def __init__(
        self,
        catalog: Catalog,
        live: Mapping[int, LiveItem] | None = None,
        moved: Mapping[int, int] | None = None,
        next_id: int | None = None,
    ) -> None:
        """Put written items beside a catalog.

        Args:
            catalog: the published items.
            live: written items that are there, by id.
            moved: where hidden published ids have moved to; `GONE` if the item was deleted.
            next_id: the id of the next item.
        """
        self.catalog = catalog
        self.live = dict(live or {})
        self.next_id = len(catalog) if next_id is None else next_id
        self._moved = dict(moved or {})
        self._ids = {found.item.key: item_id for item_id, found in self.live.items()}
        self._hidden = np.array(sorted(self._moved), dtype=np.int64)
        self._places = np.array([self._moved[int(i)] for i in self._hidden], dtype=np.int64)

    @property
    def num_published(self) -> int:
        """Published items that are there as they were published."""
        return len(self.catalog) - len(self._moved)

    @property
    def hidden(self) -> Int64[np.ndarray, " hidden"]:
        """Ids of published items that were changed or deleted, ascending."""
        return self._hidden

    @property
    def is_as_published(self) -> bool:
        """Whether no write counts."""
        return not self.live and not self._moved

    def is_written(self, key: str) -> bool:
        """Tell whether a write to a key counts."""
        return key in self._ids or self.catalog.id_of(key) in self._moved

    def is_published(self, key: str) -> bool:
        """Tell whether the graph has an item, hidden or not."""
        return self.catalog.id_of(key) is not None

    def id_of(self, key: str) -> int | None:
        """Find the id of a key given as text; None if there is no such item."""
        found = self._ids.get(key)
        if found is None:
            found = self.catalog.id_of(key)
            if found is not None and self._moved and found in self._moved:
                return None
        return found

    def key(self, item_id: int) -> str:
        """Tell the key of an id."""
        live = self.live.get(item_id)
        return self.catalog.keys[item_id] if live is None else live.item.key

    def item(self, item_id: int) -> Item:
        """Describe an item."""
        live = self.live.get(item_id)
        return published_item(self.catalog, item_id) if live is None else live.item

    def now(self, item_ids: Int[np.ndarray, " ids"]) -> Int[np.ndarray, " ids"]:
        """Say where published items are by now.

        Args:
            item_ids: published ids, or -1.

        Returns:
            The same ids, those of changed items replaced; `GONE` for deleted items.
        """
        if not len(self._hidden):
            return item_ids
        found = np.minimum(np.searchsorted(self._hidden, item_ids), len(self._hidden) - 1)
        return np.where(self._hidden[found] == item_ids, self._places[found], item_ids)

    def written(
        self, puts: Mapping[str, LiveItem], deleted: Sequence[str]
    ) -> tuple["Items", Change]:
        """Take in writes.

        Args:
            puts: new or changed items, by key.
            deleted: keys of items to forget, none of them put; unknown ones change nothing.

        Returns:
            What there is then, and what that changes.
        """
        live, moved = dict(self.live), dict(self._moved)
        added: dict[int, LiveItem] = {}
        gone: list[int] = []
        for key in (*puts, *deleted):
            old = self.id_of(key)
            if old is not None:
                gone.append(old)
                live.pop(old, None)
            if key in puts:
                new = self.next_id + len(added)
                live[new] = added[new] = puts[key]
            published = self.catalog.id_of(key)
            if published is not None:
                moved[published] = new if key in puts else GONE
        return Items(self.catalog, live, moved, self.next_id + len(added)), Change(added, gone)


class LiveNeighborhoods:
    """The neighborhood of any item, made of items that are there."""

    def __init__(self, neighborhoods: Neighborhoods, items: Items) -> None:
        """Hold the published table and the items."""
        self._table = neighborhoods
        self._items = items

    def over(self, items: Items) -> "LiveNeighborhoods":
        """Give the same table over other items."""
        return LiveNeighborhoods(self._table, items)

    def row(
        self, item_id: int
    ) -> tuple[Int[np.ndarray, " neighbors"], Float32[np.ndarray, " neighbors"]]:
        """Give an item's neighbors, most visited first, and their importance weights."""
        live = self._items.live.get(item_id)
        if live is None:
            ids, weights = self._table.ids[item_id], self._table.weights[item_id]
        else:
            ids, weights = live.neighbor_ids, live.neighbor_weights
        ids = self._items.now(ids)
        return ids[ids >= 0], weights[ids >= 0]


def published_item(catalog: Catalog, item_id: int) -> Item:
    """Describe a published item."""
    own = catalog.own_columns
    metadata = {name: value for name, value in catalog.metadata(item_id).items() if name not in own}
    return described(
        catalog.keys[item_id], catalog.title(item_id), catalog.image(item_id), metadata
    )


def described(key: str, title: str, image: str | None, metadata: Mapping[str, object]) -> Item:
    """Describe an item; what is empty is not said.

    Args:
        key: its key.
        title: its title.
        image: where its picture is.
        metadata: everything else, without the columns of title and picture.
    """
    kept = {name: value for name, value in metadata.items() if value not in (None, "")}
    return Item(key=key, title=title, image=image, metadata=kept)

"""Written items, made ready for answers: checked against the catalog, and embedded."""

import datetime
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pinsage.graph import Catalog
from pinsage.graph.schema import ITEM_KEY
from serve.embedding import Description, Embedded, Embedder
from serve.filters import FilterError, Filters
from serve.live_items import LiveItem, described
from serve.problems import invalid
from serve.schemas_items import PutRequest

_LONGEST_KEY = 500
_EMBEDDED_AT_ONCE = 128


class Maker:
    """Makes written items of one generation."""

    def __init__(self, catalog: Catalog, filters: Filters, embedder: Embedder) -> None:
        """Hold what an item is checked against, and what embeds it."""
        self._catalog = catalog
        self._filters = filters
        self._embedder = embedder

    def check(self, key: str, request: PutRequest) -> None:
        """Refuse what can't be an item here.

        Raises:
            ProblemError: there is no model, or a part of the item doesn't fit the generation.
        """
        if self._catalog.id_of(key) is None:
            _check_key(key)
        self._values(key, request)
        self._embedder.check(request.features)

    def make(self, requests: Mapping[str, PutRequest]) -> dict[str, LiveItem]:
        """Embed items that were checked, some at a time.

        Args:
            requests: the items, by key.

        Returns:
            Them, but for those whose features make the model's numbers overflow.
        """
        keys, made = list(requests), {}
        for start in range(0, len(keys), _EMBEDDED_AT_ONCE):
            part = keys[start : start + _EMBEDDED_AT_ONCE]
            embedded = self._embedder.embed([
                Description(
                    requests[key].features, requests[key].contexts, self._catalog.id_of(key)
                )
                for key in part
            ])
            for key, found in zip(part, embedded, strict=True):
                if not found.is_finite:
                    continue
                made[key] = self._live(key, requests[key], found)
        return made

    def _live(self, key: str, request: PutRequest, embedded: Embedded) -> LiveItem:
        values = self._values(key, request)
        shown = {
            name: _shown(values[name], given)
            for name, given in request.metadata.items()
            if given is not None
        }
        return LiveItem(
            item=described(key, _title(key, request.title), request.image, shown),
            metadata=shown,
            values=values,
            embedding=embedded.embedding,
            features=embedded.features,
            context_ids=embedded.context_ids,
            unknown_contexts=embedded.unknown_contexts,
            neighbor_ids=embedded.neighbor_ids,
            neighbor_weights=embedded.neighbor_weights,
        )

    def _values(self, key: str, request: PutRequest) -> dict[str, Any]:
        """Bring everything that filters compare to the catalog's types."""
        own = {self._catalog.title_column: "title", self._catalog.image_column: "image"}
        own.pop("", None)
        values: dict[str, Any] = {}
        for name, value in request.metadata.items():
            if name == ITEM_KEY:
                raise invalid(f"body.metadata.{name}", "wanted in the path alone")
            if name in own:
                raise invalid(f"body.metadata.{name}", f"wanted as `{own[name]}` of the item")
            try:
                values[name] = self._filters.value_of(name, value)
            except FilterError as error:
                raise invalid(f"body.metadata.{error.where}", error.message) from error
        for name, said in own.items():
            values[name] = self._own_value(name, getattr(request, said))
        return {**values, ITEM_KEY: _stored_key(key, self._catalog.table[ITEM_KEY].type)}

    def _own_value(self, name: str, text: str | None) -> Any:
        """Bring a title or picture to its column's type; a column of numbers has none for it."""
        try:
            return self._filters.value_of(name, text)
        except FilterError:
            return None


def _title(key: str, given: str | None) -> str:
    return given if given and not given.isspace() else key


def _check_key(key: str) -> None:
    """Refuse new keys that nobody could type, read or send again."""
    if not 1 <= len(key) <= _LONGEST_KEY:
        raise invalid("path.item_key", f"wanted 1 to {_LONGEST_KEY} characters, found {len(key)}")
    if key in {".", ".."}:
        raise invalid("path.item_key", f"wanted a key that stays in an address, found {key!r}")
    odd = [char for char in key if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}]
    if odd:
        raise invalid("path.item_key", f"wanted no control characters, found {odd[0]!r}")


def _stored_key(key: str, kind: pa.DataType) -> Any:
    """Bring a key to the type of the catalog's keys; None if none of that type is written so."""
    try:
        found = pa.scalar(key).cast(kind)
    except pa.ArrowInvalid:
        return None
    return found.as_py() if str(found) == key else None


def _shown(value: Any, given: Any) -> Any:
    """Show a value as JSON can hold it: a time, or a number beyond floats, as it was written."""
    first: Any = value[0] if isinstance(value, Sequence) and value else value
    is_rounded = isinstance(given, int) and given != value
    return given if is_rounded or isinstance(first, datetime.date) else value

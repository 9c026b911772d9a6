"""Items found by what somebody types: words of their titles and the like, or their very key."""

from collections.abc import Sequence

from jaxtyping import Int
from numpy import ndarray

from pinsage.graph import Catalog
from serve.live_items import Items
from serve.search import TitleSearch, further_columns, further_words, search_written


class Finder:
    """The search of one generation, over whatever was written on top of it."""

    def __init__(self, catalog: Catalog, degrees: Int[ndarray, " items"]) -> None:
        """Read the words of every item.

        Args:
            catalog: the published items.
            degrees: how many contexts each is in; the better known come first.
        """
        self._further = further_columns(catalog.table)
        texts = zip(*(catalog.table[name].to_pylist() for name in self._further), strict=True)
        more = [further_words(row) for row in texts] or [""] * len(catalog)
        self._titles = TitleSearch(catalog.titles, more, degrees)

    def find(self, text: str, limit: int, items: Items) -> list[int]:
        """Find items by the words of their titles, and the item of that very key.

        Args:
            text: what was typed.
            limit: how many items at most.
            items: the published items with what was written.

        Returns:
            Item ids, best first.
        """
        if items.is_as_published:
            found = self._titles.search(text, limit)
        else:
            found = self._with_written(text, items)[:limit]
        exact = items.id_of(text)
        if exact is None:
            return found
        return with_exact(found, exact, limit, is_number=text.isdigit())

    def _with_written(self, text: str, items: Items) -> list[int]:
        """Search published items that are as they were, and written ones."""
        found = self._titles.scored(text, items.hidden)
        found += search_written(items.live, self._further, text)
        return [item_id for _, item_id in sorted(found, key=lambda pair: (-pair[0], pair[1]))]


def with_exact(found: Sequence[int], exact: int, limit: int, *, is_number: bool) -> list[int]:
    """Put the item of a key that was typed among those found by titles.

    It comes first. Where the key is a number it comes last: numbers are in titles too.

    >>> with_exact([1, 2, 3], 9, 3, is_number=False), with_exact([1, 2, 3], 9, 3, is_number=True)
    ([9, 1, 2], [1, 2, 9])
    """
    others = [other for other in found if other != exact]
    if not is_number:
        return [exact, *others][:limit]
    return list(found) if exact in found else [*others[: max(limit - 1, 1)], exact][:limit]

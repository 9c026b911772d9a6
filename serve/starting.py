"""Items to start from, the best known first."""

import numpy as np
from jaxtyping import Int64

from serve.live_items import Items

_LOOKED_AT = 64
"""Items looked at together for one that is there."""


class StartingPoints:
    """The published items by popularity; what was written since only takes items out."""

    def __init__(self, degrees: Int64[np.ndarray, " items"]) -> None:
        """Order the items.

        Args:
            degrees: how many contexts each is in.
        """
        self._by_degree = np.argsort(-degrees, kind="stable")
        self._num_connected = int((degrees > 0).sum())
        self._reach = self._num_connected or len(degrees)

    def best_known(self, limit: int, items: Items) -> list[int]:
        """Give ids of those of the most popular published items that are still there."""
        found: list[int] = items.now(self._by_degree[:limit]).tolist()
        return [item_id for item_id in found if item_id >= 0]

    def spread(self, limit: int, items: Items) -> list[int]:
        """Give ids of connected items, from the best known towards the rarer half."""
        reach = max(self._num_connected // 2, 1) if self._num_connected else len(self._by_degree)
        steps = np.geomspace(1, max(reach, 1), num=min(limit, reach))
        ranks = (np.maximum(np.round(steps), np.arange(1, len(steps) + 1)) - 1).astype(np.int64)
        found: dict[int, None] = {}
        for rank in ranks:
            item_id = self._living(int(rank), items, found)
            if item_id is not None:
                found[item_id] = None
        return list(found)

    def drawn(self, draw: float, items: Items) -> int | None:
        """Give the id of a connected item, the better known the likelier; None if all are gone.

        Args:
            draw: a number in [0, 1), which decides.
            items: what there is.
        """
        rank = min(int((self._reach + 1) ** draw), self._reach) - 1
        found = self._living(rank, items, {})
        return self._living(0, items, {}) if found is None else found

    def _living(self, rank: int, items: Items, taken: dict[int, None]) -> int | None:
        """The first item from a rank on that is there and not taken yet."""
        for start in range(rank, len(self._by_degree), _LOOKED_AT):
            for item_id in items.now(self._by_degree[start : start + _LOOKED_AT]).tolist():
                if item_id >= 0 and item_id not in taken:
                    return int(item_id)
        return None

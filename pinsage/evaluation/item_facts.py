"""What a report knows of every item, beside how methods rank it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int, Integer

Content: TypeAlias = Callable[[Int[np.ndarray, " n"]], Float32[np.ndarray, "n width"]]
"""Gives the content of some items, one row an item, of any length."""


@dataclass(frozen=True)
class ItemFacts:
    """Facts by item id.

    Raises:
        ValueError: something has another length than `titles`.
    """

    titles: Sequence[str]
    images: Sequence[str | None]
    """Each item's picture, if it has one."""
    degrees: Integer[np.ndarray, " items"]
    """Contexts of each item, those kept for cold items counted."""
    content: Content | None = None
    """What the diversity of lists is taken of; None takes none."""
    cold: Bool[np.ndarray, " items"] | None = None
    """Items that training did not see, whose pairs are looked at by themselves; None has none."""

    def __post_init__(self) -> None:
        for name in ("images", "degrees", "cold"):
            found = getattr(self, name)
            if found is not None and len(found) != len(self.titles):
                raise ValueError(f"wanted {name} of {len(self.titles)} items, found {len(found)}")

    def __len__(self) -> int:
        return len(self.titles)

    def describe(self, item_id: int) -> dict[str, Any]:
        """Give what is shown of one item."""
        return {
            "item_id": item_id,
            "title": self.titles[item_id],
            "image": self.images[item_id],
            "degree": int(self.degrees[item_id]),
        }

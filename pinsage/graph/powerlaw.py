"""`PowerLaw`: a bipartite graph of any size with power-law degrees and communities, in parts.

Nothing is held in memory but the part at hand. A context's edges are a pure function of the
settings and the context, and a part is every `num_parts`-th context, so parts are alike, can be
drawn in any order or at the same time, and the graph doesn't depend on how many there are.
"""

import numpy as np
from jaxtyping import Int, Int64
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from pinsage.base.config import Config
from pinsage.base.seeding import Stream, stream_key
from pinsage.kernels.powerlaw import (
    GraphShape,
    context_sizes,
    power_law_edges,
    power_law_pairs,
    ranks_of,
)

# What the draws are for, apart from those of `synthetic.py`, which count from 0.
_DRAWS, _ITEM_ORDER, _CONTEXT_ORDER = range(100, 103)

_EDGES_PER_PART = 2**22


class PowerLaw(Config):
    """The shape of a graph; equal settings give equal graphs."""

    num_items: PositiveInt = 1_000_000
    """Items, cold ones included: those that no context happens to draw."""
    num_contexts: PositiveInt = 300_000
    """Contexts; where there are few edges for them, the last may have none."""
    num_edges: PositiveInt = 10_000_000
    """Edges, each (item, context) once."""
    exponent: NonNegativeFloat = 0.75
    """Within its community and in the whole catalog, the node of popularity rank r is drawn in
    proportion to r to the power of minus this; the number of nodes of degree d then falls about as
    d to the power of -(1 + 1 / exponent)."""
    num_communities: PositiveInt = 2_000
    """Groups that items and contexts are in; 1 for a graph without communities."""
    stray_share: float = Field(default=0.2, ge=0, le=1)
    """Share of a context's items that come from the whole catalog. A context that would hold more
    than half of its community takes its further items from the catalog too."""
    seed: NonNegativeInt = 0
    """Decides everything drawn."""

    @model_validator(mode="after")
    def _contexts_fit(self) -> "PowerLaw":
        if self.num_items < 2 * self.num_communities:
            raise ValueError(
                f"num_communities is {self.num_communities}, so num_items must be at least "
                f"{2 * self.num_communities}, found {self.num_items}"
            )
        largest = int(self.context_sizes(np.zeros(1, np.int64))[0])
        if largest > self.num_items // 2:
            raise ValueError(
                f"the largest context would hold {largest} of the {self.num_items} items, wanted "
                "at most half; lower num_edges or exponent, or raise num_items or num_contexts"
            )
        return self

    def num_parts(self, edges_per_part: int = _EDGES_PER_PART) -> int:
        """Say in how many parts to draw the graph, so that a part has about so many edges."""
        return max(1, min(self.num_contexts, round(self.num_edges / edges_per_part)))

    def edges_of_part(
        self, part: int, num_parts: int
    ) -> tuple[Int[np.ndarray, " edges"], Int[np.ndarray, " edges"]]:
        """Draw the edges of the contexts whose rank is `part`, `part + num_parts` and so on.

        Args:
            part: which part, from 0.
            num_parts: how many parts there are.

        Returns:
            Item ids and context ids, in no order; int32 where all ids fit, else int64.

        Raises:
            ValueError: there is no such part.
        """
        if not 0 <= part < num_parts:
            raise ValueError(f"wanted a part from 0 to {num_parts - 1}, found {part}")
        most = max(self.num_items, self.num_contexts)
        return power_law_edges(
            self._shape,
            np.arange(part, self.num_contexts, num_parts),
            np.dtype(np.int32 if most <= np.iinfo(np.int32).max else np.int64),
        )

    def pairs(
        self, first: int, count: int
    ) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
        """Draw pairs number `first` and on: two distinct items of one community each.

        Returns:
            Item ids of the queries and of the positives.
        """
        return power_law_pairs(self._shape, first, count)

    def context_sizes(self, ranks: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Count the edges of contexts, by popularity rank, from 0."""
        return context_sizes(
            ranks,
            num_contexts=self.num_contexts,
            num_edges=self.num_edges,
            exponent=self.exponent,
        )

    def item_communities(self, item_ids: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Tell the community of items."""
        return ranks_of(item_ids, self.num_items, int(self._shape.item_key)) % self.num_communities

    def context_communities(self, context_ids: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Tell the community of contexts."""
        ranks = ranks_of(context_ids, self.num_contexts, int(self._shape.context_key))
        return ranks % self.num_communities

    @property
    def _shape(self) -> GraphShape:
        return GraphShape(
            num_items=self.num_items,
            num_contexts=self.num_contexts,
            num_edges=self.num_edges,
            exponent=self.exponent,
            num_communities=self.num_communities,
            stray_share=self.stray_share,
            draw_key=self._key(_DRAWS),
            item_key=self._key(_ITEM_ORDER),
            context_key=self._key(_CONTEXT_ORDER),
        )

    def _key(self, purpose: int) -> np.uint64:
        return np.uint64(stream_key(self.seed, Stream.SYNTHETIC, purpose))

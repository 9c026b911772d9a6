"""How a walk chooses among a node's edges: alike, by weight, by age, by the item's degree."""

import numpy as np
from jaxtyping import Float32, Float64, Int64
from pydantic import PositiveFloat

from pinsage.base.config import Config
from pinsage.base.errors import DataError
from pinsage.graph.adjacency import AdjacencyShard, BipartiteAdjacency
from pinsage.kernels.alias import faded_weights

Chances = Float64[np.ndarray, " edges"]


class ChoiceConfig(Config):
    """Which of a node's edges a walk prefers. The paper chooses uniformly."""

    by_weight: bool = True
    """Follow the edges' weights, if the edges tables have a `weight` column."""
    half_life: PositiveFloat | None = None
    """Age at which an edge counts half: seconds where times are timestamps, else the time column's
    own unit. None lets edges count alike at any age."""
    degree_power: float = 0.0
    """From a context, an item's chance is multiplied by its degree to this power: above 0 prefers
    popular items, below 0 rare ones."""


def edge_chances(
    adjacency: BipartiteAdjacency | AdjacencyShard,
    choice: ChoiceConfig,
    item_degrees: Int64[np.ndarray, " items"],
) -> tuple[Float64[np.ndarray, " item_edges"] | None, Float64[np.ndarray, " context_edges"] | None]:
    """Weigh the edges of items, and of contexts, for the choices of a walk.

    Args:
        adjacency: the whole graph or one shard; a row's chances depend on that row alone.
        choice: what to prefer.
        item_degrees: the degree of every item of the whole graph.

    Returns:
        float64 [edges] for choosing a context, and for choosing an item; None where all are alike.

    Raises:
        DataError: `half_life` is set but the graph's edges have no times.
    """
    of_items = faded(adjacency.item_starts, adjacency.item_weights, adjacency.item_ages, choice)
    of_contexts = faded(
        adjacency.context_starts, adjacency.context_weights, adjacency.context_ages, choice
    )
    if choice.degree_power != 0.0:
        # An item reached through an edge has at least that edge.
        factors = item_degrees[adjacency.context_items].astype(np.float64) ** choice.degree_power
        of_contexts = factors if of_contexts is None else of_contexts * factors
    return of_items, of_contexts


def faded(
    starts: Int64[np.ndarray, " starts"],
    weights: Float32[np.ndarray, " edges"] | None,
    ages: Float32[np.ndarray, " edges"] | None,
    choice: ChoiceConfig,
) -> Chances | None:
    """Weigh the edges of some rows by weight and age alone; None where all are alike.

    Raises:
        DataError: `half_life` is set but the edges have no times.
    """
    if not choice.by_weight:
        weights = None
    if choice.half_life is None:
        return None if weights is None else weights.astype(np.float64)
    if ages is None:
        raise DataError(
            "walk.choice.half_life is set, but the graph's edges have no times; give every table "
            "of data.edges a `timestamp`, or leave half_life out"
        )
    return faded_weights(starts, weights, ages, choice.half_life)

"""Pixie's random walks (Eksombatchai et al., WWW 2018), on the same graph and by the same kernel.

Its published ideas: walks choose among edges by what they are worth (`walk.choice`), popular query
items get more walks, items met from several query items count for more, and walking ends early once
enough items were met often enough.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64
from pydantic import NonNegativeInt, PositiveInt

from pinsage.base.config import Config
from pinsage.base.seeding import Stream, stream_key
from pinsage.kernels.packing import PackedAdjacency
from pinsage.kernels.visits import add_visits
from pinsage.kernels.walks import random_walks
from pinsage.sampling.neighborhood import Probability


class PixieConfig(Config):
    """How far and how long Pixie walks."""

    num_walks: PositiveInt = 10_000
    """Most walks, over all items of a query."""
    walk_length: PositiveInt = 2
    """Most item-context-item steps of one walk."""
    restart: Probability = 0.5
    """Chance that a walk jumps home after a step."""
    enough_items: NonNegativeInt = 2_000
    """Walking ends once so many items (Pixie's n_p) were met `enough_visits` times; 0 never ends
    it early."""
    enough_visits: PositiveInt = 4
    """Pixie's n_v."""
    walks_per_round: PositiveInt = 1_000
    """Walks between two looks at whether it is enough."""


class Pixie:
    """Visit counts of random walks from one query item, or from several together.

    Items that no walk visits tie at 0. Equal arguments give equal scores, in any company.

    Args:
        packed: the training graph, packed for walking.
        config: how far and how long to walk.
        seed: the run's seed.
    """

    unknown_score = 0.0

    def __init__(self, packed: PackedAdjacency, config: PixieConfig, *, seed: int) -> None:
        self._packed = packed
        self._config = config
        self._seed = seed

    def scores(
        self, query_ids: Int64[np.ndarray, " queries"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Give every item the number of times that each query's own walks met it."""
        walks = np.full(len(query_ids), self._config.num_walks, np.int64)
        return self._visits(query_ids, walks)

    def scores_of_several(
        self,
        query_ids: Int64[np.ndarray, " queries"],
        weights: Float64[np.ndarray, " weights"] | None = None,
    ) -> Float32[np.ndarray, " items"]:
        """Score every item for all query items together, such as a person's recent ones.

        The walks are shared out by `shares_of_walks`. The score is (sum over queries of the root of
        the visits) squared: ten visits from each of two items count for twice as much as twenty
        from one (multi-hit boosting). For a single query it is the number of visits.

        Args:
            query_ids: distinct item ids; the caller drops them from the answer.
            weights: what each query item counts for, such as its age; none counts them alike.

        Raises:
            ValueError: no query items, or weights that are negative or of another number.
        """
        shares = shares_of_walks(self._packed.item_degrees, query_ids, weights)
        walks = np.ceil(shares * self._config.num_walks).astype(np.int64)
        visits = self._visits(query_ids, walks)
        return np.square(np.sqrt(visits).sum(axis=0))

    def _visits(
        self, query_ids: np.ndarray, walks: np.ndarray
    ) -> Float32[np.ndarray, "queries items"]:
        """Walk in rounds from every query that has walks left and has not met enough.

        Visits to the query itself don't count.
        """
        config = self._config
        visits = np.zeros((len(query_ids), self._packed.num_items), np.float32)
        left = walks.copy()
        number = 0
        while (active := np.flatnonzero(left > 0)).size:
            sizes = np.minimum(left[active], config.walks_per_round)
            key = stream_key(self._seed, Stream.LONG_WALKS, number)
            for size in np.unique(sizes):
                rows = active[sizes == size]
                visited = random_walks(
                    self._packed,
                    query_ids[rows],
                    key=key,
                    num_walks=int(size),
                    walk_length=config.walk_length,
                    restart=config.restart,
                )
                visited[visited == query_ids[rows, None]] = -1
                enough = add_visits(visited, rows, visits, enough_visits=config.enough_visits)
                left[rows] -= size
                if config.enough_items:
                    left[rows[enough >= config.enough_items]] = 0
            number += 1
        return visits


def shares_of_walks(
    item_degrees: Int64[np.ndarray, " items"],
    query_ids: Int64[np.ndarray, " queries"],
    weights: Float64[np.ndarray, " weights"] | None = None,
) -> Float64[np.ndarray, " queries"]:
    """Share walks out among query items: more to popular ones, less than in proportion.

    An item of degree n gets a share in proportion to weight x n (C - log n), where C is the largest
    degree of any item (Pixie's equations 1 and 2). A cold item gets none.

    Args:
        item_degrees: contexts of every item.
        query_ids: the query items.
        weights: what each counts for; none counts them alike.

    Returns:
        Shares that sum to 1, or to 0 where all are cold.

    Raises:
        ValueError: no query items, or weights that are negative or of another number.

    >>> shares_of_walks(np.array([1, 1, 100]), np.array([0, 1])).tolist()
    [0.5, 0.5]
    """
    if weights is None:
        weights = np.ones(len(query_ids))
    if not len(query_ids) or weights.shape != query_ids.shape or weights.min() < 0:
        raise ValueError(
            f"wanted at least one query item and one weight of at least 0 for each, found "
            f"{len(query_ids)} items and weights {weights.tolist()}"
        )
    degrees = item_degrees[query_ids].astype(np.float64)
    # The floor of 1 only touches cold items, whose product is 0.
    logs = np.log(np.maximum(degrees, 1))
    wanted = weights * degrees * (float(item_degrees.max()) - logs)
    return wanted / max(float(wanted.sum()), np.finfo(np.float64).tiny)

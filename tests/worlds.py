"""Small sets of items whose content tells where it came from."""

from dataclasses import dataclass

import numpy as np

from pinsage.sampling.neighborhood import Neighborhoods


@dataclass(frozen=True)
class Features:
    """Rows in memory."""

    rows: np.ndarray

    @property
    def num_items(self) -> int:
        return len(self.rows)

    def gather(self, item_ids: np.ndarray) -> np.ndarray:
        return self.rows[item_ids]


def ring(num_items: int, *, num_neighbors: int = 2, num_candidates: int = 3) -> Neighborhoods:
    """Item v has neighbors v+1, v+2, ... and hard-negative candidates v+10, v+11, ..."""
    items = np.arange(num_items)[:, None]
    ids = (items + 1 + np.arange(num_neighbors)) % num_items
    candidates = (items + 10 + np.arange(num_candidates)) % num_items
    weights = np.tile(np.arange(num_neighbors, 0, -1, dtype=np.float32), (num_items, 1))
    weights /= weights.sum(axis=1, keepdims=True)
    return Neighborhoods(ids.astype(np.int32), weights, candidates.astype(np.int32))


def own_number(num_items: int, width: int = 3) -> Features:
    """Item v's features are filled with v."""
    return Features(np.repeat(np.arange(num_items, dtype=np.float32)[:, None], width, axis=1))


def random_world(
    seed: int, num_items: int = 40, width: int = 6, num_neighbors: int = 4
) -> tuple[Features, Neighborhoods]:
    """Random features, neighborhoods and hard negatives.

    Item 0 is cold, item 1 has a single neighbor and no candidate but one.
    """
    rng = np.random.default_rng(seed)
    ids = np.stack([
        rng.choice(num_items, num_neighbors, replace=False) for _ in range(num_items)
    ]).astype(np.int32)
    weights = rng.random((num_items, num_neighbors)).astype(np.float32) + np.float32(0.1)
    ids[0], weights[0] = -1, 0
    ids[1, 1:], weights[1, 1:] = -1, 0
    totals = weights.sum(axis=1, keepdims=True)
    weights /= np.where(totals > 0, totals, 1)
    rows = rng.standard_normal((num_items, width)).astype(np.float32)
    candidates = rng.integers(0, num_items, (num_items, 3)).astype(np.int32)
    candidates[0], candidates[1, 1:] = -1, -1
    return Features(rows), Neighborhoods(ids, weights, candidates)

"""Items that training does not see, and their edges, kept for inference.

`data.split.cold_items` makes a share of the items cold: to the training graph they are items
without edges. What it would have known of them lies beside it, so that the same items can be
embedded as new ones that come with edges: walks start from their contexts, and their structural
features are folded in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from pinsage.base.arrays import read_array
from pinsage.base.artifacts import Draft
from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.graph.features import FeatureStore
from pinsage.graph.sharding import MOST_WEIGHT
from pinsage.graph.structure import fold_in

_FOLDER = "cold_items"
_ARRAYS = ("ids", "starts", "contexts", "features", "weights", "ages")


@dataclass(frozen=True)
class ColdEdges:
    """Edges of cold items to contexts of the training graph, in any order."""

    item_ids: Int64[np.ndarray, " edges"]
    context_ids: Int64[np.ndarray, " edges"]
    weights: Float64[np.ndarray, " edges"] | None
    times: Int64[np.ndarray, " edges"] | None


class ColdRows(NamedTuple):
    """The items made cold, in order of their ids, and their contexts, ascending for each."""

    ids: Int64[np.ndarray, " cold"]
    starts: Int64[np.ndarray, " cold_and_1"]
    contexts: Int64[np.ndarray, " edges"]


@dataclass(frozen=True)
class ColdItems:
    """The items made cold, in order of their ids, with all that inference knows of them."""

    ids: Int64[np.ndarray, " cold"]
    starts: Int64[np.ndarray, " cold_and_1"]
    contexts: Int64[np.ndarray, " edges"]
    """Contexts of the training graph, ascending for each item."""
    features: Float32[np.ndarray, "cold width"]
    """Feature rows that know of these edges."""
    weights: Float32[np.ndarray, " edges"] | None = None
    ages: Float32[np.ndarray, " edges"] | None = None

    @classmethod
    def open(cls, directory: Path) -> "ColdItems | None":
        """Read those of the published graph in `directory`; None if it has none."""
        folder = directory / _FOLDER
        if not folder.exists():
            return None
        paths = {name: folder / f"{name}.npy" for name in _ARRAYS}
        return cls(**{name: read_array(path) for name, path in paths.items() if path.exists()})

    def write(self, draft: Draft) -> None:
        """Write them beside the shards of a graph being published."""
        for name in _ARRAYS:
            array = getattr(self, name)
            if array is not None:
                draft.write_array(f"{_FOLDER}/{name}.npy", array)

    def added_to(self, adjacency: BipartiteAdjacency) -> BipartiteAdjacency:
        """Give the training graph with these edges: what a method may look up, never train on."""
        degrees = adjacency.item_degrees.copy()
        degrees[self.ids] = np.diff(self.starts)
        is_cold = np.zeros(len(degrees), bool)
        is_cold[self.ids] = True
        of_cold = np.repeat(is_cold, degrees)

        def merged(known: np.ndarray | None, cold: np.ndarray | None) -> np.ndarray | None:
            if known is None or cold is None:
                return None
            both = np.empty(len(of_cold), known.dtype)
            both[of_cold], both[~of_cold] = cold, known
            return both

        contexts = merged(adjacency.item_contexts, self.contexts)
        assert contexts is not None
        weights = merged(adjacency.item_weights, self.weights)
        ages = merged(adjacency.item_ages, self.ages)
        # Items ascend, and a stable sort keeps them so in every context.
        turned = np.argsort(contexts, kind="stable")
        sizes = np.bincount(contexts, minlength=adjacency.num_contexts)
        items = np.repeat(np.arange(len(degrees)), degrees)[turned]
        return BipartiteAdjacency(
            item_starts=np.concatenate([[0], np.cumsum(degrees)]),
            item_contexts=contexts,
            context_starts=np.concatenate([[0], np.cumsum(sizes)]),
            context_items=items.astype(adjacency.context_items.dtype),
            item_weights=weights,
            item_ages=ages,
            context_weights=None if weights is None else weights[turned],
            context_ages=None if ages is None else ages[turned],
        )


def cold_items_of(
    ids: Int64[np.ndarray, " cold"],
    edges: ColdEdges,
    features_of: Callable[[ColdRows], Float32[np.ndarray, "cold width"]],
    ages_of: Callable[[Int64[np.ndarray, " edges"]], Float32[np.ndarray, " edges"]] | None,
) -> ColdItems:
    """Put edges in rows, and make the items' features.

    Args:
        ids: the items made cold, ascending, those without a kept edge included.
        edges: their edges.
        features_of: makes the feature rows.
        ages_of: turns times into ages, of 0 where newer than all of the graph's; None if edges
            have none.
    """
    order = np.lexsort((edges.context_ids, edges.item_ids))
    degrees = np.bincount(np.searchsorted(ids, edges.item_ids), minlength=len(ids))
    rows = ColdRows(ids, np.concatenate([[0], np.cumsum(degrees)]), edges.context_ids[order])
    ages = None
    if edges.times is not None and ages_of is not None:
        ages = ages_of(edges.times[order])
    weights = None
    if edges.weights is not None:
        weights = np.minimum(edges.weights[order], MOST_WEIGHT).astype(np.float32)
    return ColdItems(
        rows.ids,
        rows.starts,
        rows.contexts,
        features_of(rows),
        weights,
        ages,
    )


def folded_in(rows: ColdRows, context_vectors: FeatureStore) -> Float32[np.ndarray, "cold width"]:
    """Give every item the structural features that its contexts imply."""
    found = np.empty((len(rows.ids), context_vectors.width), np.float32)
    for row, (first, last) in enumerate(pairwise(rows.starts)):
        found[row] = fold_in(rows.contexts[first:last], context_vectors)
    return found

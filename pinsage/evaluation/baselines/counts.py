"""What is counted: contexts that items share, and steps from query to positive."""

import numpy as np
from jaxtyping import Float32, Int64

from pinsage.graph import Pairs
from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.kernels.cooccurrence import weighted_cooccurrence


class ItemCosine:
    """Item-item cosine on the graph, contexts weighted by inverse log size: a strong rival.

    The score of items q and i is the sum of 1 / log(1 + size) over the contexts that hold both,
    divided by sqrt(degree(q) degree(i)): a shelf of three books says more than one of a hundred.

    Args:
        adjacency: the training graph.
    """

    unknown_score = 0.0

    def __init__(self, adjacency: BipartiteAdjacency) -> None:
        self._adjacency = adjacency
        sizes = np.diff(adjacency.context_starts)
        # The floor of 1 only touches empty contexts, which no item shares.
        self._context_weights = (1.0 / np.log1p(np.maximum(sizes, 1))).astype(np.float32)
        degrees = np.diff(adjacency.item_starts)
        # The floor of 1 only touches cold items, whose sums are 0.
        self._lengths = np.sqrt(np.maximum(degrees, 1)).astype(np.float32)

    def scores(
        self, query_ids: Int64[np.ndarray, " queries"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Give every item its weighted cosine with the query."""
        sums = weighted_cooccurrence(
            self._adjacency.item_starts,
            self._adjacency.item_contexts,
            self._adjacency.context_starts,
            self._adjacency.context_items,
            self._context_weights,
            query_ids,
        )
        sums /= self._lengths[query_ids, None]
        sums /= self._lengths
        return sums


class Transitions:
    """First-order transitions: how often the train pairs go from the query to each item.

    Args:
        pairs: the train pairs.
        num_items: size of the catalog.

    Raises:
        ValueError: a pair holds an item beyond the catalog.
    """

    unknown_score = 0.0

    def __init__(self, pairs: Pairs, num_items: int) -> None:
        last = max(pairs.queries.max(initial=-1), pairs.positives.max(initial=-1))
        if last >= num_items:
            raise ValueError(f"wanted item ids below {num_items}, found {last} among the pairs")
        steps, times = np.unique(pairs.queries * num_items + pairs.positives, return_counts=True)
        queries, self._positives = np.divmod(steps, num_items)
        self._times = times.astype(np.float32)
        self._starts = np.searchsorted(queries, np.arange(num_items + 1))
        self._num_items = num_items

    def scores(
        self, query_ids: Int64[np.ndarray, " queries"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Give every item the number of train pairs from the query to it."""
        scores = np.zeros((len(query_ids), self._num_items), np.float32)
        for row, query in enumerate(query_ids):
            steps = slice(self._starts[query], self._starts[query + 1])
            scores[row, self._positives[steps]] = self._times[steps]
        return scores

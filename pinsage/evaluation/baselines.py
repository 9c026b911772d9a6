"""What PinSage is compared with, and PinSage's own embeddings, as scorers (paper, section 4.1)."""

import numpy as np
from jaxtyping import Float32, Int64, Integer

from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.kernels.cooccurrence import weighted_cooccurrence
from pinsage.kernels.packing import PackedAdjacency
from pinsage.kernels.walks import walk_neighborhoods


class Popularity:
    """The same list for every query: items by how many contexts they are in.

    Args:
        item_degrees: contexts of each item.
    """

    def __init__(self, item_degrees: Integer[np.ndarray, " items"]) -> None:
        self._degrees = item_degrees.astype(np.float32)

    def scores(
        self, query_ids: Int64[np.ndarray, " queries"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Give every item its degree."""
        return np.tile(self._degrees, (len(query_ids), 1))


class EmbeddingCosine:
    """Inner products of unit-length embeddings, such as PinSage's (paper, section 3.5).

    Args:
        embeddings: one row an item; used as they are.
    """

    def __init__(self, embeddings: Float32[np.ndarray, "items width"]) -> None:
        self.vectors = np.ascontiguousarray(embeddings)

    def scores(
        self, query_ids: Int64[np.ndarray, " queries"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Give every item its inner product with the query."""
        return self.vectors[query_ids] @ self.vectors.T


class FeatureCosine(EmbeddingCosine):
    """Cosine of content features: the paper's Visual and Annotation baselines.

    An item whose features are all zero is at cosine 0 from everything.

    Args:
        features: one row an item, of any length; scaled to unit length here.
    """

    def __init__(self, features: Float32[np.ndarray, "items width"]) -> None:
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        super().__init__(features / np.where(lengths > 0, lengths, np.float32(1)))


class ItemCosine:
    """Item-item cosine on the graph, contexts weighted by inverse log size: a strong rival.

    The score of items q and i is the sum of 1 / log(1 + size) over the contexts that hold both,
    divided by sqrt(degree(q) degree(i)): a shelf of three books says more than one of a hundred.

    Args:
        adjacency: the training graph.
    """

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


class WalkRanks:
    """Visit counts of very many random walks from the query: the paper's Pixie baseline.

    Items that no walk visits tie at 0.

    Args:
        packed: the training graph, packed for walking.
        key: key of the walks' randomness, from `stream_key(seed, Stream.LONG_WALKS)`.
        num_walks: walks from each query.
        walk_length: most steps of one walk.
        restart: chance that a walk ends after a step.
    """

    def __init__(
        self,
        packed: PackedAdjacency,
        *,
        key: int,
        num_walks: int = 10_000,
        walk_length: int = 2,
        restart: float = 0.5,
    ) -> None:
        self._packed = packed
        self._key = key
        self._num_walks = num_walks
        self._walk_length = walk_length
        self._restart = restart

    def scores(
        self, query_ids: Int64[np.ndarray, " queries"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Give every item the number of times that the query's walks met it."""
        num_items = self._packed.num_items
        most = min(num_items, self._num_walks * self._walk_length)
        neighbor_ids, counts = walk_neighborhoods(
            self._packed,
            query_ids,
            key=self._key,
            num_walks=self._num_walks,
            walk_length=self._walk_length,
            restart=self._restart,
            num_neighbors=most,
        )
        # One more column takes what the missing neighbors, id -1, would write.
        scores = np.zeros((len(query_ids), num_items + 1), np.float32)
        np.put_along_axis(scores, neighbor_ids.astype(np.int64), counts.astype(np.float32), axis=1)
        return np.ascontiguousarray(scores[:, :num_items])

"""Approximate nearest neighbors by faiss, for catalogs too large for the exact search."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer

from pinsage.base.artifacts import Draft
from pinsage.base.errors import ResourceError
from pinsage.retrieval.exact import ExactIndex

_FILE = "hnsw.faiss"


class HnswIndex:
    """A navigable small-world graph over the vectors (faiss `IndexHNSWFlat`)."""

    def __init__(self, structure: Any, vectors: Float32[np.ndarray, "items width"]) -> None:
        """Hold a faiss index and the vectors it was built from."""
        self._structure = structure
        self.vectors = vectors

    @staticmethod
    def build(
        vectors: Float32[np.ndarray, "items width"],
        *,
        links: int,
        build_width: int,
        search_width: int,
    ) -> "HnswIndex":
        """Build the graph; see `IndexConfig` for the settings.

        Raises:
            ResourceError: faiss is not installed.
        """
        faiss = _faiss()
        structure = faiss.IndexHNSWFlat(vectors.shape[1], links, faiss.METRIC_INNER_PRODUCT)
        structure.hnsw.efConstruction = build_width
        structure.hnsw.efSearch = search_width
        structure.add(np.ascontiguousarray(vectors))
        return HnswIndex(structure, vectors)

    @staticmethod
    def load(directory: Path, vectors: Float32[np.ndarray, "items width"]) -> "HnswIndex":
        """Read what `save` wrote; the caller has checked its digest."""
        return HnswIndex(_faiss().read_index(str(directory / _FILE)), vectors)

    def search(
        self,
        queries: Float32[np.ndarray, "queries width"],
        k: int,
        exclude: Sequence[Integer[np.ndarray, " _"]] | None = None,
        allowed: Bool[np.ndarray, " items"] | None = None,
    ) -> tuple[Int32[np.ndarray, "queries k"], Float32[np.ndarray, "queries k"]]:
        """See `Index.search`; what is excluded is asked for on top and then left out."""
        if allowed is not None:
            return ExactIndex(self.vectors).search(queries, k, exclude, allowed)
        extra = max((len(banned) for banned in exclude), default=0) if exclude is not None else 0
        wanted = min(k + extra, len(self.vectors))
        scores, ids = self._search_wide(np.ascontiguousarray(queries), wanted)
        out_ids = np.full((len(queries), k), -1, np.int32)
        out_scores = np.full((len(queries), k), -np.inf, np.float32)
        for row in range(len(queries)):
            keep = ids[row] >= 0
            if exclude is not None:
                keep &= ~np.isin(ids[row], exclude[row])
            kept = np.flatnonzero(keep)[:k]
            out_ids[row, : len(kept)] = ids[row, kept]
            out_scores[row, : len(kept)] = scores[row, kept]
        return out_ids, out_scores

    def save(self, draft: Draft) -> None:
        """Write the faiss file."""
        with draft.file(_FILE) as path:
            _faiss().write_index(self._structure, str(path))

    def _search_wide(
        self, queries: Float32[np.ndarray, "queries width"], wanted: int
    ) -> tuple[Float32[np.ndarray, "queries wanted"], Integer[np.ndarray, "queries wanted"]]:
        """Search with a width that can hold all that is wanted."""
        faiss = _faiss()
        width = max(self._structure.hnsw.efSearch, 2 * wanted)
        parameters = faiss.SearchParametersHNSW(efSearch=width)
        scores, ids = self._structure.search(queries, wanted, params=parameters)
        return scores, ids


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ResourceError(
            "an HNSW index needs faiss, which is not installed: pip install 'pinsage[cpu]' "
            "(or [gpu]), or set index.kind=exact"
        ) from error
    return faiss

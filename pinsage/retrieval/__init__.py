"""Layer 5: nearest neighbors of an embedding (paper, section 3.5)."""

from pinsage.retrieval.index import Index, IndexConfig, build_index, open_index, save_index
from pinsage.retrieval.live import LiveIndex

__all__ = ["Index", "IndexConfig", "LiveIndex", "build_index", "open_index", "save_index"]

"""Approximate nearest neighbors by faiss, for catalogs too large for the exact search."""

import logging
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer
from pydantic import NonNegativeInt, PositiveInt

from pinsage.base.artifacts import Draft
from pinsage.base.config import Config
from pinsage.base.errors import ResourceError
from pinsage.retrieval.exact import ExactIndex, rescored
from pinsage.retrieval.strategy import TUNED_FOR, Found, StrategyCounts, search_kept

_log = logging.getLogger(__name__)

_FILE = "structure.faiss"
_MAX_WIDTH = 2_048
_MAX_ON_GPU = 2_048

FaissKind = Literal["flat", "hnsw", "ivf", "ivf_pq"]


class FaissConfig(Config):
    """How faiss builds and searches its structures."""

    links: PositiveInt = 32
    """HNSW: links a node of the graph."""
    build_width: PositiveInt = 200
    """HNSW: candidates looked at while building (efConstruction)."""
    search_width: PositiveInt = 64
    """HNSW: candidates looked at while searching (efSearch), to begin with."""
    cells: NonNegativeInt = 0
    """IVF: cells the vectors are sorted into; 0 takes four times the root of their number."""
    search_cells: PositiveInt = 16
    """IVF: cells looked at while searching (nprobe), to begin with."""
    code_bytes: PositiveInt = 32
    """IVF-PQ: bytes a vector is compressed to; the largest number up to this that divides its width
    is taken."""
    rescored: PositiveInt = 100
    """IVF-PQ: candidates compared again with their whole vectors."""
    build_threads: NonNegativeInt = 1
    """Threads that build; 0 takes all. With more than one an HNSW graph is built faster, but no two
    builds are the same."""
    use_gpu: bool = True
    """Search flat and IVF structures on a GPU, where faiss sees one."""


@dataclass(frozen=True)
class FaissIndex:
    """One of the structures of faiss, and how hard it is searched.

    Attributes:
        kind: which structure: every vector, a navigable small-world graph, or cells of whole or
            compressed vectors.
        structure: the faiss index; on a GPU if there is one.
        vectors: what it was built from; may be memory-mapped.
        width: candidates (HNSW) or cells (IVF) looked at in a search.
        rescored: candidates compared again with their whole vectors (IVF-PQ).
        use_gpu: whether a GPU may hold the structure.
        on_gpu: whether one does.
        counts: which strategies answered.
    """

    kind: FaissKind
    structure: Any
    vectors: Float32[np.ndarray, "items width"]
    width: int
    rescored: int = 0
    use_gpu: bool = True
    on_gpu: bool = False
    counts: StrategyCounts = field(default_factory=StrategyCounts)
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while a GPU searches: its scratch memory is for one search at a time."""

    @staticmethod
    def build(
        kind: FaissKind, vectors: Float32[np.ndarray, "items width"], config: FaissConfig
    ) -> "FaissIndex":
        """Build a structure; repeatable with one thread.

        Raises:
            ResourceError: faiss is not installed.
        """
        faiss = _faiss()
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(config.build_threads or threads)
        try:
            structure = _built(faiss, kind, np.ascontiguousarray(vectors), config)
        finally:
            faiss.omp_set_num_threads(threads)
        width = config.search_width if kind == "hnsw" else config.search_cells
        rescored = config.rescored if kind == "ivf_pq" else 0
        return FaissIndex(kind, structure, vectors, width, rescored, config.use_gpu)._placed()

    @staticmethod
    def load(
        directory: Path, about: dict[str, Any], vectors: Float32[np.ndarray, "items width"]
    ) -> "FaissIndex":
        """Map what `save` wrote into memory; the caller has checked its digest."""
        faiss = _faiss()
        to_gpu = about["use_gpu"] and _num_gpus(faiss) and about["kind"] != "hnsw"
        how = 0 if to_gpu else faiss.IO_FLAG_MMAP_IFC
        structure = faiss.read_index(str(directory / _FILE), how)
        settings = (about[name] for name in ("width", "rescored", "use_gpu"))
        return FaissIndex(about["kind"], structure, vectors, *settings)._placed()

    def about(self) -> dict[str, Any]:
        """Say what `load` must know."""
        return {
            "kind": self.kind,
            "width": self.width,
            "rescored": self.rescored,
            "use_gpu": self.use_gpu,
        }

    def save(self, draft: Draft) -> None:
        """Write the faiss file."""
        faiss = _faiss()
        structure = faiss.index_gpu_to_cpu(self.structure) if self.on_gpu else self.structure
        with draft.file(_FILE) as path:
            faiss.write_index(structure, str(path))

    def search(
        self,
        queries: Float32[np.ndarray, "queries width"],
        k: int,
        exclude: Sequence[Integer[np.ndarray, " _"]] | None = None,
        allowed: Bool[np.ndarray, " items"] | None = None,
    ) -> tuple[Int32[np.ndarray, "queries k"], Float32[np.ndarray, "queries k"]]:
        """See `Index.search`, and `strategy.py` for filters and exclusions."""
        if exclude is None and allowed is None and k <= len(self.vectors):
            found = self._wide(queries, k)
            if found[0].shape[1] == k and found[0][:, -1].min(initial=0) >= 0:
                self.counts.add("plain", len(queries))
                return found
        return search_kept(
            self._wide,
            ExactIndex(self.vectors).search,
            queries,
            k,
            exclude,
            allowed,
            num_items=len(self.vectors),
            counts=self.counts,
        )

    def widened(self) -> "FaissIndex | None":
        """Give the same structure searched harder; None where there is nothing left to raise."""
        if self.kind == "flat":
            return None
        top = _MAX_WIDTH if self.kind == "hnsw" else self._most_cells
        if self.width >= top:
            return None
        return replace(
            self,
            width=min(self.width * 3 // 2 + 1, top),
            rescored=self.rescored * 3 // 2,
            counts=StrategyCounts(),
        )

    def _wide(self, queries: Float32[np.ndarray, "queries width"], wanted: int) -> Found:
        """Search all items, hard enough for so many."""
        faiss = _faiss()
        num_items = len(self.vectors)
        rescoring = max(self.rescored, self.rescored * wanted // TUNED_FOR)
        asked = min(max(wanted, rescoring), num_items)
        if self.on_gpu:
            asked = min(asked, _MAX_ON_GPU)
        parameters = None
        if self.kind == "hnsw":
            parameters = _hnsw_parameters(max(self.width, 2 * asked))
        elif self.kind != "flat":
            cells = self.structure.nlist
            # Besides the cells for the best few, twice those that so many fill.
            full = self.width + 2 * asked * cells // max(num_items, 1)
            make = faiss.IVFPQSearchParameters if self.rescored else faiss.IVFSearchParameters
            parameters = make(nprobe=min(full, self._most_cells))
        queries = np.ascontiguousarray(queries)
        with self.turn if self.on_gpu else nullcontext():
            scores, ids = self.structure.search(queries, asked, params=parameters)
        ids = ids.astype(np.int32)
        if self.rescored:
            ids, scores = rescored(self.vectors, queries, ids, min(wanted, asked))
        return ids, scores

    @property
    def share_read(self) -> float:
        """The share of all vectors that a search looks at, about; of a graph's, hardly any."""
        if self.kind == "hnsw":
            return 0.0
        return 1.0 if self.kind == "flat" else min(self.width / self.structure.nlist, 1.0)

    @property
    def _most_cells(self) -> int:
        """The most cells that a search may look at."""
        cells: int = self.structure.nlist
        return min(cells, _MAX_ON_GPU) if self.on_gpu else cells

    def _placed(self) -> "FaissIndex":
        """Move the structure to a GPU if there is one, and it may and can be there."""
        faiss = _faiss()
        if not self.use_gpu or self.kind == "hnsw" or not _num_gpus(faiss):
            return self
        try:
            moved = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, self.structure)
        except RuntimeError as error:
            # Of compressed vectors, a GPU takes some lengths of codes only.
            _log.warning("%s stays in main memory, for the GPU refuses it: %s", self.kind, error)
            return self
        return replace(self, structure=moved, on_gpu=True)


@lru_cache(maxsize=1024)
def _hnsw_parameters(width: int) -> Any:
    """Say how hard to search; making one costs a tenth of a search."""
    return _faiss().SearchParametersHNSW(efSearch=width)


def _built(faiss: Any, kind: FaissKind, vectors: np.ndarray, config: FaissConfig) -> Any:
    count, width = vectors.shape
    product = faiss.METRIC_INNER_PRODUCT
    if kind == "hnsw":
        structure = faiss.IndexHNSWFlat(width, config.links, product)
        structure.hnsw.efConstruction = config.build_width
        structure.add(vectors)
        return structure
    coarse = faiss.IndexFlatIP(width)
    if kind == "flat":
        coarse.add(vectors)
        return coarse
    cells = min(config.cells or 4 * int(count**0.5), count)
    if kind == "ivf":
        structure = faiss.IndexIVFFlat(coarse, width, cells, product)
    else:
        code_bytes = max(n for n in range(1, config.code_bytes + 1) if not width % n)
        # A code of so many bits is learned from as many items as it has values, at least.
        bits = 8 if count >= 256 else min(max(int(count).bit_length() - 1, 1), 4)
        structure = faiss.IndexIVFPQ(coarse, width, cells, code_bytes, bits, product)
    # A sample is enough to find the cells' centers; faiss draws it with a seed of its own.
    structure.cp.max_points_per_centroid = 64
    structure.cp.min_points_per_centroid = 1
    structure.train(vectors)
    structure.add(vectors)
    return structure


def _num_gpus(faiss: Any) -> int:
    return faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ResourceError(
            "an approximate index needs faiss, which is not installed: pip install 'pinsage[cpu]' "
            "(or [gpu]), or set index.kind to exact or lsh"
        ) from error
    return faiss

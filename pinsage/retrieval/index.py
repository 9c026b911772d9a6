"""The one interface to nearest neighbors, and which structure stands behind it (paper, 3.5)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer
from pydantic import PositiveInt

from pinsage.base.artifacts import Draft, open_artifact
from pinsage.base.config import Config
from pinsage.retrieval.approximate import HnswIndex
from pinsage.retrieval.exact import ExactIndex

STAGE = "index"


class IndexConfig(Config):
    """Which search structure is built over the embeddings."""

    kind: Literal["auto", "exact", "hnsw"] = "auto"
    """`auto` is exact up to `exact_limit` items and HNSW above."""
    exact_limit: PositiveInt = 200_000
    """Most items for which comparing with every one of them is quick enough."""
    hnsw_links: PositiveInt = 32
    """Links a node of the HNSW graph."""
    hnsw_build_width: PositiveInt = 200
    """Candidates looked at while building (efConstruction)."""
    hnsw_search_width: PositiveInt = 64
    """Candidates looked at while searching (efSearch)."""


@runtime_checkable
class Index(Protocol):
    """Finds the items whose embeddings have the largest inner product with a vector."""

    vectors: Float32[np.ndarray, "items width"]

    def search(
        self,
        queries: Float32[np.ndarray, "queries width"],
        k: int,
        exclude: Sequence[Integer[np.ndarray, " _"]] | None = None,
        allowed: Bool[np.ndarray, " items"] | None = None,
    ) -> tuple[Int32[np.ndarray, "queries k"], Float32[np.ndarray, "queries k"]]:
        """Find the best k items for each query, best first.

        Args:
            queries: the vectors to search for.
            k: how many items.
            exclude: for each query, ids that must not be answered.
            allowed: which items may be answered, by any query; None allows all.

        Returns:
            Item ids and scores; -1 and minus infinity behind the last item there is.
        """
        ...

    def save(self, draft: Draft) -> None:
        """Write the files of this structure."""
        ...


def build_index(vectors: Float32[np.ndarray, "items width"], config: IndexConfig) -> Index:
    """Build the configured structure over one embedding an item."""
    if config.kind == "exact" or (config.kind == "auto" and len(vectors) <= config.exact_limit):
        return ExactIndex(vectors)
    return HnswIndex.build(
        vectors,
        links=config.hnsw_links,
        build_width=config.hnsw_build_width,
        search_width=config.hnsw_search_width,
    )


def save_index(index: Index, draft: Draft) -> None:
    """Write an index so that `open_index` finds what it is."""
    draft.write_array("vectors.npy", index.vectors)
    draft.write_json("index.json", {"kind": type(index).__name__})
    index.save(draft)


def open_index(directory: Path) -> Index:
    """Open a published index; every file is checked against its digest first.

    Raises:
        ArtifactError: the directory is unfinished or damaged.
    """
    path = open_artifact(directory, stage=STAGE, check_digests=True).path
    vectors = np.load(path / "vectors.npy", mmap_mode="r", allow_pickle=False)
    kind = json.loads((path / "index.json").read_text(encoding="utf-8"))["kind"]
    if kind == ExactIndex.__name__:
        return ExactIndex(vectors)
    return HnswIndex.load(path, vectors)


def measured_recall(index: Index, *, k: int, sample: Integer[np.ndarray, " sample"]) -> float:
    """Share of the true k nearest other items of some items that the index finds (recall@k)."""
    queries = np.asarray(index.vectors[sample])
    selves = list(sample[:, None])
    truth, _ = ExactIndex(index.vectors).search(queries, k, exclude=selves)
    found, _ = index.search(queries, k, exclude=selves)
    hits = [len(np.intersect1d(a[a >= 0], b)) for a, b in zip(truth, found, strict=True)]
    return float(sum(hits) / max((truth >= 0).sum(), 1))

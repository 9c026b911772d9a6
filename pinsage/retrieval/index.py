"""The one interface to nearest neighbors, and which structure stands behind it (paper, 3.5)."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, cast, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer
from pydantic import Field, PositiveInt

from pinsage.base.arrays import map_array
from pinsage.base.artifacts import Draft, open_artifact
from pinsage.base.config import Config
from pinsage.base.errors import ArtifactError
from pinsage.base.seeding import Sample, Stream, stream
from pinsage.retrieval.approximate import FaissConfig, FaissIndex, FaissKind
from pinsage.retrieval.exact import ExactIndex
from pinsage.retrieval.lsh import LshConfig, LshIndex
from pinsage.retrieval.strategy import TUNED_FOR, StrategyCounts, found_as_near

STAGE = "index"

_log = logging.getLogger(__name__)
FAISS_KINDS = get_args(FaissKind)
_SAMPLE = 500


class IndexConfig(Config):
    """Which search structure is built over the embeddings."""

    kind: Literal["auto", "exact", "flat", "hnsw", "ivf", "ivf_pq", "lsh"] = "auto"
    """`auto` chooses by size and recall: exact up to `exact_limit` items, HNSW up to `hnsw_limit`,
    IVF-PQ above, and the next simpler one where the target is out of reach."""
    exact_limit: PositiveInt = 200_000
    """Most items for which comparing with every one of them is quick enough."""
    hnsw_limit: PositiveInt = 10_000_000
    """Most items whose vectors and links are kept in memory."""
    recall_target: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Share of the true ten nearest that must be found, measured on a sample; an approximate
    structure is searched harder until it is."""
    faiss: FaissConfig = FaissConfig()
    lsh: LshConfig = LshConfig()


@runtime_checkable
class Index(Protocol):
    """Finds the items whose embeddings have the largest inner product with a vector."""

    @property
    def vectors(self) -> Float32[np.ndarray, "items width"]:
        """The embeddings, one row an item."""
        ...

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
            allowed: which items may be answered, to any of the queries; None allows all.

        Returns:
            Item ids and scores; -1 and minus infinity behind the last item there is.

        Raises:
            ValueError: `allowed` has not one value an item.
        """
        ...

    def save(self, draft: Draft) -> None:
        """Write the files of this structure."""
        ...


class Built(Index, Protocol):
    """An index as it was built, which knows what it is."""

    @property
    def counts(self) -> StrategyCounts:
        """How many queries were answered by which strategy."""
        ...

    def widened(self) -> "Built | None":
        """Give the same structure searched harder; None where there is nothing left to raise."""
        ...

    def about(self) -> dict[str, Any]:
        """Say which structure this is, and how hard it is searched."""
        ...


def build_index(
    vectors: Float32[np.ndarray, "items width"], config: IndexConfig, *, seed: int = 0
) -> Built:
    """Build the configured structure over one embedding an item.

    Repeatable: the same vectors, settings and seed give the same answers (see
    `FaissConfig.build_threads`).

    Args:
        vectors: the embeddings; may be memory-mapped.
        config: which structure, and how well it must find.
        seed: for the sample that recall is measured on, and for hyperplanes.

    Raises:
        ResourceError: the structure needs faiss, which is not installed.
    """
    for kind in _chain(len(vectors), config):
        if kind == "exact":
            break
        built: Built
        if kind == "lsh":
            built = LshIndex.build(vectors, config.lsh, seed=seed)
        else:
            built = FaissIndex.build(cast(FaissKind, kind), vectors, config.faiss)
        index, recall = _raised(built, config.recall_target, seed)
        if recall >= config.recall_target:
            return index
        _log.warning(
            "%s reaches recall@%d %.3f, below index.recall_target = %g%s",
            index.about(),
            TUNED_FOR,
            recall,
            config.recall_target,
            "; trying a simpler structure" if config.kind == "auto" else "",
        )
        if config.kind != "auto":
            return index
    return ExactIndex(vectors)


def save_index(index: Built, draft: Draft) -> None:
    """Write an index so that `open_index` finds what it is."""
    draft.write_array("vectors.npy", index.vectors)
    draft.write_json("index.json", index.about())
    index.save(draft)


def open_index(directory: Path) -> Built:
    """Open a published index; every file is checked against its digest first.

    Raises:
        ArtifactError: the directory is unfinished, damaged or of another kind.
    """
    path = open_artifact(directory, stage=STAGE, check_digests=True).path
    vectors = map_array(path / "vectors.npy")
    about = json.loads((path / "index.json").read_text(encoding="utf-8"))
    if about["kind"] == "exact":
        return ExactIndex(vectors)
    if about["kind"] in FAISS_KINDS:
        return FaissIndex.load(path, about, vectors)
    if about["kind"] == "lsh":
        return LshIndex.load(path, about, vectors)
    raise ArtifactError(
        f"{path}/index.json: unknown kind {about['kind']!r}; build the index anew with this version"
    )


def measured_recall(index: Index, *, k: int, sample: Integer[np.ndarray, " sample"]) -> float:
    """Share of the true k nearest other items of some items that the index finds (recall@k)."""
    queries = np.asarray(index.vectors[sample])
    selves = list(sample[:, None])
    _, truth = ExactIndex(index.vectors).search(queries, k, exclude=selves)
    return _recall_of(index, queries, selves, truth)


def _recall_of(
    index: Index,
    queries: Float32[np.ndarray, "queries width"],
    exclude: Sequence[Integer[np.ndarray, " _"]],
    truth: Float32[np.ndarray, "queries k"],
) -> float:
    """Compare with the scores of the true nearest; 1 where there are none."""
    _, found = index.search(queries, truth.shape[1], exclude=exclude)
    wanted = np.isfinite(truth).sum()
    return float(found_as_near(found, truth).sum() / wanted) if wanted else 1.0


def _chain(num_items: int, config: IndexConfig) -> list[str]:
    """Give the structures to try, in order."""
    # Nothing can be learned from one item, nor found beside it.
    if num_items < 2 or (config.kind == "auto" and num_items <= config.exact_limit):
        return ["exact"]
    if config.kind != "auto":
        return [config.kind]
    return ["hnsw", "exact"] if num_items <= config.hnsw_limit else ["ivf_pq", "ivf", "exact"]


def _raised(index: Built, target: float, seed: int) -> tuple[Built, float]:
    """Search harder until enough is found on a sample, or nothing is left to raise."""
    count = min(len(index.vectors), _SAMPLE)
    draw = stream(seed, Stream.SAMPLE, Sample.TUNING)
    sample = draw.choice(len(index.vectors), count, replace=False)
    queries, selves = np.asarray(index.vectors[sample]), list(sample[:, None])
    _, truth = ExactIndex(index.vectors).search(queries, TUNED_FOR, exclude=selves)
    recall = _recall_of(index, queries, selves, truth)
    while recall < target and (harder := index.widened()) is not None:
        index = harder
        recall = _recall_of(index, queries, selves, truth)
    return index, recall

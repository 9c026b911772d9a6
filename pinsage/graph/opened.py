"""`Graph`: a published graph, opened."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64

from pinsage.base.arrays import read_array
from pinsage.base.artifacts import Artifact, open_artifact
from pinsage.base.errors import ArtifactError
from pinsage.graph.adjacency import AdjacencyShard, BipartiteAdjacency, assemble
from pinsage.graph.catalog import Catalog
from pinsage.graph.cold import ColdItems
from pinsage.graph.features import (
    CONTEXT_VECTORS_FILE,
    STRUCTURE_SQUARES_FILE,
    FeatureShard,
    FeatureStore,
)
from pinsage.graph.schema import (
    CONTEXT_KEY,
    CONTEXTS_FILE,
    HELD_OUT_CONTEXT,
    ITEMS_FILE,
    LOG_DEGREE,
    PAIRS_FILE,
    SPLITS,
    STRUCTURE,
    GraphCounts,
)
from pinsage.graph.written import as_of
from pinsage.kernels.rings import ring_numbers


@dataclass(frozen=True)
class Pairs:
    """Labelled pairs of one split, as item ids."""

    queries: Int64[np.ndarray, " pairs"]
    positives: Int64[np.ndarray, " pairs"]
    contexts: Int64[np.ndarray, " pairs"] | None = None
    """A number for the held-out context that each pair was made from; None if pairs were not made
    from whole contexts, or are for training."""

    def __len__(self) -> int:
        return len(self.queries)


class Graph:
    """A published graph; its large arrays are mapped, not read, until they are used."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.counts = GraphCounts.model_validate(artifact.manifest.counts)

    @classmethod
    def open(cls, directory: Path, *, check_digests: bool = False) -> "Graph":
        """Open the graph published in `directory`.

        Raises:
            ArtifactError: it is missing, unfinished, damaged or of another kind.
        """
        return cls(open_artifact(directory, stage="graph", check_digests=check_digests))

    @cached_property
    def as_of(self) -> float:
        """No later than this is what the input tables tell of, in seconds since 1970."""
        return as_of(self.artifact.path)

    @property
    def num_items(self) -> int:
        """How many items there are, cold ones included."""
        return self.counts.items

    @property
    def num_contexts(self) -> int:
        """How many contexts have an edge in the training graph."""
        return self.counts.contexts

    @property
    def num_edges(self) -> int:
        """How many edges the training graph has."""
        return self.counts.edges

    @property
    def num_shards(self) -> int:
        """How many shards the graph is written in."""
        return self.counts.shards

    @property
    def feature_width(self) -> int:
        """How many numbers an item has, all groups together."""
        return sum(self.counts.feature_groups.values())

    @property
    def feature_columns(self) -> dict[str, slice]:
        """Where each feature group stands in a feature row, in order."""
        columns, start = {}, 0
        for name, width in self.counts.feature_groups.items():
            columns[name] = slice(start, start + width)
            start += width
        return columns

    def columns_of_edges(self) -> Int64[np.ndarray, " columns"]:
        """Which columns of a feature row are made of the item's edges, not of its content."""
        columns = self.feature_columns
        named = [columns[name] for name in (STRUCTURE, LOG_DEGREE) if name in columns]
        return np.concatenate([np.arange(one.start, one.stop) for one in named])

    def adjacency(self) -> BipartiteAdjacency:
        """Put the shards' edges together."""
        return assemble(self.adjacency_shards())

    def adjacency_shards(self) -> list[AdjacencyShard]:
        """Map every shard's edges."""
        return [
            AdjacencyShard.open(self.artifact.path, shard, self.num_shards)
            for shard in range(self.num_shards)
        ]

    def item_degrees(self) -> Int64[np.ndarray, " items"]:
        """In how many contexts each item is; reads where every shard's rows start, and no edge."""
        degrees = np.empty(self.num_items, np.int64)
        for shard in range(self.num_shards):
            starts = AdjacencyShard.open(self.artifact.path, shard, self.num_shards).item_starts
            degrees[shard :: self.num_shards] = np.diff(starts)
        return degrees

    def cold_items(self) -> ColdItems | None:
        """Read the items that `data.split.cold_items` made cold, and what inference knows of them.

        None if there are none.
        """
        return ColdItems.open(self.artifact.path)

    def adjacency_at_inference(self) -> BipartiteAdjacency:
        """Put the shards' edges together, those of items made cold among them.

        For methods that look edges up; nothing is trained on it.
        """
        cold = self.cold_items()
        return self.adjacency() if cold is None else cold.added_to(self.adjacency())

    def features_at_inference(self) -> FeatureStore:
        """Map the feature rows; those of items made cold know of these items' edges."""
        cold = self.cold_items()
        if cold is None:
            return self.features()
        store = self._feature_store(changeable=True)
        store.replace(cold.ids, cold.features)
        return store

    def features(self) -> FeatureStore:
        """Map the shards' feature rows."""
        return self._feature_store(changeable=False)

    def _feature_store(self, *, changeable: bool) -> FeatureStore:
        return FeatureStore([
            FeatureShard.open(self.artifact.path, shard, self.num_shards, changeable=changeable)
            for shard in range(self.num_shards)
        ])

    def context_vectors(self) -> FeatureStore | None:
        """Map what new items are folded in with, by context id; None without structural features.

        Raises:
            ArtifactError: the graph was ingested before these were kept.
        """
        if STRUCTURE not in self.counts.feature_groups:
            return None
        if not any(name.endswith(CONTEXT_VECTORS_FILE) for name in self.artifact.manifest.files):
            raise ArtifactError(
                f"{self.artifact.path}: wanted {CONTEXT_VECTORS_FILE} beside the structural "
                "features, found none; delete the directory and run ingest again"
            )
        return FeatureStore([
            FeatureShard.open(self.artifact.path, shard, self.num_shards, CONTEXT_VECTORS_FILE)
            for shard in range(self.num_shards)
        ])

    def structure_squares(self) -> Float64[np.ndarray, " width"]:
        """Read the squares of the singular values that structural features stand for.

        Raises:
            ArtifactError: the graph has none, or was ingested before these were kept.
        """
        path = self.artifact.path / STRUCTURE_SQUARES_FILE
        if path.name not in self.artifact.manifest.files:
            raise ArtifactError(
                f"{self.artifact.path}: wanted a graph with structural features and {path.name}, "
                "found none; name another one (graph.structure.basis), or delete the directory and "
                "run ingest again"
            )
        return read_array(path)

    def catalog(self) -> Catalog:
        """Read the key table."""
        return Catalog.open(self.artifact.path / ITEMS_FILE)

    def context_keys(self) -> pa.Array:
        """Read every context's key as text (large_string), by context id."""
        table = pq.read_table(self.artifact.path / CONTEXTS_FILE)
        return table[CONTEXT_KEY].combine_chunks().cast(pa.large_string())

    def pairs(self, split: str) -> Pairs:
        """Read the pairs of one split, in the order of the pairs table.

        Args:
            split: `train`, `valid` or `test`.

        Raises:
            ValueError: there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"wanted a split of {', '.join(SPLITS)}, found {split!r}")
        table = pq.read_table(self.artifact.path / PAIRS_FILE)
        table = table.filter(pc.equal(table["split"], split))
        queries, positives = (
            table[name].to_numpy().astype(np.int64) for name in ("query_id", "positive_id")
        )
        holds_out_contexts = HELD_OUT_CONTEXT in self.counts.left_out_edges
        if split == "train" or not holds_out_contexts:
            return Pairs(queries, positives)
        # The table keeps the rings that were made of contexts in a row.
        return Pairs(queries, positives, ring_numbers(queries, positives))

"""The directions of a published graph's structural features, for another graph to take."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64

from pinsage.base.arrays import read_array
from pinsage.graph.features import (
    CONTEXT_VECTORS_FILE,
    STRUCTURE_SQUARES_FILE,
    FeatureShard,
    FeatureStore,
)
from pinsage.graph.schema import CONTEXT_KEY, CONTEXTS_FILE


@dataclass(frozen=True)
class Basis:
    """A published graph with structural features, whose directions another one takes.

    Attributes:
        directory: the graph.
        num_shards: how many shards it has.
    """

    directory: Path
    num_shards: int

    def squares(self) -> Float64[np.ndarray, " width"]:
        """Read the squares of the singular values."""
        return read_array(self.directory / STRUCTURE_SQUARES_FILE)

    def ids_of(self, keys: pa.Array) -> Int64[np.ndarray, " contexts"]:
        """Find contexts by their keys; -1 where there is none."""
        own = pq.read_table(self.directory / CONTEXTS_FILE)[CONTEXT_KEY].cast(pa.large_string())
        found = pc.fill_null(pc.index_in(keys, value_set=own.combine_chunks()), -1)
        return found.to_numpy().astype(np.int64)

    def vectors(self) -> FeatureStore:
        """Map the contexts' vectors."""
        return FeatureStore([
            FeatureShard.open(self.directory, shard, self.num_shards, CONTEXT_VECTORS_FILE)
            for shard in range(self.num_shards)
        ])

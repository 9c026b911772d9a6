"""Vectors of items or contexts: one shard's rows, and the store that finds a row's shard."""

import mmap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from pinsage.base.arrays import map_array
from pinsage.graph.partition import rows_of, shard_name, shards_of
from pinsage.kernels.gather import empty_rows, gather_rows

FEATURES_FILE = "features.npy"

CONTEXT_VECTORS_FILE = "context_vectors.npy"
"""What structural features are sums of; only graphs that have them have this."""

STRUCTURE_SQUARES_FILE = "structure_squares.npy"
"""Squares of the singular values behind them, for a graph that takes this one as its basis."""


@dataclass(frozen=True)
class FeatureShard:
    """One shard's feature rows, or its contexts' vectors, memory-mapped."""

    values: Float32[np.ndarray, "rows features"]

    @classmethod
    def open(
        cls,
        directory: Path,
        shard: int,
        num_shards: int,
        name: str = FEATURES_FILE,
        *,
        changeable: bool = False,
    ) -> "FeatureShard":
        """Map one shard of the published graph in `directory`.

        Args:
            directory: the graph.
            shard: which one.
            num_shards: of how many.
            name: which vectors.
            changeable: rows can be given other values, which stay in this process's memory.
        """
        path = directory / shard_name(shard, num_shards) / name
        values = map_array(path, changeable=changeable)
        if isinstance(values.base, mmap.mmap) and hasattr(mmap, "MADV_HUGEPAGE"):
            # Where the kernel has no large pages for files, small ones serve, a third slower.
            with suppress(OSError):
                values.base.madvise(mmap.MADV_HUGEPAGE)
        return cls(values)

    def gather(self, rows: Int[np.ndarray, " wanted"]) -> Float32[np.ndarray, "wanted features"]:
        """Copy some rows, in the order asked for.

        Raises:
            ValueError: there is no such row.
        """
        gathered = empty_rows(len(rows), self.values.shape[1])
        gather_rows(self.values, rows, gathered)
        return gathered


class FeatureStore:
    """All shards' feature rows, by item id; or the contexts' vectors, by context id."""

    def __init__(self, shards: Sequence[FeatureShard]) -> None:
        self._shards = list(shards)

    @property
    def num_items(self) -> int:
        """How many items have a row: all of them."""
        return sum(len(shard.values) for shard in self._shards)

    @property
    def width(self) -> int:
        """How many numbers an item has, `log_degree` included."""
        return int(self._shards[0].values.shape[1])

    def replace(
        self, item_ids: Int[np.ndarray, " n"], rows: Float32[np.ndarray, "n width"]
    ) -> None:
        """Give some items other rows, in memory alone; shards must have been opened for that.

        Takes memory for the pages that those rows lie on.
        """
        num_shards = len(self._shards)
        owners, places = shards_of(item_ids, num_shards), rows_of(item_ids, num_shards)
        for number, shard in enumerate(self._shards):
            shard.values[places[owners == number]] = rows[owners == number]

    def gather(
        self,
        item_ids: Int[np.ndarray, " n"],
        out: Float32[np.ndarray, "n width"] | None = None,
    ) -> Float32[np.ndarray, "n width"]:
        """Copy the rows of some items, in the order asked for.

        Args:
            item_ids: which items, repeats welcome.
            out: where to write them; None makes an array. Filling memory for the first time takes
                as long again as gathering does.

        Returns:
            The rows: `out`, if that was given.

        Raises:
            ValueError: an id is negative or not below `num_items`, or `out` does not fit.
        """
        if len(item_ids) and not 0 <= item_ids.min() <= item_ids.max() < self.num_items:
            raise ValueError(
                f"wanted ids from 0 to {self.num_items - 1}, "
                f"found {item_ids.min()} to {item_ids.max()}"
            )
        if out is None:
            out = empty_rows(len(item_ids), self.width)
        num_shards = len(self._shards)
        if num_shards == 1:
            gather_rows(self._shards[0].values, item_ids, out)
            return out
        owners = shards_of(item_ids, num_shards)
        # Small integers are sorted stably by radix, in a pass or two.
        owners = owners.astype(np.min_scalar_type(num_shards))
        places = np.argsort(owners, kind="stable")
        rows = rows_of(item_ids, num_shards)[places]
        ends = np.cumsum(np.bincount(owners, minlength=num_shards))
        for number, shard in enumerate(self._shards):
            own = slice(ends[number - 1] if number else 0, ends[number])
            gather_rows(shard.values, rows[own], out, places[own])
        return out

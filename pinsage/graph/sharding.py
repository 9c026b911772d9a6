"""Cutting a built graph into shards, one run of rows at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pinsage.base.artifacts import Draft
from pinsage.graph.adjacency import SIDES
from pinsage.graph.partition import shard_name
from pinsage.graph.pieces import Piece, open_piece
from pinsage.graph.times import TimeScale
from pinsage.kernels.csr import EdgeRows, id_dtype, take_every

MOST_WEIGHT = float(np.finfo(np.float32).max)
"""What the weights of repeated edges add up to at most."""


class Side:
    """One side of a built graph: runs of rows, in order of their ids, on disk."""

    def __init__(
        self,
        name: str,
        folders: Sequence[Path],
        firsts: Sequence[int],
        *,
        num_values: int,
        scale: TimeScale | None,
        newest: int | None,
    ) -> None:
        """Hold what tells where everything is.

        Args:
            name: `item` or `context`.
            folders: the runs' pieces.
            firsts: the first id of every run, and how many ids there are.
            num_values: how many nodes the other side has.
            scale: how times are written; None if edges have none.
            newest: the newest time of the graph.
        """
        self.name = name
        self._folders = folders
        self._firsts = firsts
        self._dtype = id_dtype(num_values)
        self._scale = scale
        self._newest = newest

    def degrees(self) -> Int64[np.ndarray, " nodes"]:
        """Count every node's edges."""
        parts = [np.diff(open_piece(folder).arrays["starts"]) for folder in self._folders]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def write_shard(self, draft: Draft, shard: int, num_shards: int) -> None:
        """Write one shard's arrays; done already is not done again."""
        pieces = [open_piece(folder) for folder in self._folders]
        steps = [(shard - first) % num_shards for first in self._firsts[:-1]]
        starts = _starts(pieces, steps, num_shards)
        count = int(starts[-1])
        names = _array_names(self.name, shard, num_shards)
        wanted = {"starts": (np.dtype(np.int64), len(starts)), "cols": (self._dtype, count)}
        if pieces and "weights" in pieces[0].arrays:
            wanted["weights"] = (np.dtype(np.float32), count)
        if pieces and "times" in pieces[0].arrays:
            wanted["times"] = (np.dtype(np.float32), count)
        if all(draft.has(names[name]) for name in wanted):
            return
        with ExitStack() as stack:
            write = {
                name: stack.enter_context(_array_file(draft, names[name], dtype, length))
                for name, (dtype, length) in wanted.items()
            }
            write["starts"](starts)
            for piece, first in zip(pieces, steps, strict=True):
                rows = _rows(piece, first, num_shards)
                write["cols"](rows.cols)
                if rows.weights is not None:
                    write["weights"](np.minimum(rows.weights, MOST_WEIGHT))
                if rows.times is not None and self._scale is not None:
                    # Without an edge there is no newest one.
                    write["times"](self._scale.ages(self._newest or 0, rows.times))


def _array_names(side: str, shard: int, num_shards: int) -> dict[str, str]:
    """Name the files that the arrays of a piece become."""
    folder = shard_name(shard, num_shards)
    names = zip(("starts", "cols", "weights", "times"), SIDES[side], strict=True)
    return {name: f"{folder}/{array}.npy" for name, array in names}


def _starts(
    pieces: Sequence[Piece], steps: Sequence[int], num_shards: int
) -> Int64[np.ndarray, " rows_and_1"]:
    degrees = [
        np.diff(piece.arrays["starts"])[first::num_shards]
        for piece, first in zip(pieces, steps, strict=True)
    ]
    return np.cumsum(np.concatenate([np.zeros(1, np.int64), *degrees]))


def _rows(piece: Piece, first: int, num_shards: int) -> EdgeRows:
    arrays = piece.arrays
    rows = EdgeRows(arrays["starts"], arrays["cols"], piece.get("weights"), piece.get("times"))
    return rows if num_shards == 1 else take_every(rows, first, num_shards)


@contextmanager
def _array_file(
    draft: Draft, name: str, dtype: np.dtype, length: int
) -> Iterator[Callable[[np.ndarray], None]]:
    """Write an .npy file whose length is known, some numbers at a time."""
    with draft.file(name) as path, path.open("wb") as out:
        header = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(out, header)

        def write(values: np.ndarray) -> None:
            if len(values):
                out.write(np.ascontiguousarray(values, dtype).data)

        yield write

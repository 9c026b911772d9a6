"""Rows on disk that many processes fill and read, one row an item."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from pinsage.base.artifacts import whole_file


class RowFile:
    """A `.npy` matrix of float32, in bounded memory whatever its size.

    Rows are written through the file and read through a map of it. On a file system of one machine
    the two see the same bytes at once; between machines that share a folder, after `sync`.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; it is opened when it is used."""
        self.path = path
        self._mapped: Float32[np.ndarray, "rows width"] | None = None
        self._out: int | None = None

    def make(self, num_rows: int, width: int) -> None:
        """Make a file of zeros that takes no space yet; one that is there already is kept."""
        if self.path.exists():
            return
        with whole_file(self.path) as temporary:
            np.lib.format.open_memmap(
                temporary, mode="w+", dtype=np.float32, shape=(num_rows, width)
            )

    def read(self) -> Float32[np.ndarray, "rows width"]:
        """Map the rows; the map stays open, since opening it anew would cost its pages."""
        if self._mapped is None:
            self._mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return self._mapped

    def write(self, start: int, rows: Float32[np.ndarray, "chunk width"]) -> None:
        """Write some rows from `start` on.

        Raises:
            OSError: the disk is full.
        """
        if self._out is None:
            self._out = os.open(self.path, os.O_WRONLY)
        mapped = self.read()
        header = self.path.stat().st_size - mapped.nbytes
        place = header + start * mapped.strides[0]
        waiting = np.ascontiguousarray(rows).data.cast("B")
        while waiting:
            written = os.pwrite(self._out, waiting, place)
            waiting, place = waiting[written:], place + written

    def sync(self) -> None:
        """Return when all that was written here would outlive a loss of power."""
        if self._out is not None:
            os.fdatasync(self._out)
            os.close(self._out)
            self._out = None

    def drop(self) -> None:
        """Remove the file; its rows are not needed any more."""
        self._mapped = None
        with suppress(FileNotFoundError):
            self.path.unlink()

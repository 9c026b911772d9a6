"""Rows on disk that many processes fill and read, one row an item or context."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from pinsage.base.arrays import map_array
from pinsage.base.files import whole_file


class RowFile:
    """A `.npy` matrix of float32, in bounded memory whatever its size.

    Rows are written through the file and read through a map of it. On one machine the two see the
    same bytes at once. Machines that share a folder see what others have written once those have
    closed the file, which `write` does, and they themselves have opened it anew: `forget_map`.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; it is opened when it is used."""
        self.path = path
        self._mapped: Float32[np.ndarray, "rows width"] | None = None

    def make(self, num_rows: int, width: int) -> None:
        """Make a file of zeros that takes no space yet; one that is there already is kept."""
        if self.path.exists():
            return
        with whole_file(self.path) as temporary:
            shape = (num_rows, width)
            if num_rows:
                np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            else:
                # There is no map of nothing.
                with temporary.open("wb") as out:
                    np.save(out, np.zeros(shape, np.float32), allow_pickle=False)

    def read(self) -> Float32[np.ndarray, "rows width"]:
        """Map the rows; the map stays open, since opening it anew would cost its pages."""
        if self._mapped is None:
            # As a plain array: compiled code then takes it as it takes any other.
            mapped = map_array(self.path)
            self._mapped = np.asarray(mapped)
        return self._mapped

    def forget_map(self) -> None:
        """Have the next `read` open the file anew."""
        self._mapped = None

    def write(self, start: int, rows: Float32[np.ndarray, "chunk width"]) -> None:
        """Write some rows from `start` on.

        Raises:
            OSError: the disk is full.
        """
        if not rows.size:
            return
        mapped = self.read()
        header = self.path.stat().st_size - mapped.nbytes
        place = header + start * mapped.strides[0]
        waiting = np.ascontiguousarray(rows).data.cast("B")
        file = os.open(self.path, os.O_WRONLY)
        try:
            while waiting:
                written = os.pwrite(file, waiting, place)
                waiting, place = waiting[written:], place + written
        finally:
            os.close(file)

    def sync(self) -> None:
        """Return when all that this machine has written would outlive a loss of power."""
        file = os.open(self.path, os.O_RDONLY)
        try:
            os.fdatasync(file)
        finally:
            os.close(file)

    def drop(self) -> None:
        """Remove the file; its rows are not needed any more."""
        self._mapped = None
        with suppress(FileNotFoundError):
            self.path.unlink()

"""Arrays in `.npy` files, opened by many threads at once."""

import threading
import zlib
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from pinsage.base.errors import ArtifactError
from pinsage.base.files import whole_file

# NumPy parses a header with Python's own parser, whose depth counter all threads share before
# Python 3.11.8 (gh-106905): two headers parsed at once could end in a SystemError.
_HEADER = threading.Lock()


def read_array(file: Path | BinaryIO) -> np.ndarray:
    """Read an array whole.

    Args:
        file: A `.npy` file's path, or such a file that is open.

    Raises:
        OSError: the file cannot be opened or read.
        ValueError: the file is no `.npy` file, is cut short, or holds Python objects.
    """
    return _load(file, None)


def write_summed(path: Path, array: np.ndarray) -> None:
    """Write an array with its CRC-32 behind it: a file that is whole and right, or not there."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.write(_sum_of(array))


def read_summed(path: Path) -> np.ndarray:
    """Read what `write_summed` wrote.

    Raises:
        OSError: the file cannot be opened or read.
        ArtifactError: it is not what was written.
    """
    try:
        with path.open("rb") as file:
            array, found = read_array(file), file.read()
    except ValueError as error:
        raise ArtifactError(f"{path}: damaged ({error}); run the same command again") from error
    if found != _sum_of(array):
        raise ArtifactError(f"{path}: damaged; run the same command again")
    return array


def _sum_of(array: np.ndarray) -> bytes:
    numbers = np.ascontiguousarray(array).reshape(-1)
    return zlib.crc32(numbers.view(np.uint8).data).to_bytes(4, "little")


def map_array(path: Path, *, changeable: bool = False) -> np.memmap:
    """Map an array into memory; its pages are read as they are touched.

    Args:
        path: A `.npy` file.
        changeable: Whether the array may be written to, in memory alone: the file stays as it is.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is no `.npy` file, is cut short, or holds Python objects.
    """
    mapped = _load(path, "c" if changeable else "r")
    assert isinstance(mapped, np.memmap)
    return mapped


def _load(file: Path | BinaryIO, mode: Literal["r", "c"] | None) -> np.ndarray:
    try:
        with _HEADER:
            array = np.load(file, mmap_mode=mode, allow_pickle=False)
    except EOFError as error:
        raise ValueError("the file is empty") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError("the file is an archive, as numpy.savez writes it")
    return array

"""Arrays in `.npy` files, opened by many threads at once."""

import threading
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from pinsage.base.errors import ArtifactError
from pinsage.base.files import whole_file

# NumPy parses a header with Python's own parser, whose depth counter all threads share before
# Python 3.11.8 (gh-106905): two headers parsed at once could end in a SystemError.
_HEADER = threading.Lock()
_SUM_BYTES = 4


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
    """Write an array, and behind it the CRC-32 of all that is before."""
    content = BytesIO()
    np.save(content, array, allow_pickle=False)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(content.getbuffer())
        file.write(_sum_of(content.getbuffer()))


def read_summed(path: Path) -> np.ndarray:
    """Read what `write_summed` wrote.

    Raises:
        OSError: the file cannot be opened or read.
        ArtifactError: it is not what was written, or an earlier version wrote it without a sum.
    """
    content = memoryview(path.read_bytes())
    before, found = content[:-_SUM_BYTES], content[-_SUM_BYTES:]
    if _sum_of(before) != found:
        raise ArtifactError(
            f"{path}: damaged, or of an earlier version; run the same command again"
        )
    return read_array(BytesIO(before))


def _sum_of(content: memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(_SUM_BYTES, "little")


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

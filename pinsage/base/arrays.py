"""Arrays in `.npy` files, opened by many threads at once."""

import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np

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
    with _HEADER:
        return np.load(file, allow_pickle=False)


def map_array(path: Path, *, changeable: bool = False) -> np.memmap:
    """Map an array into memory; its pages are read as they are touched.

    Args:
        path: A `.npy` file.
        changeable: Whether the array may be written to, in memory alone: the file stays as it is.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is no `.npy` file, is cut short, or holds Python objects.
    """
    with _HEADER:
        return np.load(path, mmap_mode="c" if changeable else "r", allow_pickle=False)

"""64-bit prints of rows: equal rows have equal prints, and others differ but for one in 2^64."""

import numpy as np
from jaxtyping import Int64, UInt8, UInt32, UInt64
from numba import njit, prange

from pinsage.kernels.checks import require_starts

_PIECES = 32
"""Pieces of the rows that threads share out."""


def row_prints(
    words: UInt32[np.ndarray, "rows words"], firsts: UInt64[np.ndarray, " rows"]
) -> UInt64[np.ndarray, " rows"]:
    """Print every row of a matrix.

    Args:
        words: The rows, as 32-bit words of whatever they are made of.
        firsts: What each print begins with: zeros, or prints of other things that go into it.

    Raises:
        ValueError: Not a C-contiguous matrix of uint32, or as many firsts as rows.

    >>> rows = np.array([[1, 2], [2, 1], [1, 2]], np.uint32)
    >>> prints = row_prints(rows, np.zeros(3, np.uint64))
    >>> prints[0] == prints[2], prints[0] == prints[1]
    (np.True_, np.False_)
    """
    if words.ndim != 2 or words.dtype != np.uint32 or not words.flags.c_contiguous:
        raise ValueError(
            f"words must be a C-contiguous uint32 matrix; found shape {words.shape} of "
            f"{words.dtype}"
        )
    if firsts.shape != (len(words),) or firsts.dtype != np.uint64:
        raise ValueError(
            f"firsts must be {len(words)} uint64; found shape {firsts.shape} of {firsts.dtype}"
        )
    prints = np.empty(len(words), np.uint64)
    _print_rows(words, firsts, prints)
    return prints


def text_prints(
    starts: Int64[np.ndarray, " texts_and_1"], text: UInt8[np.ndarray, " bytes"]
) -> UInt64[np.ndarray, " texts"]:
    """Print every text.

    Args:
        starts: Where each begins, and where the last one ends.
        text: Their bytes, one after the other.

    Raises:
        ValueError: The starts don't cut the bytes into texts.

    >>> prints = text_prints(np.array([0, 1, 2, 4]), np.frombuffer(b"aaab", np.uint8))
    >>> prints[0] == prints[1], prints[0] == prints[2]
    (np.True_, np.False_)
    """
    require_starts("starts", starts, text.size)
    prints = np.empty(len(starts) - 1, np.uint64)
    _print_texts(starts, text, prints)
    return prints


@njit(cache=True, nogil=True)
def _mixed(print_, word):  # type: ignore[no-untyped-def]
    """Take one more word in, by the splitmix64 finalizer."""
    word = print_ ^ np.uint64(word)
    word = (word + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@njit(cache=True, nogil=True, parallel=True)
def _print_rows(words, firsts, prints):  # type: ignore[no-untyped-def]
    rows, width = words.shape
    for piece in prange(_PIECES):
        for row in range(piece * rows // _PIECES, (piece + 1) * rows // _PIECES):
            value = firsts[row]
            for place in range(width):
                value = _mixed(value, words[row, place])
            prints[row] = value


@njit(cache=True, nogil=True)
def _print_texts(starts, text, prints):  # type: ignore[no-untyped-def]
    for number in range(prints.size):
        value = np.uint64(starts[number + 1] - starts[number])
        for place in range(starts[number], starts[number + 1]):
            value = _mixed(value, text[place])
        prints[number] = value

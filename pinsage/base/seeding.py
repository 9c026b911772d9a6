"""Random streams keyed by what they are for, never by who draws from them."""

from enum import IntEnum

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 0xFFFFFFFFFFFFFFFF


class Stream(IntEnum):
    """What randomness is for. Numbers are for ever: changing one changes every result."""

    WALKS = 1
    LONG_WALKS = 2
    PAIR_ORDER = 3
    SHARED_NEGATIVES = 4
    HARD_NEGATIVES = 5
    WEIGHTS = 6
    SPLITS = 7
    DERIVED_PAIRS = 8
    SYNTHETIC = 9
    BOOTSTRAP = 10
    SAMPLE = 11


def stream_key(seed: int, purpose: Stream, *parts: int) -> int:
    """Mix a seed, a purpose and counters into one 64-bit key (splitmix64 finalizer).

    >>> stream_key(0, Stream.WALKS, 1) == stream_key(0, Stream.WALKS, 1)
    True
    >>> stream_key(0, Stream.WALKS, 1) == stream_key(0, Stream.LONG_WALKS, 1)
    False
    """
    key = 0
    for part in (seed, int(purpose), *parts):
        key = _mix((key + (part & _MASK) * _GOLDEN + _GOLDEN) & _MASK)
    return key


def stream(seed: int, purpose: Stream, *parts: int) -> np.random.Generator:
    """Make a generator for one purpose; equal arguments give equal draws anywhere."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, purpose, *parts)))


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)

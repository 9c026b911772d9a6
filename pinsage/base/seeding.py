"""Random streams keyed by what they are for, never by who draws from them."""

from enum import IntEnum

import numpy as np
from jaxtyping import Float64, Integer

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
    STRUCTURE = 12
    BASELINES = 13
    SEARCH = 14
    SUBGRAPH = 15
    FRESH_PAIRS = 16
    HYPERPLANES = 17
    HIDDEN_EDGES = 18


class Sample(IntEnum):
    """What is drawn by `Stream.SAMPLE`, as its first part; for ever, too.

    Without a part it draws the items by which features are scaled.
    """

    QUERIES = 0
    SHEETS = 1
    SIMILARITY = 2
    POOL = 3
    MAP = 4
    VALIDATION = 5
    RECALL = 6
    TUNING = 7


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


def uniform_by_id(
    seed: int, purpose: Stream, ids: Integer[np.ndarray, "*any"], *parts: int
) -> Float64[np.ndarray, "*any"]:
    """Draw one number in [0, 1) for each id, the same for an id in whatever company it comes.

    Args:
        seed: the run's seed.
        purpose: what the numbers are for.
        ids: integer array of any shape.
        parts: counters such as the epoch.

    Returns:
        float64 array of the shape of `ids`.
    """
    key = np.uint64(stream_key(seed, purpose, *parts))
    x = key + (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53

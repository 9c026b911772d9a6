"""Times of any kind as whole numbers in the same order, and what they are worth as ages."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Int64, Shaped

TimeKind = Literal["timestamp", "integer", "float"]

_WIDEST_FIRST: tuple[TimeKind, ...] = ("float", "timestamp", "integer")

_DATE = r"\d{4}-\d{2}-\d{2}"
_CLOCK = r"\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
_TIME_TEXT = rf"^{_DATE}(?:[ T]{_CLOCK}(?: ?(?:Z|UTC|[+-]\d{{2}}(?::?\d{{2}})?))?)?$"
_TO_PLAIN = (
    (r"(\.\d{6})\d+", r"\1"),
    (rf"^({_DATE})$", r"\1T00:00"),
    (r"(?: ?UTC| Z)$", "Z"),
    (rf"^({_DATE}[ T]{_CLOCK})$", r"\1Z"),
    (r" ([+-])", r"\1"),
)
"""Patterns and what takes their place, so that every time has a clock and a zone."""

_SIGN_KEPT = np.int64(0x7FFFFFFFFFFFFFFF)
_SIGN = np.uint64(1 << 63)
_SECONDS_PER_STEP = 1e-6
_COUNTED_AT_A_TIME = 2**20


@dataclass(frozen=True)
class TimeScale:
    """One kind of times, for all tables of a graph."""

    kind: TimeKind

    def encode(self, times: Shaped[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Map times to whole numbers that are ordered as they are: timestamps to microseconds.

        >>> TimeScale("float").encode(np.array([-1.5, -0.0, 0.0, 2.0])).argsort().tolist()
        [0, 1, 2, 3]
        """
        if self.kind != "float":
            return times.astype(np.int64)
        # A float's bits are ordered as the float is, but for the negative ones, which run back.
        # Adding zero makes one of both zeros.
        bits = (times.astype(np.float64) + 0.0).view(np.int64)
        return np.where(bits < 0, bits ^ _SIGN_KEPT, bits)

    def ages(self, newest: int, codes: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """Tell how much older than the newest one times are: in seconds, or in their own unit.

        A time that is newer still has an age of 0.

        >>> TimeScale("integer").ages(10, np.array([7, 10, 11])).tolist()
        [3.0, 0.0, 0.0]
        """
        if self.kind == "float":
            values = np.where(codes < 0, codes ^ _SIGN_KEPT, codes).view(np.float64)
            top = self._float(newest)
            return np.maximum(top - values, 0.0).astype(np.float32)
        unit = _SECONDS_PER_STEP if self.kind == "timestamp" else 1.0
        # Far apart, two times differ by more than int64 holds, and by no more than uint64 does.
        steps = (newest - np.minimum(codes, newest)).view(np.uint64)
        return (steps * unit).astype(np.float32)

    def _float(self, code: int) -> float:
        bits = np.int64(code)
        return float((bits ^ _SIGN_KEPT if bits < 0 else bits).view(np.float64))


def times_of_texts(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Read dates and times of ISO 8601, as databases and pandas write them.

    Args:
        texts: large_string: `2024-05-01`, `2024-05-01 09:30:00`, `2024-05-01T09:30:00.5Z`,
            `2024-05-01 09:30:00+02:00`, `2024-05-01 09:30:00 UTC`. Without a zone it is UTC;
            what is finer than a microsecond is cut off.

    Returns:
        timestamp[us] in UTC; null where a text is null, is written in another way, or where there
        is no such time, as `2024-02-30`.
    """
    if isinstance(texts, pa.ChunkedArray):
        return pa.chunked_array(map(times_of_texts, texts.chunks), pa.timestamp("us"))
    is_time = pc.match_substring_regex(texts, _TIME_TEXT)
    texts = pc.if_else(is_time, texts, pa.scalar(None, texts.type))
    for pattern, replacement in _TO_PLAIN:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    encoded = texts.dictionary_encode()
    return _parsed(encoded.dictionary).take(encoded.indices)


def _parsed(texts: pa.Array) -> pa.Array:
    """Read times; one cast refuses all of them where one is impossible, so halves are tried."""
    try:
        return texts.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return pa.nulls(1, pa.timestamp("us"))
        half = len(texts) // 2
        return pa.concat_arrays([_parsed(texts[:half]), _parsed(texts[half:])])


def in_order(parts: Callable[[], Iterable[np.ndarray]], places: Sequence[int]) -> list[int]:
    """Find the numbers (int64) that stand in some places when all parts are sorted together.

    Sixteen bits at a time, so that memory does not grow with the parts, which are gone through four
    times a place.

    >>> in_order(lambda: [np.array([5, -3]), np.array([4, 4])], [0, 3])
    [-3, 5]
    """
    return [_one_in_order(parts, place) for place in places]


def _one_in_order(parts: Callable[[], Iterable[np.ndarray]], place: int) -> int:
    prefix = np.uint64(0)
    for shift in (48, 32, 16, 0):
        counts = np.zeros(2**16, np.int64)
        for part in parts():
            for start in range(0, len(part), _COUNTED_AT_A_TIME):
                # With the sign flipped, unsigned numbers are ordered as the signed ones.
                values = part[start : start + _COUNTED_AT_A_TIME].view(np.uint64) ^ _SIGN
                if shift < 48:
                    values = values[values >> np.uint64(shift + 16) == prefix]
                digits = (values >> np.uint64(shift)) & np.uint64(0xFFFF)
                counts += np.bincount(digits.astype(np.int64), minlength=2**16)
        ends = np.cumsum(counts)
        digit = int(np.searchsorted(ends, place, side="right"))
        place -= int(ends[digit] - counts[digit])
        prefix = prefix << np.uint64(16) | np.uint64(digit)
    return int((prefix ^ _SIGN).view(np.int64))


def kind_of(dtype: np.dtype) -> TimeKind:
    """Tell what kind of times an array holds."""
    if dtype.kind == "M":
        return "timestamp"
    return "float" if dtype.kind == "f" else "integer"


def common_scale(kinds: Collection[TimeKind]) -> TimeScale | None:
    """Find the scale that holds times of all these kinds; None if there are no times."""
    for kind in _WIDEST_FIRST:
        if kind in kinds:
            return TimeScale(kind)
    return None

"""Prints against the obvious slow ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinsage.kernels.prints import row_prints, text_prints

MASK = 2**64 - 1


def mixed(value: int, word: int) -> int:
    word = ((value ^ word) + 0x9E3779B97F4A7C15) & MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3), max_size=70))
def test_rows_are_printed_word_by_word(rows: list[list[int]]) -> None:
    words = np.array(rows, np.uint32).reshape(-1, 3)
    firsts = np.arange(len(rows), dtype=np.uint64)
    expected = []
    for first, row in enumerate(rows):
        value = first
        for word in row:
            value = mixed(value, word)
        expected.append(value)
    assert row_prints(words, firsts).tolist() == expected


@given(st.lists(st.text(max_size=5), max_size=20))
def test_texts_have_one_print_if_and_only_if_they_are_equal(texts: list[str]) -> None:
    raw = [text.encode() for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(part) for part in raw])]).astype(np.int64)
    prints = text_prints(starts, np.frombuffer(b"".join(raw), np.uint8)).tolist()
    assert len(set(prints)) == len(set(texts))
    assert dict(zip(texts, prints, strict=True)) == dict(
        zip(texts[::-1], prints[::-1], strict=True)
    )


def test_arrays_of_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="C-contiguous uint32 matrix"):
        row_prints(np.zeros((2, 2), np.int32), np.zeros(2, np.uint64))
    with pytest.raises(ValueError, match="2 uint64"):
        row_prints(np.zeros((2, 2), np.uint32), np.zeros(3, np.uint64))

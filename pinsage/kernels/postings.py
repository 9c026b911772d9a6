"""Posting lists in few bytes: which items carry a term, ascending, in blocks of packed gaps.

A block holds 128 items, a term's last one fewer. Each item is kept as its gap to the one before,
less one, in as many bits as the block's widest gap needs. A block's last item stands beside it
unpacked: a search for an item at least so large skips whole blocks without reading them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64, UInt8, UInt32
from numba import njit

BLOCK = 128
"""Postings a block."""


@dataclass(frozen=True)
class PostingLists:
    """The items of every term.

    Attributes:
        starts: postings before each term's own, and at the end all of them.
        blocks: blocks before each term's own, and at the end all of them.
        block_last: each block's largest item.
        block_width: bits a gap takes in each block.
        block_words: where each block begins among `words`.
        words: the gaps of all blocks, little end first, and one word more to read beyond.
    """

    starts: Int64[np.ndarray, " terms+1"]
    blocks: Int64[np.ndarray, " terms+1"]
    block_last: Int32[np.ndarray, " blocks"]
    block_width: UInt8[np.ndarray, " blocks"]
    block_words: UInt32[np.ndarray, " blocks"]
    words: UInt32[np.ndarray, " words"]

    @property
    def bytes_per_posting(self) -> float:
        """Bytes of everything here, for each item of each term; a plain list takes four."""
        parts = vars(self).values()
        return float(sum(part.nbytes for part in parts) / max(int(self.starts[-1]), 1))

    def items_of(self, term: int) -> Int32[np.ndarray, " items"]:
        """Unpack one term's items."""
        count = int(self.starts[term + 1] - self.starts[term])
        out = np.empty(count, np.int32)
        first = int(self.blocks[term])
        for block in range(first, int(self.blocks[term + 1])):
            place = (block - first) * BLOCK
            before = -1 if block == first else int(self.block_last[block - 1])
            unpack_block(
                self.words,
                int(self.block_words[block]),
                int(self.block_width[block]),
                before,
                min(BLOCK, count - place),
                out[place : place + BLOCK],
            )
        return out


def pack_postings(bands: Iterable[UInt32[np.ndarray, " items"]], num_codes: int) -> PostingLists:
    """Invert bands of codes: term `band * num_codes + code` holds the items that have the code.

    Args:
        bands: for each band, the code of every item, below `num_codes`; read one at a time.
        num_codes: how many codes a band has.

    Raises:
        ValueError: no band, a code that is too large, or lists beyond 16 GiB.

    >>> lists = pack_postings([np.array([1, 0, 1], np.uint32)], 2)
    >>> lists.items_of(0).tolist(), lists.items_of(1).tolist()
    ([1], [0, 2])
    """
    packed = []
    for codes in bands:
        if codes.size and int(codes.max()) >= num_codes:
            raise ValueError(f"codes must be below {num_codes}; found {int(codes.max())}")
        packed.append(_pack_band(codes, num_codes))
    if not packed:
        raise ValueError("bands must hold at least one band of codes; found none")
    num_postings, last, width, sizes, words = map(np.concatenate, zip(*packed, strict=True))
    if int(sizes.sum()) >= 2**32:
        raise ValueError(
            f"posting lists of {4 * int(sizes.sum())} bytes are over 16 GiB; take fewer bands"
        )
    return PostingLists(
        starts=_sums(num_postings),
        blocks=_sums(-(-num_postings // BLOCK)),
        block_last=last,
        block_width=width,
        block_words=_sums(sizes)[:-1].astype(np.uint32),
        words=np.append(words, np.uint32(0)),
    )


def _sums(sizes: Int64[np.ndarray, " parts"]) -> Int64[np.ndarray, " parts+1"]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


@njit(cache=True, nogil=True)
def unpack_block(words, start, width, before, count, out):  # type: ignore[no-untyped-def]
    """Unpack the first `count` items of a block; `before` is the item before them, or -1."""
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    item = before
    bit = 0
    for place in range(count):
        at = start + (bit >> 5)
        pair = np.uint64(words[at])
        if width:
            pair |= np.uint64(words[at + 1]) << np.uint64(32)
        item += np.int64((pair >> np.uint64(bit & 31)) & mask) + 1
        out[place] = item
        bit += width


@njit(cache=True, nogil=True)
def _pack_band(codes, num_codes):  # type: ignore[no-untyped-def]
    counts = np.zeros(num_codes, np.int64)
    for code in codes:
        counts[code] += 1
    # A counting sort: items by code, ascending within one.
    places = np.zeros(num_codes, np.int64)
    for code in range(1, num_codes):
        places[code] = places[code - 1] + counts[code - 1]
    items = np.empty(codes.size, np.int32)
    for item in range(codes.size):
        items[places[codes[item]]] = item
        places[codes[item]] += 1
    num_blocks = 0
    for count in counts:
        num_blocks += (count + BLOCK - 1) // BLOCK
    last = np.empty(num_blocks, np.int32)
    width = np.empty(num_blocks, np.uint8)
    sizes = np.empty(num_blocks, np.int64)
    # No gap takes more bits than an item's id.
    words = np.zeros(codes.size + num_blocks + 1, np.uint32)
    used = 0
    block = 0
    first = 0
    for count in counts:
        before = np.int64(-1)
        for start in range(first, first + count, BLOCK):
            stop = min(start + BLOCK, first + count)
            widest = _widest(items, start, stop, before)
            _pack_block(items, start, stop, before, widest, words, used)
            before = np.int64(items[stop - 1])
            last[block] = before
            width[block] = widest
            sizes[block] = ((stop - start) * widest + 31) // 32
            used += sizes[block]
            block += 1
        first += count
    return counts, last, width, sizes, words[:used].copy()


@njit(cache=True, nogil=True)
def _widest(items, start, stop, before):  # type: ignore[no-untyped-def]
    """Give the bits of the widest gap."""
    together = np.int64(0)
    for place in range(start, stop):
        together |= items[place] - before - 1
        before = np.int64(items[place])
    bits = 0
    while together >> bits:
        bits += 1
    return bits


@njit(cache=True, nogil=True)
def _pack_block(items, start, stop, before, width, words, used):  # type: ignore[no-untyped-def]
    bit = 0
    for place in range(start, stop):
        gap = np.uint64(items[place] - before - 1)
        before = np.int64(items[place])
        at = used + (bit >> 5)
        both = gap << np.uint64(bit & 31)
        words[at] |= np.uint32(both & np.uint64(0xFFFFFFFF))
        if both >> np.uint64(32):
            words[at + 1] |= np.uint32(both >> np.uint64(32))
        bit += width

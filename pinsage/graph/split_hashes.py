"""Hashes that decide a split: each of one key or one pair alone, whatever else there is."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import UInt64

from pinsage.base.seeding import Stream, stream_key
from pinsage.graph.columns import key_texts
from pinsage.graph.pairs import PairRows


def pair_hashes(pairs: PairRows, item_keys: pa.Array, seed: int) -> UInt64[np.ndarray, " pairs"]:
    """Hash each pair by its keys, in either order the same.

    An embedding's inner product cannot tell (p, q) from (q, p): one of them in train and the other
    in test would be training on the answer.
    """
    ids, slots = np.unique(
        np.concatenate([pairs.query_ids, pairs.positive_ids]), return_inverse=True
    )
    texts = key_texts(item_keys.take(pa.array(ids))).to_pylist()
    of_item = text_hashes(texts, stream_key(seed, Stream.SPLITS))[slots]
    count = len(pairs.query_ids)
    return mix(of_item[:count] + of_item[count:])


def text_hashes(texts: Sequence[str], key: int) -> UInt64[np.ndarray, " n"]:
    """Hash each text by itself, so that no other one can change its split."""
    salt = key.to_bytes(8, "little")
    digests = [hashlib.blake2b(text.encode(), digest_size=8, key=salt).digest() for text in texts]
    return np.frombuffer(b"".join(digests), np.dtype("<u8")).astype(np.uint64)


def mix(x: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Spread the bits of a counter (splitmix64 finalizer)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

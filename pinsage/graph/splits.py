"""Which pairs are for train, valid and test, and which edges the training graph may then hold.

What lies in the future of the split, and what the held-out pairs themselves tell, never reaches the
training graph.
"""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int8, Int32, Int64, Shaped, UInt64

from pinsage.base.seeding import Stream, stream_key
from pinsage.graph.edges import Edges
from pinsage.graph.findings import Findings
from pinsage.graph.items import Items
from pinsage.graph.pairs import PairRows
from pinsage.graph.schema import SPLITS, SplitConfig
from pinsage.graph.tables import key_texts

_log = logging.getLogger(__name__)

_TRAIN, _VALID, _TEST = range(len(SPLITS))


@dataclass(frozen=True)
class Labels:
    """Labelled pairs, and the edges that may be seen beside them."""

    query_ids: Int32[np.ndarray, " pairs"]
    positive_ids: Int32[np.ndarray, " pairs"]
    splits: Int8[np.ndarray, " pairs"]
    """Place in `SPLITS`."""
    in_graph: Bool[np.ndarray, " edges"]
    """True for the edges of the training graph."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Why an edge is not in the training graph, to how many."""

    def counts(self) -> dict[str, int]:
        """Split to number of pairs."""
        counted = np.bincount(self.splits, minlength=len(SPLITS))
        return dict(zip(SPLITS, counted.tolist(), strict=True))


def label_pairs(
    pairs: PairRows, edges: Edges, items: Items, split: SplitConfig, *, seed: int
) -> Labels:
    """Split the pairs of a pairs table: by its split column, by time, or by a hash of the pair."""
    in_graph = np.ones(len(edges), bool)
    left_out = {}
    if pairs.splits is not None:
        splits = pairs.splits
    elif pairs.times is not None:
        cuts = time_cuts(pairs.times, split)
        splits = _by_time(pairs.times, cuts)
        if edges.times is None:
            _log.warning(
                "data.edges has no timestamps, so edges made after the pairs that are held out "
                "stay in the graph, and what is measured may be too good"
            )
        else:
            in_graph = edges.times < cuts[0]
            left_out["future"] = int(np.count_nonzero(~in_graph))
    else:
        splits = _by_hash(_pair_hashes(pairs, items, seed), split)
    if pairs.contexts is not None:
        told = _edges_of(pairs.contexts, pairs, splits != _TRAIN, edges, len(items))
        left_out["held_out_pair"] = int(np.count_nonzero(told & in_graph))
        in_graph = in_graph & ~told
    return Labels(pairs.query_ids, pairs.positive_ids, splits, in_graph, left_out)


def derive_pairs(edges: Edges, split: SplitConfig, *, seed: int) -> Labels:
    """Make pairs of the edges: by time if they have times, else by holding out contexts."""
    if edges.times is None:
        return _rings(edges, split, seed=seed)
    return _next_in_time(edges, split)


def check_labels(labels: Labels, findings: Findings) -> None:
    """Note a training graph without edges, and a train or test split without pairs."""
    counts = labels.counts()
    for name in ("train", "test"):
        if not counts[name]:
            findings.add(
                f"data.split: no pairs are left for {name} out of {len(labels.splits)}; "
                "give more pairs, or change data.split"
            )
    if not labels.in_graph.any():
        findings.add(
            f"data.edges: none of {len(labels.in_graph)} edges is left for the training graph "
            f"(left out: {labels.left_out}); check the timestamps, or change data.split"
        )


def time_cuts(times: Shaped[np.ndarray, " n"], split: SplitConfig) -> tuple[np.generic, np.generic]:
    """Find the times at which valid and test begin.

    Each is one of the times given, so that what happens later cannot move it by its size alone.
    """
    ordered = np.sort(times)
    firsts = [
        min(math.floor(len(ordered) * (1 - share) + 1e-6), len(ordered) - 1)
        for share in (split.valid + split.test, split.test)
    ]
    return ordered[firsts[0]], ordered[firsts[1]]


def _by_time(
    times: Shaped[np.ndarray, " n"], cuts: tuple[np.generic, np.generic]
) -> Int8[np.ndarray, " n"]:
    return ((times >= cuts[0]).astype(np.int8) + (times >= cuts[1])).astype(np.int8)


def _by_hash(hashes: UInt64[np.ndarray, " n"], split: SplitConfig) -> Int8[np.ndarray, " n"]:
    draws = hashes.astype(np.float64) / 2.0**64
    splits = np.full(len(hashes), _TRAIN, np.int8)
    splits[draws < split.test + split.valid] = _VALID
    splits[draws < split.test] = _TEST
    return splits


def _pair_hashes(pairs: PairRows, items: Items, seed: int) -> UInt64[np.ndarray, " pairs"]:
    """Hash each pair by its keys, in either order the same.

    An embedding's inner product cannot tell (p, q) from (q, p): one of them in train and the other
    in test would be training on the answer.
    """
    ids, slots = np.unique(
        np.concatenate([pairs.query_ids, pairs.positive_ids]), return_inverse=True
    )
    texts = key_texts(items.keys.take(pa.array(ids))).to_pylist()
    of_item = _hashes(texts, stream_key(seed, Stream.SPLITS))[slots]
    count = len(pairs.query_ids)
    return _mix(of_item[:count] + of_item[count:])


def _hashes(texts: Sequence[str], key: int) -> UInt64[np.ndarray, " n"]:
    """Hash each text by itself, so that no other one can change its split."""
    salt = key.to_bytes(8, "little")
    digests = [hashlib.blake2b(text.encode(), digest_size=8, key=salt).digest() for text in texts]
    return np.frombuffer(b"".join(digests), np.dtype("<u8")).astype(np.uint64)


def _edges_of(
    contexts: pa.DictionaryArray,
    pairs: PairRows,
    held_out: Bool[np.ndarray, " pairs"],
    edges: Edges,
    num_items: int,
) -> Bool[np.ndarray, " edges"]:
    """Mark the edges between the contexts and the items of held-out pairs."""
    code_of = pc.index_in(contexts.dictionary, value_set=edges.context_keys)
    codes = code_of.fill_null(-1).to_numpy(zero_copy_only=False)[contexts.indices.to_numpy()]
    told = held_out & (codes >= 0)
    first = codes[told].astype(np.int64) * num_items
    edge_keys = edges.context_ids.astype(np.int64) * num_items + edges.item_ids
    return np.isin(
        edge_keys,
        np.concatenate([first + pairs.query_ids[told], first + pairs.positive_ids[told]]),
    )


def _next_in_time(edges: Edges, split: SplitConfig) -> Labels:
    """Pair each item with the next one of the same context (paper, section 4.1)."""
    times, all_times = edges.times, edges.all_times
    assert times is not None
    assert all_times is not None
    # All rows decide the cuts, repeated ones too: which item a future row names moves nothing.
    cuts = time_cuts(all_times, split)
    order = np.lexsort((edges.item_ids, times, edges.context_ids))
    contexts = edges.context_ids[order]
    followed = np.flatnonzero(contexts[1:] == contexts[:-1])
    in_graph = times < cuts[0]
    return Labels(
        edges.item_ids[order][followed],
        edges.item_ids[order][followed + 1],
        _by_time(times[order][followed + 1], cuts),
        in_graph,
        {"future": int(np.count_nonzero(~in_graph))},
    )


def _rings(edges: Edges, split: SplitConfig, *, seed: int) -> Labels:
    """Hold out whole contexts; in each context, put the items in a random ring.

    Each item is paired with the next of its ring, so every item of a context is a query once and a
    positive once.
    """
    hashes = _hashes(edges.context_keys.to_pylist(), stream_key(seed, Stream.SPLITS))
    split_of = _by_hash(hashes, split)
    item_keys = _mix(
        edges.item_ids.astype(np.uint64) + np.uint64(stream_key(seed, Stream.DERIVED_PAIRS))
    )
    draws = _mix(item_keys ^ hashes[edges.context_ids])
    order = np.lexsort((draws, edges.context_ids))
    contexts, ring = edges.context_ids[order], edges.item_ids[order]
    starts = _starts(contexts)
    sizes = np.diff(np.append(starts, len(contexts)))
    following = np.arange(1, len(contexts) + 1)
    following[starts + sizes - 1] = starts
    paired = np.repeat(sizes > 1, sizes)
    in_graph = split_of[edges.context_ids] == _TRAIN
    return Labels(
        ring[paired],
        ring[following][paired],
        split_of[contexts][paired],
        in_graph,
        {"held_out_context": int(np.count_nonzero(~in_graph))},
    )


def _starts(contexts: Int32[np.ndarray, " n"]) -> Int64[np.ndarray, " distinct"]:
    """Find where each run of one context begins."""
    return np.flatnonzero(np.append(True, contexts[1:] != contexts[:-1]))


def _mix(x: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Spread the bits of a counter (splitmix64 finalizer)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

"""Which pairs are for train, valid and test, and which edges the training graph may then hold.

What lies in the future of the split, and what the held-out pairs themselves tell, never reaches the
training graph. Everything is decided a run of contexts at a time, so that no step has to see all
edges at once.
"""

import logging
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int, Int8, Int64, Shaped, UInt64

from pinsage.base.errors import DataError
from pinsage.base.seeding import Stream, stream_key
from pinsage.graph.columns import key_texts
from pinsage.graph.pairs import PairRows
from pinsage.graph.schema import HELD_OUT_CONTEXT, SPLITS, SplitConfig
from pinsage.graph.split_hashes import mix, pair_hashes, text_hashes
from pinsage.graph.times import TimeScale
from pinsage.kernels.csr import MergedRows, order_in_rows

_log = logging.getLogger(__name__)

_TRAIN, _VALID, _TEST = range(len(SPLITS))

CUTS_BEHIND_ALL = (np.iinfo(np.int64).max,) * 2
"""Encoded times at which valid and test begin where nothing is held out."""

_COLD_ITEMS = 1
"""What keys are hashed for, beside the splits."""


@dataclass(frozen=True)
class LabeledPairs:
    """Pairs of items, each for one split."""

    query_ids: Int[np.ndarray, " pairs"]
    positive_ids: Int[np.ndarray, " pairs"]
    splits: Int8[np.ndarray, " pairs"]
    """Place in `SPLITS`."""

    def counts(self) -> dict[str, int]:
        """Split to number of pairs."""
        counted = np.bincount(self.splits, minlength=len(SPLITS))
        return dict(zip(SPLITS, counted.tolist(), strict=True))


@dataclass(frozen=True)
class Holdout:
    """What is held out, decided before the edges are put in place."""

    split: SplitConfig
    seed: int
    derives_pairs: bool
    """Pairs are made from the edges, run by run; else they came in a table."""
    cuts: tuple[int, int] | None = None
    """Encoded times at which valid and test begin, if splits go by time and edges have times."""
    told: tuple[Int64[np.ndarray, " told"], Int64[np.ndarray, " told"]] | None = None
    """Contexts, ascending, and items of the edges that held-out pairs tell."""
    cold: Bool[np.ndarray, " items"] | None = None
    """Items that training does not see; None if there are none."""

    @property
    def is_cut_once(self) -> bool:
        """Whether so many rows share a time that valid and test begin at the same one."""
        return self.split.valid > 0 and self.cuts is not None and self.cuts[0] == self.cuts[1]


@dataclass(frozen=True)
class ContextRun:
    """The merged edges of some consecutive contexts."""

    first_context: int
    edges: MergedRows
    """Compressed rows; the columns are item ids."""

    @property
    def contexts(self) -> Int64[np.ndarray, " edges"]:
        """The place in the run of every edge's context."""
        starts = self.edges.starts
        return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


@dataclass(frozen=True)
class RunLabels:
    """What a run's edges give: which of them training may see, and pairs if those are derived."""

    in_graph: Bool[np.ndarray, " edges"]
    pairs: LabeledPairs | None
    left_out: dict[str, int] = field(default_factory=dict)
    """Why an edge is not in the training graph, to how many."""
    of_cold: Bool[np.ndarray, " edges"] | None = None
    """Edges that would be in the training graph, were their items not cold."""


def label_pairs(
    pairs: PairRows,
    item_keys: pa.Array,
    split: SplitConfig,
    *,
    scale: TimeScale | None,
    seed: int,
) -> tuple[LabeledPairs, Holdout]:
    """Split the pairs of a pairs table: by its split column, by time, or by a hash of the pair.

    Args:
        pairs: the table.
        item_keys: keys by item id.
        split: the shares held out.
        scale: the edges' times; None if they have none.
        seed: decides where neither a column nor time does.

    Returns:
        The pairs, and what they hold out; `with_told_edges` adds what their contexts tell.
    """
    holdout = Holdout(split, seed, derives_pairs=False)
    if pairs.splits is not None:
        splits = pairs.splits
    elif not split.holds_out:
        splits = np.full(len(pairs.query_ids), _TRAIN, np.int8)
    elif pairs.times is not None:
        cuts = time_cuts(pairs.times, split)
        splits = _by_time(pairs.times, cuts)
        if scale is None:
            _log.warning(
                "data.edges has no timestamps, so edges made after the pairs that are held out "
                "stay in the graph, and what is measured may be too good"
            )
        else:
            valid, test = scale.encode(np.array(cuts)).tolist()
            holdout = replace(holdout, cuts=(valid, test))
    else:
        splits = _by_hash(pair_hashes(pairs, item_keys, seed), split)
        if pairs.contexts is None:
            _log.warning(
                "data.pairs has neither a split nor a timestamp nor a context, so edges that tell "
                "held-out pairs, if there are any, stay in the graph, and what is measured may be "
                "too good; give data.pairs.context, unless data.edges leaves those edges out"
            )
    return LabeledPairs(pairs.query_ids, pairs.positive_ids, splits), holdout


def with_told_edges(
    holdout: Holdout, pairs: PairRows, labeled: LabeledPairs, context_keys: pa.Array
) -> Holdout:
    """Hold out the edges between the contexts and the items of valid and test pairs.

    Raises:
        DataError: no pair has a context that edges have.
    """
    if pairs.contexts is None:
        return holdout
    code_of = pc.index_in(pairs.contexts.dictionary, value_set=context_keys)
    code_of = code_of.fill_null(-1).to_numpy(zero_copy_only=False)
    codes = code_of[pairs.contexts.indices.to_numpy()].astype(np.int64)
    is_held_out = labeled.splits != _TRAIN
    _check_contexts(pairs.contexts, context_keys, codes < 0, is_held_out)
    told = is_held_out & (codes >= 0)
    contexts = np.concatenate([codes[told], codes[told]])
    items = np.concatenate([pairs.query_ids[told], pairs.positive_ids[told]]).astype(np.int64)
    order = np.argsort(contexts, kind="stable")
    return replace(holdout, told=(contexts[order], items[order]))


def _check_contexts(
    contexts: pa.Array,
    context_keys: pa.Array,
    is_unknown: Bool[np.ndarray, " pairs"],
    is_held_out: Bool[np.ndarray, " pairs"],
) -> None:
    """Stop if no pair's context is one of the edges'; warn if most held-out ones are not."""
    fix = (
        "name the same keys in data.pairs.context and data.edges.context, and give data.pairs the "
        "context_prefix of data.edges"
    )
    if len(is_unknown) and is_unknown.all():
        raise DataError(
            f"data.pairs.context: no edge has the context of any of {len(is_unknown)} pairs (of "
            f"pairs, for example: {contexts[0].as_py()!r}; of edges: {context_keys[0].as_py()!r}), "
            f"so no edge that tells a held-out pair would leave the graph; {fix}; leave "
            "data.pairs.context out if edges have none of these contexts"
        )
    missing = is_unknown & is_held_out
    count, total = int(np.count_nonzero(missing)), int(np.count_nonzero(is_held_out))
    if 2 * count > total:
        _log.warning(
            "data.pairs.context: no edge has the context of %d of %d held-out pairs (for example "
            "%r), so these pairs take no edge out of the graph, and what is measured may be too "
            "good; unless data.edges leaves such edges out, %s",
            count,
            total,
            contexts[int(missing.argmax())].as_py(),
            fix,
        )


def cold_items(
    item_keys: pa.Array, split: SplitConfig, *, seed: int
) -> Bool[np.ndarray, " items"] | None:
    """Choose the items that training does not see, each by a hash of its key alone."""
    if split.cold_items == 0:
        return None
    texts = key_texts(item_keys).to_pylist()
    hashes = text_hashes(texts, stream_key(seed, Stream.SPLITS, _COLD_ITEMS))
    return hashes.astype(np.float64) / 2.0**64 < split.cold_items


def without_cold(pairs: LabeledPairs, cold: Bool[np.ndarray, " items"] | None) -> LabeledPairs:
    """Leave out the train pairs that have a cold item."""
    if cold is None:
        return pairs
    kept = (pairs.splits != _TRAIN) | ~(cold[pairs.query_ids] | cold[pairs.positive_ids])
    return LabeledPairs(pairs.query_ids[kept], pairs.positive_ids[kept], pairs.splits[kept])


def label_run(run: ContextRun, holdout: Holdout, context_keys: pa.Array) -> RunLabels:
    """Decide what training may see of some contexts' edges, and make pairs if they give them.

    Args:
        run: the edges.
        holdout: what is held out.
        context_keys: the keys of these contexts, as text.
    """
    labels = _label_edges(run, holdout, context_keys)
    if holdout.cold is None:
        return labels
    of_cold = labels.in_graph & holdout.cold[run.edges.cols]
    return RunLabels(
        labels.in_graph & ~of_cold,
        None if labels.pairs is None else without_cold(labels.pairs, holdout.cold),
        labels.left_out | {"cold_item": int(np.count_nonzero(of_cold))},
        of_cold,
    )


def _label_edges(run: ContextRun, holdout: Holdout, context_keys: pa.Array) -> RunLabels:
    if holdout.derives_pairs:
        if holdout.cuts is None:
            return _rings(run, holdout, context_keys)
        return _next_in_time(run, holdout, context_keys)
    in_graph = np.ones(len(run.edges.cols), bool)
    left_out = {}
    if holdout.cuts is not None:
        assert run.edges.firsts is not None
        in_graph = run.edges.firsts < holdout.cuts[0]
        left_out["future"] = int(np.count_nonzero(~in_graph))
    if holdout.told is not None:
        told = _told(run, holdout.told)
        left_out["held_out_pair"] = int(np.count_nonzero(told & in_graph))
        in_graph = in_graph & ~told
    return RunLabels(in_graph, None, left_out)


def cut_places(count: int, split: SplitConfig) -> tuple[int, int]:
    """Give the places in order of time, of so many rows, at which valid and test begin."""
    valid, test = (
        min(math.floor(count * (1 - share) + 1e-6), count - 1)
        for share in (split.valid + split.test, split.test)
    )
    return valid, test


def time_cuts(times: Shaped[np.ndarray, " n"], split: SplitConfig) -> tuple[np.generic, np.generic]:
    """Find the times at which valid and test begin.

    Each is one of the times given, so that what happens later cannot move it by its size alone.
    """
    places = cut_places(len(times), split)
    ordered = np.partition(times, places)
    return ordered[places[0]], ordered[places[1]]


def _by_time(times: Shaped[np.ndarray, " n"], cuts: tuple[Any, Any]) -> Int8[np.ndarray, " n"]:
    return ((times >= cuts[0]).astype(np.int8) + (times >= cuts[1])).astype(np.int8)


def _by_hash(hashes: UInt64[np.ndarray, " n"], split: SplitConfig) -> Int8[np.ndarray, " n"]:
    draws = hashes.astype(np.float64) / 2.0**64
    splits = np.full(len(hashes), _TRAIN, np.int8)
    splits[draws < split.test + split.valid] = _VALID
    splits[draws < split.test] = _TEST
    return splits


def _told(
    run: ContextRun, told: tuple[Int64[np.ndarray, " told"], Int64[np.ndarray, " told"]]
) -> Bool[np.ndarray, " edges"]:
    """Mark the edges of a run that held-out pairs tell."""
    contexts, items = told
    ends = [run.first_context, run.first_context + len(run.edges.starts) - 1]
    first, stop = np.searchsorted(contexts, ends)
    if first == stop:
        return np.zeros(len(run.edges.cols), bool)
    most = max(int(items.max()), int(run.edges.cols.max(initial=0))) + 1
    wanted = (contexts[first:stop] - run.first_context) * most + items[first:stop]
    return np.isin(run.contexts * most + run.edges.cols, wanted)


def _next_in_time(run: ContextRun, holdout: Holdout, context_keys: pa.Array) -> RunLabels:
    """Pair each item with the next one of the same context (paper, section 4.1).

    Items that came at the same time stand in a random order, as a basket's do: in that of their ids
    the next item would be told by the order of the items table, which anything learns.
    """
    assert holdout.cuts is not None
    edges, contexts = run.edges, run.contexts
    assert edges.firsts is not None
    followed = np.flatnonzero(contexts[1:] == contexts[:-1])
    order = order_in_rows(edges.starts, edges.firsts)
    times = edges.firsts[order]
    if (times[followed] == times[followed + 1]).any():
        order = order_in_rows(edges.starts, _draws(run, holdout, context_keys))
        order = order[order_in_rows(edges.starts, edges.firsts[order])]
    items = edges.cols[order]
    in_graph = edges.firsts < holdout.cuts[0]
    splits = _by_time(times[followed + 1], holdout.cuts)
    pairs = LabeledPairs(items[followed], items[followed + 1], splits)
    return RunLabels(in_graph, pairs, {"future": int(np.count_nonzero(~in_graph))})


def _draws(
    run: ContextRun, holdout: Holdout, context_keys: pa.Array
) -> UInt64[np.ndarray, " edges"]:
    """Draw a number for each edge, by its item and the key of its context."""
    hashes = text_hashes(context_keys.to_pylist(), stream_key(holdout.seed, Stream.SPLITS))
    derived = np.uint64(stream_key(holdout.seed, Stream.DERIVED_PAIRS))
    return mix(mix(run.edges.cols.astype(np.uint64) + derived) ^ hashes[run.contexts])


def _rings(run: ContextRun, holdout: Holdout, context_keys: pa.Array) -> RunLabels:
    """Hold out whole contexts; in each context, put the items in a random ring.

    Each item is paired with the next of its ring, so every item of a context is a query once and a
    positive once.
    """
    starts, items = run.edges.starts, run.edges.cols
    hashes = text_hashes(context_keys.to_pylist(), stream_key(holdout.seed, Stream.SPLITS))
    split_of = _by_hash(hashes, holdout.split)
    contexts = run.contexts
    ring = items[order_in_rows(starts, _draws(run, holdout, context_keys))]
    sizes = np.diff(starts)
    following = np.arange(1, len(ring) + 1)
    has_items = sizes > 0
    following[starts[1:][has_items] - 1] = starts[:-1][has_items]
    paired = np.repeat(sizes > 1, sizes)
    in_graph = split_of[contexts] == _TRAIN
    pairs = LabeledPairs(ring[paired], ring[following][paired], split_of[contexts][paired])
    return RunLabels(in_graph, pairs, {HELD_OUT_CONTEXT: int(np.count_nonzero(~in_graph))})

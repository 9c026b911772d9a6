"""From training pairs to everything one step needs, re-indexed (Algorithm 2; paper, 3.3).

A minibatch is a pure function of (epoch, step, rank) and the published data. So any producer can
build any minibatch, a lost one is asked for again from another, and a resumed run sees the same.
"""

from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64
from pydantic import Field, NonNegativeInt, PositiveInt

from pinsage.base.config import Config
from pinsage.base.seeding import Stream, uniform_by_id
from pinsage.kernels.reindex import Scratch, unique_ids
from pinsage.sampling.block import Block, build_blocks, cut_table
from pinsage.sampling.curriculum import num_hard_negatives
from pinsage.sampling.negatives import hard_negatives, shared_negatives
from pinsage.sampling.neighborhood import Neighborhoods
from pinsage.sampling.pair_sources import PairArrays, PairSource
from pinsage.sampling.pairs import epoch_order, rank_share, steps_per_epoch


class MinibatchConfig(Config):
    """What one step of training sees (paper, 3.3)."""

    size: PositiveInt = 2_048
    """Pairs a step, over all workers (paper, table 3)."""
    shared_negatives: PositiveInt = 500
    """Items drawn uniformly, used by every pair of the minibatch."""
    max_hard_negatives: NonNegativeInt = 6
    """Most hard negatives a pair: none in the first epoch, then one more every epoch, so that six
    of them take seven epochs."""
    num_neighbors: Annotated[int, Field(ge=1)] | None = None
    """T in training; none means all that the neighborhood table keeps."""
    fresh_pairs: str | None = None
    """Draw the pairs anew every epoch from the contexts of the training graph whose key begins so,
    each item with another one of the same context; an empty text takes every context. None takes
    the train pairs, the same ones every epoch."""
    hidden_edges: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the items that training sees as if they had no edges, other ones every epoch:
    without neighbors, degree and structural features. So items that come with content alone are
    embedded among those whose content is like theirs, not apart from all that have edges."""


@runtime_checkable
class FeatureSource(Protocol):
    """Where feature rows come from."""

    @property
    def num_items(self) -> int:
        """How many items have a row."""
        ...

    def gather(self, item_ids: Int64[np.ndarray, " wanted"]) -> Float32[np.ndarray, "wanted width"]:
        """Copy out the rows of some items."""
        ...


@dataclass(frozen=True)
class Minibatch:
    """One rank's part of one step, in slots of its unique seed items.

    Attributes:
        queries: seed slot of each pair's query.
        positives: seed slot of each pair's positive.
        shared_negatives: seed slots, for every pair.
        hard_negatives: seed slots a pair; -1 where the query has no candidate.
        seed_ids: which items the seed slots stand for.
        log_expected: logarithm of how often a whole minibatch is expected to draw each seed, as a
            shared negative or as the positive of a pair.
        blocks: one a layer, from the features up.
        features: layer-0 input rows, in the lowest block's source slots.
        num_seeds: how many distinct items the loss looks at.
        total_pairs: pairs of the whole step, over all ranks.
    """

    queries: Int32[np.ndarray, " pairs"]
    positives: Int32[np.ndarray, " pairs"]
    shared_negatives: Int32[np.ndarray, " shared"]
    hard_negatives: Int32[np.ndarray, "pairs hard"]
    seed_ids: Int64[np.ndarray, " seeds"]
    log_expected: Float32[np.ndarray, " seeds"]
    blocks: list[Block]
    features: Float32[np.ndarray, "inputs width"]
    num_seeds: int
    total_pairs: int


class MinibatchBuilder:
    """Builds the minibatches of one training set."""

    def __init__(
        self,
        *,
        pairs: PairSource,
        features: FeatureSource,
        neighborhoods: Neighborhoods,
        config: MinibatchConfig,
        num_layers: int,
        seed: int,
        unseen: Int64[np.ndarray, " unseen"] | None = None,
        graph_columns: Int64[np.ndarray, " columns"] | None = None,
    ) -> None:
        """Hold the data; nothing is copied but the neighborhood columns in use.

        Args:
            pairs: what is trained on.
            features: rows of all items.
            neighborhoods: of all items.
            config: what a step sees.
            num_layers: K.
            seed: the run's seed.
            unseen: ascending ids of items that training must not see; None has none.
            graph_columns: features that items have of their edges, for `config.hidden_edges`.
        """
        self._unseen = unseen
        self._graph_columns = graph_columns
        width = config.num_neighbors or neighborhoods.ids.shape[1]
        self._pairs = pairs
        self._features = features
        self._table = cut_table(neighborhoods.ids, neighborhoods.weights, width)
        self._candidates = neighborhoods.hard_negatives
        self._config = config
        self._num_layers = num_layers
        self._seed = seed
        self._scratch = Scratch.of(features.num_items)
        self._epoch: tuple[int, PairArrays, Int64[np.ndarray, " pairs"]] | None = None
        self._times_positive = pairs.times_positive(features.num_items).astype(np.int32)

    @property
    def steps_per_epoch(self) -> int:
        """Minibatches in one epoch."""
        return steps_per_epoch(len(self._pairs), self._config.size)

    def build(self, epoch: int, step: int, *, world_rank: int, world_size: int) -> Minibatch:
        """Build one rank's part of one step; equal arguments give equal minibatches."""
        pairs, order = self._of_epoch(epoch)
        size = self._config.size
        share = rank_share(
            order, step, minibatch_size=size, world_rank=world_rank, world_size=world_size
        )
        queries, positives = (side[share] for side in pairs)
        shared = shared_negatives(
            self._features.num_items,
            self._config.shared_negatives,
            seed=self._seed,
            epoch=epoch,
            step=step,
            unseen=self._unseen,
        )
        hard = hard_negatives(
            self._candidates[queries],
            share,
            num_hard_negatives(epoch, most=self._config.max_hard_negatives),
            seed=self._seed,
            epoch=epoch,
        )
        return self._assemble(
            queries,
            positives,
            shared,
            hard,
            total_pairs=len(order[step * size : (step + 1) * size]),
            epoch=epoch,
        )

    def _assemble(
        self,
        queries: Int64[np.ndarray, " pairs"],
        positives: Int64[np.ndarray, " pairs"],
        shared: Int64[np.ndarray, " shared"],
        hard: Int[np.ndarray, "pairs hard"],
        *,
        total_pairs: int,
        epoch: int,
    ) -> Minibatch:
        present = hard >= 0
        seeds, slots = unique_ids(
            np.concatenate([queries, positives, shared, hard[present].astype(np.int64)]),
            self._scratch,
        )
        count = len(queries)
        hard_slots = np.full(hard.shape, -1, np.int32)
        hard_slots[present] = slots[2 * count + len(shared) :]
        blocks, input_ids = build_blocks(
            seeds, *self._table, num_layers=self._num_layers, scratch=self._scratch
        )
        features = self._features.gather(input_ids)
        if self._config.hidden_edges:
            self._hide_edges(blocks, input_ids, features, epoch)
        return Minibatch(
            queries=slots[:count],
            positives=slots[count : 2 * count],
            shared_negatives=slots[2 * count : 2 * count + len(shared)],
            hard_negatives=hard_slots,
            seed_ids=seeds,
            log_expected=self._log_expected(seeds),
            blocks=blocks,
            features=features,
            num_seeds=len(seeds),
            total_pairs=total_pairs,
        )

    def _hide_edges(
        self,
        blocks: list[Block],
        input_ids: Int64[np.ndarray, " inputs"],
        features: Float32[np.ndarray, "inputs width"],
        epoch: int,
    ) -> None:
        """Make some items of this epoch such as have no edges, wherever they stand."""
        draws = uniform_by_id(self._seed, Stream.HIDDEN_EDGES, input_ids, epoch)
        hidden = draws < self._config.hidden_edges
        if self._graph_columns is not None:
            features[np.ix_(hidden, self._graph_columns)] = 0.0
        for block in blocks:
            block.weights[hidden[: len(block.weights)]] = 0.0

    def _log_expected(self, seeds: Int64[np.ndarray, " seeds"]) -> Float32[np.ndarray, " seeds"]:
        # Fewer pairs than a minibatch holds are all in each.
        share = min(self._config.size / len(self._pairs), 1.0)
        as_positive = self._times_positive[seeds] * share
        num_seen = self._features.num_items - (0 if self._unseen is None else len(self._unseen))
        as_shared = self._config.shared_negatives / num_seen
        return np.log(as_positive + as_shared).astype(np.float32)

    def _of_epoch(self, epoch: int) -> tuple[PairArrays, Int64[np.ndarray, " pairs"]]:
        """Give an epoch's pairs, and the order they are taken in."""
        if self._epoch is None or self._epoch[0] != epoch:
            order = epoch_order(len(self._pairs), seed=self._seed, epoch=epoch)
            self._epoch = (epoch, self._pairs.of_epoch(epoch), order)
        return self._epoch[1:]

"""Where an epoch's training pairs come from: a fixed list, or drawn anew from contexts."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Int, Int64

from pinsage.base.errors import DataError
from pinsage.base.seeding import Stream, stream
from pinsage.graph import Graph
from pinsage.kernels.csr import order_in_rows

PairArrays = tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]
"""Queries and positives, as item ids."""


@runtime_checkable
class PairSource(Protocol):
    """Gives as many pairs every epoch; a pure function of the epoch."""

    def __len__(self) -> int:
        """Pairs an epoch."""
        ...

    def of_epoch(self, epoch: int) -> PairArrays:
        """Give the pairs of one epoch, counted from 0."""
        ...

    def times_positive(self, num_items: int) -> Int64[np.ndarray, " items"]:
        """Count how often each item is a positive in an epoch."""
        ...


@dataclass(frozen=True)
class FixedPairs:
    """The same pairs every epoch: those of the graph, labelled train."""

    queries: Int64[np.ndarray, " pairs"]
    positives: Int64[np.ndarray, " pairs"]

    def __len__(self) -> int:
        return len(self.queries)

    def of_epoch(self, epoch: int) -> PairArrays:
        """Give all of them."""
        del epoch
        return self.queries, self.positives

    def times_positive(self, num_items: int) -> Int64[np.ndarray, " items"]:
        """Count how often each item is a positive."""
        return np.bincount(self.positives, minlength=num_items)


@dataclass(frozen=True)
class FreshPairs:
    """Pairs of two items of one context, drawn anew every epoch.

    The items of each context stand in a random ring, and each is paired with the next: it is a
    query once and a positive once for every context it is in. Over the epochs a context of n items
    gives up to n (n - 1) pairs, where a fixed list has n of them.

    Attributes:
        starts: where each context's items begin in `items`; every context has at least two.
        items: item ids.
        seed: the run's seed.
    """

    starts: Int64[np.ndarray, " contexts_and_1"]
    items: Int[np.ndarray, " edges"]
    seed: int

    @classmethod
    def of_contexts(cls, graph: Graph, prefix: str, *, seed: int) -> "FreshPairs":
        """Take the contexts of the training graph whose key begins with a text.

        What is held out is in no context of the training graph, so none of it comes up.

        Raises:
            DataError: no context of two items has such a key.
        """
        keys = graph.context_keys()
        adjacency = graph.adjacency()
        degrees = adjacency.context_degrees
        begins = pc.starts_with(keys, pattern=prefix).to_numpy(zero_copy_only=False)
        chosen = begins & (degrees > 1)
        if not chosen.any():
            examples = ", ".join(repr(key) for key in keys[:3].to_pylist())
            raise DataError(
                f"train.minibatch.fresh_pairs: no context of two items or more has a key that "
                f"begins with {prefix!r}; there are keys such as {examples}; give the beginning of "
                "some, or null to take the train pairs"
            )
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(degrees[chosen])])
        return cls(starts, adjacency.context_items[np.repeat(chosen, degrees)], seed)

    def __len__(self) -> int:
        return len(self.items)

    def of_epoch(self, epoch: int) -> PairArrays:
        """Draw the rings of one epoch."""
        draws = stream(self.seed, Stream.FRESH_PAIRS, epoch).random(len(self.items))
        ring = self.items[order_in_rows(self.starts, draws)].astype(np.int64)
        following = np.roll(ring, -1)
        following[self.starts[1:] - 1] = ring[self.starts[:-1]]
        return ring, following

    def times_positive(self, num_items: int) -> Int64[np.ndarray, " items"]:
        """Count the contexts that each item is in."""
        return np.bincount(self.items, minlength=num_items)


def open_pairs(graph: Graph, fresh: str | None, *, seed: int) -> PairSource:
    """Open the pairs to train on.

    Args:
        graph: the training graph.
        fresh: prefix of the keys of the contexts that give the pairs; None takes the train pairs.
        seed: the run's seed.

    Raises:
        DataError: there are none.
    """
    if fresh is not None:
        return FreshPairs.of_contexts(graph, fresh, seed=seed)
    pairs = graph.pairs("train")
    if not len(pairs):
        raise DataError(
            f"{graph.artifact.path}: no pair has split train, so there is nothing to train on; "
            "look at data.pairs and data.split"
        )
    return FixedPairs(pairs.queries, pairs.positives)

"""Small graphs and score tables whose right answers are known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from pinsage.graph import BipartiteAdjacency
from pinsage.kernels.csr import build_csr, transpose


@dataclass
class TableScorer:
    """Gives the rows of a table, and remembers what it was asked for."""

    table: np.ndarray
    asked: list[list[int]] = field(default_factory=list)

    def scores(self, query_ids):
        self.asked.append(query_ids.tolist())
        return self.table[query_ids].astype(np.float32)


@pytest.fixture
def scorer_of() -> Callable[[object], TableScorer]:
    return lambda table: TableScorer(np.asarray(table))


@pytest.fixture
def graph_of() -> Callable[[Sequence[Sequence[int]], int], BipartiteAdjacency]:
    """Make a graph from the items of each context."""

    def make(contexts: Sequence[Sequence[int]], num_items: int) -> BipartiteAdjacency:
        items = np.array([item for context in contexts for item in context], np.int64)
        ids = np.repeat(np.arange(len(contexts)), [len(context) for context in contexts])
        starts, item_contexts = build_csr(items, ids, num_items)
        return BipartiteAdjacency(
            starts, item_contexts, *transpose(starts, item_contexts, len(contexts))
        )

    return make

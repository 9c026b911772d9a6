"""Importance neighborhoods and hard-negative candidates, for every item (paper, 3.2 and 3.3)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float32, Int, Int64
from pydantic import Field, PositiveInt, model_validator

from pinsage.base.arrays import map_array, read_array
from pinsage.base.artifacts import Draft, open_artifact
from pinsage.base.config import Config
from pinsage.base.seeding import Stream, stream_key
from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.graph.choice import ChoiceConfig, edge_chances, faded
from pinsage.graph.cold import ColdItems
from pinsage.kernels.packing import PackedAdjacency, pack
from pinsage.kernels.visits import importance_weights
from pinsage.kernels.walks import MAX_VISITS, walk_neighborhoods, walk_new_items

STAGE = "neighborhoods"

_COLD_IDS, _COLD_NEIGHBORS, _COLD_WEIGHTS = (
    f"cold_{name}.npy" for name in ("item_ids", "neighbor_ids", "weights")
)

_RANKS_PER_CALL = 2**23
"""Ranks of long walks held at a time: 64 MiB."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


def _check_visits(num_walks: int, walk_length: int) -> None:
    if num_walks * walk_length > MAX_VISITS:
        raise ValueError(
            f"num_walks {num_walks} x walk_length {walk_length} is above {MAX_VISITS} visits an "
            "item; lower one of them"
        )


class WalkConfig(Config):
    """Short random walks that define N(u), the importance neighborhood (paper, 3.2)."""

    num_walks: PositiveInt = 200
    """Walks from every item."""
    walk_length: PositiveInt = 2
    """Most item-context-item steps of one walk."""
    restart: Probability = 0.5
    """Chance that a walk jumps home after a step."""
    num_neighbors: PositiveInt = 50
    """T: how many of the most visited items are kept (paper, table 4)."""
    choice: ChoiceConfig = ChoiceConfig()
    """How walks, the long ones for hard negatives too, choose among a node's edges."""
    items_per_chunk: PositiveInt = 65_536
    """Items walked by one call; a killed run repeats at most one chunk. Where stores walk by
    rounds, as many chunks go together as `stores.visits_per_round` allows, up to 16, and a killed
    run repeats what was under way."""

    @model_validator(mode="after")
    def _walks_can_be_counted(self) -> "WalkConfig":
        _check_visits(self.num_walks, self.walk_length)
        return self


class HardNegativeConfig(Config):
    """Where hard negatives come from: a band of each item's walk ranks (paper, 3.3).

    Far ranks need long walks, and many: items that were met as often as each other, most of them
    once, are ranked by lot. The defaults cost some 80 times as much as the short walks of
    `WalkConfig`: 0.4 CPU seconds for 1,000 items (`python -m benchmarks.neighborhoods`).
    """

    first_rank: PositiveInt = 2_000
    """Best walk rank, counted from 1, that may serve as a hard negative."""
    last_rank: PositiveInt = 5_000
    """Worst walk rank that may."""
    num_candidates: PositiveInt = 64
    """Candidates kept for each item, spread evenly over the band."""
    num_walks: PositiveInt = 2_000
    """Walks from every item for ranking."""
    walk_length: PositiveInt = 8
    """Most item-context-item steps of one such walk."""
    restart: Probability = 0.2
    """Chance that such a walk jumps home after a step."""

    @model_validator(mode="after")
    def _band_is_not_empty(self) -> "HardNegativeConfig":
        _check_visits(self.num_walks, self.walk_length)
        if self.last_rank < self.first_rank:
            raise ValueError(f"last_rank {self.last_rank} is before first_rank {self.first_rank}")
        return self

    def columns(self) -> Int64[np.ndarray, " candidates"]:
        """List the ranks that are kept, counted from 0: an even spread of the band."""
        band = self.last_rank - self.first_rank + 1
        width = min(self.num_candidates, band)
        return self.first_rank - 1 + np.linspace(0, band - 1, width).round().astype(np.int64)


@dataclass(frozen=True)
class Neighborhoods:
    """The published table: one row an item.

    Attributes:
        ids: neighbors, most visited first; -1 where there are fewer than T.
        weights: importance weights; each row sums to 1, or to 0 for a cold item.
        hard_negatives: candidates from the configured band of walk ranks; -1 where there are fewer,
            always behind the real ones.

    Ids are int32, or int64 where the graph's are.
    """

    ids: Int[np.ndarray, "items neighbors"]
    weights: Float32[np.ndarray, "items neighbors"]
    hard_negatives: Int[np.ndarray, "items candidates"]

    @staticmethod
    def open(directory: Path, *, at_inference: bool = False) -> "Neighborhoods":
        """Map a published table into memory.

        Args:
            directory: the published table.
            at_inference: give items made cold (`data.split.cold_items`) the neighborhoods that
                their own edges lead to, in place of empty ones. Takes memory for the pages that
                those rows lie on.

        Raises:
            ArtifactError: the directory is unfinished or damaged.
        """
        path = open_artifact(directory, stage=STAGE).path
        cold = np.empty(0, np.int64)
        if at_inference and (path / _COLD_IDS).exists():
            cold = read_array(path / _COLD_IDS)
        table = Neighborhoods(
            *(
                map_array(path / f"{name}.npy", changeable=len(cold) > 0)
                for name in ("neighbor_ids", "weights", "hard_negatives")
            )
        )
        if len(cold):
            table.ids[cold] = read_array(path / _COLD_NEIGHBORS)
            table.weights[cold] = read_array(path / _COLD_WEIGHTS)
        return table


def pack_graph(adjacency: BipartiteAdjacency, choice: ChoiceConfig) -> PackedAdjacency:
    """Lay a graph out for walks that choose among edges as configured.

    Args:
        adjacency: the graph, as ingested.
        choice: what walks prefer.

    Raises:
        DataError: `choice` wants times that the graph's edges don't have.
        ValueError: the graph does not fit the walks' words, or is not whole.
    """
    item_chances, context_chances = edge_chances(adjacency, choice, adjacency.item_degrees)
    return pack(
        adjacency.item_starts,
        adjacency.item_contexts,
        adjacency.context_starts,
        adjacency.context_items,
        item_chances=item_chances,
        context_chances=context_chances,
    )


def walk_chunk(
    adjacency: PackedAdjacency,
    item_ids: Int64[np.ndarray, " seeds"],
    *,
    walk: WalkConfig,
    hard: HardNegativeConfig | None,
    seed: int,
) -> Neighborhoods:
    """Walk from some items: their rows of the table.

    Args:
        adjacency: the graph.
        item_ids: the items to walk from.
        walk: the short walks.
        hard: the long walks; None keeps no candidates.
        seed: the run's seed; the same item walks the same way in any chunk.
    """
    ids, counts = walk_neighborhoods(
        adjacency,
        item_ids,
        key=stream_key(seed, Stream.WALKS),
        num_walks=walk.num_walks,
        walk_length=walk.walk_length,
        restart=walk.restart,
        num_neighbors=walk.num_neighbors,
    )
    candidates = np.empty((len(item_ids), 0), adjacency.id_dtype)
    if hard is not None:
        candidates = hard_negative_candidates(adjacency, item_ids, hard=hard, seed=seed)
    return Neighborhoods(ids, importance_weights(counts), candidates)


def write_cold_rows(
    cold: ColdItems,
    adjacency: BipartiteAdjacency,
    draft: Draft,
    *,
    walk: WalkConfig,
    seed: int,
) -> None:
    """Walk from items made cold over the training graph, and write their rows beside the table.

    The first step goes through their own edges, which the graph does not have, so no other item's
    row knows of them.

    Args:
        cold: the items, and their edges.
        adjacency: the training graph.
        draft: the table being published.
        walk: the short walks.
        seed: the run's seed; an item walks as it would, were its edges in the graph.
    """
    ids, counts = walk_new_items(
        pack_graph(adjacency, walk.choice),
        cold.ids,
        cold.starts,
        cold.contexts,
        key=stream_key(seed, Stream.WALKS),
        num_walks=walk.num_walks,
        walk_length=walk.walk_length,
        restart=walk.restart,
        num_neighbors=walk.num_neighbors,
        chances=faded(cold.starts, cold.weights, cold.ages, walk.choice),
    )
    draft.write_array(_COLD_IDS, cold.ids)
    draft.write_array(_COLD_NEIGHBORS, ids)
    draft.write_array(_COLD_WEIGHTS, importance_weights(counts))


def hard_negative_candidates(
    adjacency: PackedAdjacency,
    item_ids: Int64[np.ndarray, " seeds"],
    *,
    hard: HardNegativeConfig,
    seed: int,
) -> Int[np.ndarray, "seeds candidates"]:
    """Rank what long walks from each item meet, and keep an even spread of the band.

    An item that reaches fewer items than the band asks for keeps fewer candidates, or none.
    """
    columns = hard.columns()
    candidates = np.empty((len(item_ids), len(columns)), adjacency.id_dtype)
    rows = max(_RANKS_PER_CALL // hard.last_rank, 1)
    for start in range(0, len(item_ids), rows):
        ranked, _ = walk_neighborhoods(
            adjacency,
            item_ids[start : start + rows],
            key=stream_key(seed, Stream.LONG_WALKS),
            num_walks=hard.num_walks,
            walk_length=hard.walk_length,
            restart=hard.restart,
            num_neighbors=hard.last_rank,
        )
        candidates[start : start + rows] = ranked[:, columns]
    return candidates

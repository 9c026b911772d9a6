"""New and changed items, embedded on the spot by a trained model (paper, sections 3.4 and 4.1).

An item that no batch run has seen gets what one would give it: features from its content and its
contexts, a neighborhood from walks that start in its contexts, and from there Algorithm 2. All of
its neighbors are items of the published graph, whose own neighborhoods are in the table.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int, Int64

from pinsage.base.seeding import Stream, stream_key
from pinsage.graph import Graph
from pinsage.graph.choice import faded
from pinsage.graph.schema import LOG_DEGREE, STRUCTURE
from pinsage.graph.structure import fold_in
from pinsage.kernels.reindex import Scratch
from pinsage.kernels.visits import importance_weights
from pinsage.kernels.walks import walk_new_items
from pinsage.model.encoder import PinSage
from pinsage.model.inputs import to_device_block
from pinsage.sampling.block import Block, build_blocks, cut_table, renormalized
from pinsage.sampling.neighborhood import Neighborhoods, WalkConfig, pack_graph


@dataclass(frozen=True)
class NewItem:
    """What is known of an item that the published graph doesn't have, or has otherwise.

    Attributes:
        context_ids: the contexts of the graph that it is in; repeats count once.
        num_contexts: all its contexts, those that the graph doesn't know included.
        features: content features by group; a group left out is zero.
        item_id: its id, if the graph has it; its walks are then those of a batch run.
    """

    context_ids: Int64[np.ndarray, " contexts"]
    num_contexts: int
    features: Mapping[str, Float32[np.ndarray, " width"]] = field(default_factory=dict)
    item_id: int | None = None


@dataclass(frozen=True)
class Fresh:
    """New items, embedded.

    Attributes:
        embeddings: unit rows; zeros for an item of which nothing is known, NaN for one whose
            features are too large to calculate with.
        features: their layer-0 rows.
        neighbor_ids: neighbors, most visited first; -1 where there are fewer than T.
        neighbor_weights: importance weights.
    """

    embeddings: Float32[np.ndarray, "items width"]
    features: Float32[np.ndarray, "items features"]
    neighbor_ids: Int[np.ndarray, "items neighbors"]
    neighbor_weights: Float32[np.ndarray, "items neighbors"]


class FreshEncoder:
    """A model, the graph to walk on, and the table of everyone else's neighborhoods.

    Threads may share it; they take turns.
    """

    def __init__(
        self,
        model: PinSage,
        graph: Graph,
        neighborhoods: Neighborhoods,
        *,
        walk: WalkConfig,
        seed: int,
        num_neighbors: int | None = None,
    ) -> None:
        """Lay the graph out for walks; the model is put into evaluation mode.

        Args:
            model: trained weights.
            graph: the published graph.
            neighborhoods: its table.
            walk: the walks that made the table.
            seed: the seed of the run that made it.
            num_neighbors: T at inference; None means all that the table keeps.

        Raises:
            ArtifactError: the graph was ingested before contexts' vectors were kept.
        """
        self._model = model.eval()
        self._features = graph.features_at_inference()
        self._context_vectors = graph.context_vectors()
        self._columns = graph.feature_columns
        # As in a batch run: walks start from an item's own contexts, and meet no item made cold.
        self._packed = pack_graph(graph.adjacency(), walk.choice)
        self._shards = graph.adjacency_shards()
        self._cold = graph.cold_items()
        self._table = (neighborhoods.ids, neighborhoods.weights)
        self._width = num_neighbors or neighborhoods.ids.shape[1]
        if self._width < neighborhoods.ids.shape[1]:
            self._table = cut_table(*self._table, self._width)
        self._walk = walk
        self._seed = seed
        self._scratch = Scratch.of(graph.num_items)
        self._turn = threading.Lock()

    @property
    def content_widths(self) -> dict[str, int]:
        """How many numbers an item has in each group of content features."""
        return {
            name: columns.stop - columns.start
            for name, columns in self._columns.items()
            if name not in {LOG_DEGREE, STRUCTURE}
        }

    def embed(self, items: Sequence[NewItem]) -> Fresh:
        """Embed some items at once.

        Args:
            items: at least one; their features are of the right widths.

        Raises:
            ValueError: a context id that the graph doesn't have, or features of another width.
        """
        with self._turn:
            ids, weights = self._neighborhoods(items)
            features = np.stack([self._feature_row(item) for item in items])
            blocks, below = self._blocks(ids[:, : self._width], weights[:, : self._width])
            rows = np.concatenate([features, self._features.gather(below)])
            cpu = torch.device("cpu")
            with torch.inference_mode():
                on_device = [to_device_block(block, cpu) for block in blocks]
                embeddings = self._model(torch.from_numpy(rows), on_device).float().numpy()
                embeddings[self._model.overflows(torch.from_numpy(features)).numpy()] = np.nan
            # How many contexts there are says nothing where the graph knows none of them.
            is_nowhere = np.array([len(item.context_ids) == 0 for item in items])
            has_content = np.delete(features, self._columns[LOG_DEGREE], axis=1).any(axis=1)
            embeddings[is_nowhere & ~has_content] = 0.0
        return Fresh(embeddings, features, ids, weights)

    def _neighborhoods(
        self, items: Sequence[NewItem]
    ) -> tuple[Int[np.ndarray, "items neighbors"], Float32[np.ndarray, "items neighbors"]]:
        contexts = [np.unique(item.context_ids) for item in items]
        lengths = [len(of_item) for of_item in contexts]
        # Whoever isn't in the graph draws as the first item after it would: no item does so yet.
        after = self._packed.num_items
        seeds = [after if item.item_id is None else item.item_id for item in items]
        ids, counts = walk_new_items(
            self._packed,
            np.asarray(seeds, dtype=np.int64),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.concatenate(contexts).astype(np.int64),
            key=stream_key(self._seed, Stream.WALKS),
            num_walks=self._walk.num_walks,
            walk_length=self._walk.walk_length,
            restart=self._walk.restart,
            num_neighbors=self._walk.num_neighbors,
            chances=self._chances(items, contexts),
        )
        return ids, importance_weights(counts)

    def _chances(
        self, items: Sequence[NewItem], contexts: Sequence[np.ndarray]
    ) -> Float64[np.ndarray, " edges"] | None:
        """Weigh the first steps of walks; None where the graph's own are alike."""
        choice = self._walk.choice
        has_weights = choice.by_weight and self._shards[0].item_weights is not None
        if not has_weights and choice.half_life is None:
            return None
        own = [self._own_chances(item) for item in items]
        return np.concatenate(list(map(_chances_for, contexts, own)))

    def _own_chances(self, item: NewItem) -> "_OwnChances":
        """Weigh the edges that the graph has of an item."""
        if item.item_id is None:
            return _OwnChances(np.empty(0, np.int64), np.empty(0))
        edges = self._own_edges(item.item_id)
        chances = faded(
            np.array([0, len(edges.context_ids)]), edges.weights, edges.ages, self._walk.choice
        )
        # There are weights or times, else nobody asks.
        assert chances is not None
        return _OwnChances(edges.context_ids, chances)

    def _own_edges(self, item_id: int) -> "_OwnEdges":
        """Look up an item's edges; those of an item made cold stand beside the graph."""
        cold, num_shards = self._cold, len(self._shards)
        if cold is not None and item_id in cold.ids:
            place = slice(*cold.starts[np.searchsorted(cold.ids, item_id) :][:2])
            contexts, weights, ages = cold.contexts, cold.weights, cold.ages
        else:
            shard = self._shards[item_id % num_shards]
            place = slice(*shard.item_starts[item_id // num_shards :][:2])
            contexts, weights, ages = shard.item_contexts, shard.item_weights, shard.item_ages
        return _OwnEdges(
            np.asarray(contexts[place], np.int64),
            None if weights is None else weights[place],
            None if ages is None else ages[place],
        )

    def _feature_row(self, item: NewItem) -> Float32[np.ndarray, " features"]:
        row = np.zeros(self._features.width, np.float32)
        for name, values in item.features.items():
            row[self._columns[name]] = values
        if self._context_vectors is not None and len(item.context_ids):
            row[self._columns[STRUCTURE]] = fold_in(item.context_ids, self._context_vectors)
        row[self._columns[LOG_DEGREE]] = np.log1p(item.num_contexts)
        return row

    def _blocks(
        self,
        ids: Int[np.ndarray, "items neighbors"],
        weights: Float32[np.ndarray, "items neighbors"],
    ) -> tuple[list[Block], Int64[np.ndarray, " inputs"]]:
        """Lay out Algorithm 2: in every layer new items stand first, known ones behind them."""
        num_layers = self._model.config.num_layers
        if num_layers == 0:
            return [], np.empty(0, np.int64)
        met = ids >= 0
        known, places = np.unique(ids[met], return_inverse=True)
        slots = np.zeros(ids.shape, np.int32)
        slots[met] = places + len(ids)
        own = Block(slots, renormalized(weights), len(ids) + len(known))
        blocks, below = build_blocks(
            known.astype(np.int64),
            *self._table,
            num_layers=num_layers - 1,
            scratch=self._scratch,
        )
        lower = [
            Block(
                np.concatenate([own.neighbors, _moved(block, len(ids))]),
                np.concatenate([own.weights, block.weights]),
                block.num_sources + len(ids),
            )
            for block in blocks
        ]
        return [*lower, own], below


class _OwnEdges(NamedTuple):
    """The edges that the graph has of an item, and what travels with them."""

    context_ids: Int64[np.ndarray, " contexts"]
    weights: Float32[np.ndarray, " contexts"] | None
    ages: Float32[np.ndarray, " contexts"] | None


class _OwnChances(NamedTuple):
    """The edges that the graph has of an item: their contexts, ascending, and their chances."""

    context_ids: Int64[np.ndarray, " contexts"]
    chances: Float64[np.ndarray, " contexts"]


def _chances_for(
    contexts: Int64[np.ndarray, " contexts"], own: _OwnChances
) -> Float64[np.ndarray, " contexts"]:
    """Weigh contexts as the graph does; one that it doesn't have of the item as their mean."""
    if not len(own.chances):
        return np.ones(len(contexts))
    known = np.isin(contexts, own.context_ids)
    places = np.searchsorted(own.context_ids, contexts[known])
    found = np.full(len(contexts), own.chances.mean())
    found[known] = own.chances[places]
    return found


def _moved(block: Block, by: int) -> Int[np.ndarray, "destinations neighbors"]:
    """Move slots to behind the new items; where no neighbor is, slot 0 stays."""
    is_there: Bool[np.ndarray, "destinations neighbors"] = block.weights > 0
    return np.where(is_there, block.neighbors + np.int32(by), np.int32(0))

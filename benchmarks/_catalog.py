"""Catalogs published straight from arrays, for benchmarks of what comes after ingest."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pinsage.base.artifacts import publish
from pinsage.base.seeding import Stream, stream
from pinsage.cluster.embedder import embed_all
from pinsage.cluster.run_config import RayConfig
from pinsage.graph.adjacency import AdjacencyShard, BipartiteAdjacency
from pinsage.graph.features import FEATURES_FILE
from pinsage.graph.partition import shard_name
from pinsage.graph.schema import CONTEXTS_FILE, ITEMS_FILE, GraphCounts, PairCounts
from pinsage.inference.embedder import EmbedSpec
from pinsage.inference.layerwise import EmbedConfig
from pinsage.model.checkpoint import save_model
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.sampling.neighborhood import WalkConfig, pack_graph, walk_chunk

_ROWS = 65_536


@dataclass(frozen=True)
class Published:
    """A graph, its neighborhoods and a model, as the stages before `embed` publish them."""

    graph: Path
    neighborhoods: Path
    model: Path

    def embed(
        self, directory: Path, config: EmbedConfig, *, previous: Path | None = None
    ) -> dict[str, object]:
        """Publish embeddings as the job does, and give the manifest's counts."""
        with publish(directory, stage="embeddings", config={}, parents={}) as draft:
            spec = EmbedSpec(
                graph=self.graph,
                neighborhoods=self.neighborhoods,
                model=self.model,
                folder=draft.scratch,
                parts=draft.path,
                config=config,
                previous=previous,
            )
            embed_all(spec, draft, RayConfig(address="local"))
        return draft.counts


def publish_graph(
    directory: Path, adjacency: BipartiteAdjacency, features: np.ndarray, keys: Sequence[str] | None
) -> Path:
    """Publish a graph of one shard.

    Args:
        directory: where to.
        adjacency: its edges.
        features: a row an item, float32.
        keys: of the items; None numbers them.
    """
    num_items, num_contexts = adjacency.num_items, adjacency.num_contexts
    texts = pa.array(range(num_items) if keys is None else keys).cast(pa.string())
    with publish(directory, stage="graph", config={}, parents={}) as draft:
        AdjacencyShard.cut(adjacency, 0, 1).write(draft)
        draft.write_array(f"{shard_name(0, 1)}/{FEATURES_FILE}", features)
        tables = {
            ITEMS_FILE: pa.table({"item_key": texts}),
            CONTEXTS_FILE: pa.table({"context_key": pa.array(range(num_contexts))}),
        }
        for name, table in tables.items():
            with draft.file(name) as path:
                pq.write_table(table, path)
        draft.counts |= GraphCounts(
            items=num_items,
            contexts=num_contexts,
            edges=adjacency.num_edges,
            shards=1,
            pairs=PairCounts(train=0, valid=0, test=0),
            feature_groups={"made": features.shape[1]},
            cold_items=int((adjacency.item_degrees == 0).sum()),
            repeated_edges=0,
            left_out_edges={},
            dropped={},
        ).model_dump()
    return directory


def publish_neighborhoods(
    directory: Path, adjacency: BipartiteAdjacency, walk: WalkConfig, *, seed: int = 0
) -> Path:
    """Walk from every item, and publish the table, without hard negatives."""
    packed = pack_graph(adjacency, walk.choice)
    num_items = adjacency.num_items
    shape = (num_items, walk.num_neighbors)
    with publish(directory, stage="neighborhoods", config={}, parents={}) as draft:
        with draft.file("neighbor_ids.npy") as id_path, draft.file("weights.npy") as weight_path:
            ids = np.lib.format.open_memmap(id_path, "w+", packed.id_dtype, shape)
            weights = np.lib.format.open_memmap(weight_path, "w+", np.float32, shape)
            for start in range(0, num_items, _ROWS):
                items = np.arange(start, min(start + _ROWS, num_items))
                rows = walk_chunk(packed, items, walk=walk, hard=None, seed=seed)
                ids[items], weights[items] = rows.ids, rows.weights
        draft.write_array("hard_negatives.npy", np.empty((num_items, 0), packed.id_dtype))
    return directory


def publish_model(directory: Path, config: ModelConfig, feature_width: int) -> Path:
    """Publish a model with random weights."""
    torch.manual_seed(0)
    with publish(directory, stage="model", config={}, parents={}) as draft:
        save_model(PinSage(config, feature_width), draft)
    return directory


def random_features(num_items: int, width: int) -> np.ndarray:
    """Draw a row of float32 an item; the rows of fewer items are the first of more."""
    rows = np.empty((num_items, width), np.float32)
    for number, start in enumerate(range(0, num_items, _ROWS)):
        draw = stream(0, Stream.SYNTHETIC, number)
        rows[start : start + _ROWS] = draw.standard_normal((_ROWS, width), np.float32)[
            : num_items - start
        ]
    return rows

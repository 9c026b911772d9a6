"""What tests of the embedding stage share: inputs, and embeddings made without a break."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pinsage.base.artifacts import publish
from pinsage.graph import Graph
from pinsage.graph.ingest import ingest
from pinsage.graph.synthetic import write_tables
from pinsage.model.checkpoint import save_model
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.sampling.neighborhood import WalkConfig, pack_graph, walk_chunk
from tests.cluster.embeddings import NUM_ITEMS, Inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    config = write_tables(folder / "tables", num_items=NUM_ITEMS, num_contexts=10_000)
    with publish(folder / "graph", stage="graph", config={}, parents={}) as draft:
        ingest(config, draft, num_shards=3, seed=0)
    graph = Graph.open(folder / "graph")
    packed = pack_graph(graph.adjacency(), WalkConfig().choice)
    walk = WalkConfig(num_walks=20, num_neighbors=8)
    table = walk_chunk(packed, np.arange(NUM_ITEMS), walk=walk, hard=None, seed=0)
    with publish(folder / "near", stage="neighborhoods", config={}, parents={}) as draft:
        draft.write_array("neighbor_ids.npy", table.ids)
        draft.write_array("weights.npy", table.weights)
        draft.write_array("hard_negatives.npy", table.hard_negatives)
    torch.manual_seed(0)
    shape = ModelConfig(num_layers=2, projected_width=16, embedding_width=8)
    with publish(folder / "model", stage="model", config={}, parents={}) as draft:
        save_model(PinSage(shape, graph.feature_width), draft)
    return Inputs(folder, folder / "graph", folder / "near", folder / "model")


@pytest.fixture(scope="session")
def unbroken(inputs: Inputs) -> Path:
    return inputs.embed(inputs.folder / "unbroken", contexts=True, keep_rows=True)

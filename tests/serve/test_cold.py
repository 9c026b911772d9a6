"""Items made cold by `data.split.cold_items`: answers know their kept edges, as batch runs do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from pinsage.base.artifacts import publish
from pinsage.cluster.generations import publish_generation
from pinsage.cluster.run_config import ServeConfig
from pinsage.graph import Graph
from pinsage.graph.ingest import ingest
from pinsage.graph.structure import StructureConfig
from pinsage.graph.synthetic import write_tables
from pinsage.inference.layerwise import LayerwiseEncoder
from pinsage.model.checkpoint import save_model
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.retrieval import IndexConfig, build_index, save_index
from pinsage.sampling.neighborhood import (
    Neighborhoods,
    WalkConfig,
    pack_graph,
    walk_chunk,
    write_cold_rows,
)
from serve.api import build_api
from serve.generation import Generation
from serve.live_items import Items
from serve.why import Evidence

WALK = WalkConfig(num_walks=100, num_neighbors=10)
METHODS = ("pinsage", "walk", "structure", "content")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generation by a network with fresh weights: a tenth of its items was made cold."""
    output = tmp_path_factory.mktemp("cold")
    parts = {stage: output / stage for stage in ("graph", "neighborhoods", "index", "model")}
    data = write_tables(output / "tables")
    data = data.model_copy(update={"split": data.split.model_copy(update={"cold_items": 0.1})})
    with publish(parts["graph"], stage="graph", config={}, parents={}) as draft:
        ingest(data, draft, num_shards=2, seed=0, structure=StructureConfig(width=8))
    graph = Graph.open(parts["graph"])
    write_neighborhoods(parts["neighborhoods"], graph)
    torch.manual_seed(0)
    model = PinSage(ModelConfig(projected_width=24, embedding_width=16), graph.feature_width)
    with publish(parts["model"], stage="model", config={}, parents={}) as draft:
        save_model(model, draft)
    table = Neighborhoods.open(parts["neighborhoods"], at_inference=True)
    encoder = LayerwiseEncoder(model, graph.features_at_inference(), table, output)
    for number in range(encoder.num_passes):
        encoder.allocate(number)
        embeddings = encoder.run(number, 0, graph.num_items)
    with publish(parts["index"], stage="index", config={}, parents={}) as draft:
        save_index(build_index(embeddings, IndexConfig(kind="exact")), draft)
    return publish_generation(output, parts)


def write_neighborhoods(directory: Path, graph: Graph) -> None:
    adjacency, cold = graph.adjacency(), graph.cold_items()
    packed, ids = pack_graph(adjacency, WALK.choice), np.arange(graph.num_items)
    rows = walk_chunk(packed, ids, walk=WALK, hard=None, seed=0)
    config = {"walk": WALK.model_dump(), "seed": 0}
    with publish(directory, stage="neighborhoods", config=config, parents={}) as draft:
        draft.write_array("neighbor_ids.npy", rows.ids)
        draft.write_array("weights.npy", rows.weights)
        draft.write_array("hard_negatives.npy", rows.hard_negatives)
        assert cold is not None
        write_cold_rows(cold, adjacency, draft, walk=WALK, seed=0)


@pytest.fixture(scope="module")
def generation(path: Path) -> Generation:
    return Generation.open(path)


@pytest.fixture
def client(generation: Generation, tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(build_api(generation, ServeConfig(writes=str(tmp_path)))) as opened:
        yield opened


@pytest.fixture(scope="module")
def kept(generation: Generation) -> dict[str, list[str]]:
    """The contexts of the items made cold that have any, by key."""
    cold = generation.graph.cold_items()
    assert cold is not None
    rows = np.split(cold.contexts, cold.starts[1:-1])
    keys, contexts = generation.catalog.keys, generation.graph.context_keys()
    return {
        keys[item_id]: contexts.take(row).to_pylist()
        for item_id, row in zip(cold.ids, rows, strict=True)
        if len(row)
    }


def answers_for(client: TestClient, key: str) -> dict[str, dict[str, float]]:
    """By method, the related items and their scores."""
    found = {}
    for method in METHODS:
        reply = client.get(f"/v1/items/{key}/similar", params={"method": method, "k": 20})
        assert reply.status_code == 200, reply.text
        found[method] = {item["key"]: item["score"] for item in reply.json()["items"]}
    return found


def test_a_description_has_the_kept_contexts(client: TestClient, kept: dict[str, list[str]]):
    assert len(kept) > 10
    for key, contexts in kept.items():
        assert client.get(f"/v1/items/{key}/description").json()["contexts"] == contexts


def test_every_method_relates_it_to_something(client: TestClient, kept: dict[str, list[str]]):
    for key in kept:
        assert all(answers_for(client, key).values())


def test_putting_its_description_again_changes_no_answer(
    client: TestClient, kept: dict[str, list[str]]
):
    key = next(iter(kept))
    path = f"/v1/items/{key}"
    told: dict[str, Any] = client.get(f"{path}/description").json()
    before = answers_for(client, key)
    assert client.put(path, json=told).status_code == 200
    assert client.get(f"{path}/description").json() == told
    for method, scores in answers_for(client, key).items():
        assert scores == pytest.approx(before[method], abs=1e-5), method


def test_why_counts_it_in_its_contexts_and_tells_its_place_among_neighbors(
    client: TestClient, generation: Generation, kept: dict[str, list[str]]
):
    adjacency = generation.graph.adjacency_at_inference()
    context_ids = {key: place for place, key in enumerate(generation.graph.context_keys().tolist())}
    evidence = Evidence(generation.graph, generation.neighborhoods, Items(generation.catalog))
    for key, contexts in kept.items():
        neighbor = next(iter(answers_for(client, key)["walk"]))
        told = client.get(f"/v1/items/{key}/why/{neighbor}").json()
        assert told["neighbor"]["rank"] == 1
        assert {shared["key"] for shared in told["shared_contexts"]} <= set(contexts)
        assert told["num_shared_contexts"] > 0
        for shared in told["shared_contexts"]:
            size = adjacency.context_degrees[context_ids[shared["key"]]]
            assert shared["num_items"] == size
        assert evidence.degrees[generation.catalog.id_of(key)] == len(contexts)

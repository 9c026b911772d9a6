"""Items embedded on the spot, against what a batch run gives them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from pinsage.base.artifacts import publish
from pinsage.graph import DataConfig, Graph
from pinsage.graph.choice import ChoiceConfig
from pinsage.graph.ingest import ingest
from pinsage.graph.schema import CONTEXT_KEY, CONTEXTS_FILE
from pinsage.graph.structure import StructureConfig
from pinsage.graph.synthetic import write_tables
from pinsage.inference.fresh import FreshEncoder, NewItem
from pinsage.inference.layerwise import LayerwiseEncoder
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.sampling.neighborhood import (
    Neighborhoods,
    WalkConfig,
    pack_graph,
    walk_chunk,
    write_cold_rows,
)

WALK = WalkConfig(num_walks=100, num_neighbors=10)
FADING = WalkConfig(num_walks=100, num_neighbors=10, choice=ChoiceConfig(half_life=30.0))
SEED = 3


@dataclass(frozen=True)
class World:
    """A graph and its neighborhoods, as a batch run makes them."""

    graph: Graph
    neighborhoods: Neighborhoods
    walk: WalkConfig

    def encoder(self, model: PinSage, num_neighbors: int | None = None) -> FreshEncoder:
        return FreshEncoder(
            model,
            self.graph,
            self.neighborhoods,
            walk=self.walk,
            seed=SEED,
            num_neighbors=num_neighbors,
        )

    def batch(self, model: PinSage, folder: Path, num_neighbors: int | None = None) -> np.ndarray:
        features = self.graph.features_at_inference()
        encoder = LayerwiseEncoder(
            model, features, self.neighborhoods, folder, num_neighbors=num_neighbors
        )
        for number in range(encoder.num_passes):
            encoder.allocate(number)
            embeddings = encoder.run(number, 0, self.graph.num_items)
        return embeddings

    def given(self, item_id: int) -> NewItem:
        """An item of the graph as somebody would send it."""
        adjacency = self.graph.adjacency_at_inference()
        start, stop = adjacency.item_starts[item_id : item_id + 2]
        contexts = np.asarray(adjacency.item_contexts[start:stop], np.int64)
        (row,) = self.graph.features().gather(np.array([item_id]))
        content = row[self.graph.feature_columns["content"]]
        return NewItem(contexts, len(contexts), {"content": content}, item_id)


def build(
    folder: Path,
    data: DataConfig,
    structure: StructureConfig | None = None,
    walk: WalkConfig = WALK,
    basis: Graph | None = None,
) -> World:
    directory = folder / "graph" / "0123456789ab"
    directory.parent.mkdir(parents=True)
    with publish(directory, stage="graph", config={}, parents={}) as draft:
        ingest(data, draft, num_shards=2, seed=SEED, structure=structure, basis=basis)
    graph = Graph.open(directory)
    return World(graph, walked(folder / "walk", graph, walk), walk)


def walked(directory: Path, graph: Graph, walk: WalkConfig) -> Neighborhoods:
    adjacency, cold = graph.adjacency(), graph.cold_items()
    packed, ids = pack_graph(adjacency, walk.choice), np.arange(graph.num_items)
    table = walk_chunk(packed, ids, walk=walk, hard=None, seed=SEED)
    with publish(directory, stage="neighborhoods", config={}, parents={}) as draft:
        draft.write_array("neighbor_ids.npy", table.ids)
        draft.write_array("weights.npy", table.weights)
        draft.write_array("hard_negatives.npy", table.hard_negatives)
        if cold is not None:
            write_cold_rows(cold, adjacency, draft, walk=walk, seed=SEED)
    return Neighborhoods.open(directory, at_inference=True)


def weighed_tables(folder: Path) -> DataConfig:
    """Tables whose edges have weights, a few of them heavy, and times."""
    data = write_tables(folder)
    edges = pq.read_table(data.edges[0].path)
    draw = np.random.default_rng(0)
    heavy = np.where(draw.random(len(edges)) < 0.2, 50.0, 1.0)
    edges = edges.append_column("weight", pa.array(heavy))
    edges = edges.append_column("day", pa.array(draw.integers(100, size=len(edges))))
    pq.write_table(edges, data.edges[0].path)
    weighed = data.edges[0].model_copy(update={"weight": "weight", "timestamp": "day"})
    return data.model_copy(update={"edges": (weighed,)})


def model_for(world: World, num_layers: int) -> PinSage:
    torch.manual_seed(1)
    config = ModelConfig(num_layers=num_layers, projected_width=24, embedding_width=16)
    return PinSage(config, world.graph.feature_width).eval()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return build(folder, write_tables(folder / "tables"), StructureConfig(width=8))


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
@pytest.mark.parametrize("num_neighbors", [None, 4])
def test_an_item_of_the_graph_embedded_on_the_spot_is_what_the_batch_run_made_it(
    world: World, tmp_path: Path, num_layers: int, num_neighbors: int | None
) -> None:
    model = model_for(world, num_layers)
    batch = world.batch(model, tmp_path, num_neighbors)
    chosen = [0, 7, 150, world.graph.num_items - 1]
    fresh = world.encoder(model, num_neighbors).embed([world.given(item) for item in chosen])
    np.testing.assert_array_equal(fresh.neighbor_ids, world.neighborhoods.ids[chosen])
    np.testing.assert_array_equal(fresh.features, world.graph.features().gather(np.array(chosen)))
    np.testing.assert_allclose(fresh.embeddings, batch[chosen], atol=1e-5)


@pytest.mark.parametrize("from_basis", [False, True])
@pytest.mark.parametrize("num_layers", [0, 2])
def test_an_item_made_cold_is_embedded_from_its_kept_edges_as_in_the_batch_run(
    tmp_path: Path, num_layers: int, from_basis: bool
) -> None:
    data = weighed_tables(tmp_path / "tables")
    structure, basis = StructureConfig(width=8), None
    if from_basis:
        basis = build(tmp_path / "basis", data, structure).graph
    data = data.model_copy(update={"split": data.split.model_copy(update={"cold_items": 0.1})})
    world = build(tmp_path, data, structure, FADING, basis)
    cold = world.graph.cold_items()
    assert cold is not None
    chosen = cold.ids[np.diff(cold.starts) > 0]
    assert len(chosen) > 10
    model = model_for(world, num_layers)
    batch = world.batch(model, tmp_path)
    fresh = world.encoder(model).embed([world.given(int(item)) for item in chosen])
    np.testing.assert_array_equal(fresh.neighbor_ids, world.neighborhoods.ids[chosen])
    np.testing.assert_array_equal(fresh.neighbor_weights, world.neighborhoods.weights[chosen])
    expected = world.graph.features_at_inference().gather(chosen)
    assert expected[:, world.graph.feature_columns["structure"]].any(axis=1).all()
    np.testing.assert_array_equal(fresh.features, expected)
    np.testing.assert_allclose(fresh.embeddings, batch[chosen], atol=1e-5)


def test_on_a_graph_with_weights_and_times_an_item_keeps_its_neighborhood(tmp_path: Path) -> None:
    world = build(tmp_path, weighed_tables(tmp_path / "tables"), walk=FADING)
    encoder = world.encoder(model_for(world, 1))
    ids = np.flatnonzero(world.graph.item_degrees() > 2)[:20]
    fresh = encoder.embed([world.given(int(item)) for item in ids])
    np.testing.assert_array_equal(fresh.neighbor_ids, world.neighborhoods.ids[ids])
    # One context more moves little.
    given = [world.given(int(item)) for item in ids]
    more = [
        replace(
            item, context_ids=np.append(item.context_ids, 1), num_contexts=item.num_contexts + 1
        )
        for item in given
    ]
    kept = [
        len(np.intersect1d(*rows)) / len(rows[0])
        for rows in zip(encoder.embed(more).neighbor_ids, fresh.neighbor_ids, strict=True)
    ]
    assert np.mean(kept) > 0.6


def test_together_or_alone_an_item_is_embedded_alike(world: World) -> None:
    encoder = world.encoder(model_for(world, 2))
    items = [world.given(item) for item in (3, 4, 5, 6)]
    together = encoder.embed(items).embeddings
    alone = np.concatenate([encoder.embed([item]).embeddings for item in items])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_an_item_without_anything_has_no_embedding_and_no_neighbors(
    world: World, num_layers: int
) -> None:
    nowhere = np.empty(0, np.int64)
    encoder = world.encoder(model_for(world, num_layers))
    fresh = encoder.embed([NewItem(nowhere, 0), NewItem(nowhere, 3)])
    assert not fresh.embeddings.any()
    assert (fresh.neighbor_ids == -1).all()
    assert not fresh.features[0].any()
    assert fresh.features[1].sum() == np.float32(np.log1p(3)), "contexts that the graph lacks"


@pytest.mark.parametrize("num_layers", [0, 1])
def test_an_item_alone_in_its_contexts_and_without_content_keeps_its_embedding(
    tmp_path: Path, num_layers: int
) -> None:
    data = write_tables(tmp_path / "tables")
    items = pq.read_table(data.items.path)
    content = items["content"].to_pylist()
    content[7] = [0.0] * len(content[7])
    column = pa.array(content, items["content"].type)
    items = items.set_column(items.column_names.index("content"), "content", column)
    pq.write_table(items, data.items.path)
    edges = pq.read_table(data.edges[0].path)
    others = edges.filter(pc.not_equal(edges["item_id"], items["item_id"][7]))
    own = pa.table({"item_id": items["item_id"].slice(7, 1), "context_id": ["its own"]})
    pq.write_table(pa.concat_tables([others, own]), data.edges[0].path)
    world = build(tmp_path, data)
    (item_id,) = np.flatnonzero(np.array(world.graph.catalog().keys) == items["item_id"][7].as_py())
    model = model_for(world, num_layers)
    fresh = world.encoder(model).embed([world.given(int(item_id))])
    assert (fresh.neighbor_ids == -1).all()
    expected = world.batch(model, tmp_path)[[item_id]]
    assert expected.any()
    np.testing.assert_allclose(fresh.embeddings, expected, atol=1e-5)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_new_item_is_close_to_what_the_next_batch_run_makes_of_it(
    tmp_path: Path, num_layers: int
) -> None:
    data = write_tables(tmp_path / "tables")
    later = build(tmp_path / "later", data)
    model = model_for(later, num_layers)
    batch = later.batch(model, tmp_path)
    keys = later.graph.catalog().keys
    new = [keys[item] for item in (17, 120, 244)]
    for name in ("items", "edges", "pairs"):
        path = tmp_path / "tables" / f"{name}.parquet"
        table = pq.read_table(path)
        for column in {"item_id", "query_item", "positive_item"} & set(table.column_names):
            table = table.filter(pc.invert(pc.is_in(table[column], pa.array(new))))
        pq.write_table(table, path)
    earlier = build(tmp_path / "earlier", data)
    assert earlier.graph.num_items == later.graph.num_items - len(new)
    known = {key: place for place, key in enumerate(context_keys(earlier))}
    items = []
    for key in new:
        item = later.given(keys.index(key))
        contexts = [context_keys(later)[context] for context in item.context_ids]
        ids = np.array([known[context] for context in contexts if context in known])
        items.append(NewItem(ids, len(contexts), item.features))
    fresh = earlier.encoder(model).embed(items).embeddings
    cosines = [float(fresh[at] @ batch[keys.index(key)]) for at, key in enumerate(new)]
    assert min(cosines) >= 0.99, cosines


def context_keys(world: World) -> list[str]:
    return pq.read_table(world.graph.artifact.path / CONTEXTS_FILE)[CONTEXT_KEY].to_pylist()

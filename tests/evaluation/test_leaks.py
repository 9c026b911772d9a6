"""From tables to metrics: nothing that is held out moves a figure by a bit."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pinsage.base.artifacts import publish
from pinsage.cluster.producers import ProducerSpec
from pinsage.cluster.train_task import TrainTask, begin
from pinsage.cluster.validator import Validator
from pinsage.evaluation import (
    EmbeddingCosine,
    EvaluationConfig,
    FeatureCosine,
    ItemCosine,
    ItemFacts,
    Popularity,
    evaluate,
)
from pinsage.evaluation.baselines import Pixie, PixieConfig, Transitions
from pinsage.evaluation.metrics import hit_rate
from pinsage.evaluation.ranking import rank_pairs
from pinsage.graph import DataConfig, Graph
from pinsage.graph.ingest import ingest
from pinsage.graph.structure import StructureConfig
from pinsage.inference.layerwise import LayerwiseEncoder
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.sampling.minibatch import MinibatchConfig
from pinsage.sampling.neighborhood import (
    Neighborhoods,
    WalkConfig,
    pack_graph,
    walk_chunk,
    write_cold_rows,
)
from pinsage.training.loop import TrainConfig
from pinsage.training.validation import ValidationConfig

NUM_ITEMS, COMMUNITIES = 90, 9
WALK = WalkConfig(num_walks=60, num_neighbors=8)
READERS = np.array([f"reader{number}" for number in range(400)])


def mates(draw, items):
    """Another item of the same community, for each: item n is in community n % 9."""
    steps = draw.integers(1, NUM_ITEMS // COMMUNITIES, len(items)) * COMMUNITIES
    return (items + steps) % NUM_ITEMS


@pytest.fixture(scope="module")
def tables():
    """Contexts of one community each, and pairs of mates; all have days, pairs a context too.

    Held-out pairs are each of a reader of its own, whom no edge knows.
    """
    draw = np.random.default_rng(0)
    contexts = np.repeat(np.arange(120), 5)
    edges = {
        "item_id": contexts % COMMUNITIES + COMMUNITIES * draw.integers(10, size=600),
        "context_id": [f"c{context}" for context in contexts],
        "day": draw.permutation(600),
    }
    queries = draw.integers(NUM_ITEMS, size=400)
    positives, days = mates(draw, queries), draw.permutation(400) * 2
    splits = draw.choice(["train", "valid", "test"], 400, p=[0.5, 0.1, 0.4])
    pairs = {
        "query_item": queries,
        "positive_item": positives,
        "day": days,
        "context": np.where(splits == "train", "c0", READERS),
        "split": splits,
    }
    return {"edges": edges, "pairs": pairs}


@pytest.fixture(scope="module")
def report_of(tmp_path_factory):
    """Ingest, walk, embed by a network with fresh weights, and evaluate beside all baselines."""

    def run(tables, *, by_time, cold_items=0.0):
        folder = tmp_path_factory.mktemp("run")
        graph = ingested(folder, tables, by_time=by_time, cold_items=cold_items)
        neighborhoods = walked(folder, graph)
        embeddings = embedded(folder, graph, neighborhoods)
        return evaluated(graph, embeddings)

    return run


@pytest.fixture(scope="module")
def clean_by_time(report_of, tables):
    """What the evaluation says when nothing is poisoned."""
    return report_of(tables, by_time=True)


def ingested(folder, tables, *, by_time, cold_items):
    items = {
        "item_id": np.arange(NUM_ITEMS),
        "size": np.random.default_rng(5).normal(size=(NUM_ITEMS, 3)).tolist(),
    }
    for name, table in ({"items": items} | tables).items():
        pq.write_table(pa.table(dict(table)), folder / f"{name}.parquet")
    when = {"timestamp": "day"} if by_time else {}
    how = when or {"split": "split", "context": "context"}
    config = DataConfig.model_validate({
        "items": {
            "path": str(folder / "items.parquet"),
            "features": [{"name": "size", "column": "size"}],
        },
        "edges": [{"path": str(folder / "edges.parquet")} | when],
        "pairs": {"path": str(folder / "pairs.parquet")} | how,
        "split": {"test": 0.3, "cold_items": cold_items},
    })
    with publish(folder / "graph", stage="graph", config={}, parents={}) as draft:
        ingest(config, draft, num_shards=2, seed=0, structure=StructureConfig(width=8))
    return Graph.open(folder / "graph")


def walked(folder, graph):
    adjacency, cold = graph.adjacency(), graph.cold_items()
    packed = pack_graph(adjacency, WALK.choice)
    rows = walk_chunk(packed, np.arange(NUM_ITEMS), walk=WALK, hard=None, seed=0)
    with publish(folder / "walk", stage="neighborhoods", config={}, parents={}) as draft:
        draft.write_array("neighbor_ids.npy", rows.ids)
        draft.write_array("weights.npy", rows.weights)
        draft.write_array("hard_negatives.npy", rows.hard_negatives)
        if cold is not None:
            write_cold_rows(cold, adjacency, draft, walk=WALK, seed=0)
    return Neighborhoods.open(folder / "walk", at_inference=True)


MODEL = ModelConfig(num_layers=2, projected_width=32, embedding_width=16)


def untrained(graph):
    torch.manual_seed(0)
    return PinSage(MODEL, graph.feature_width)


def embedded(folder, graph, neighborhoods):
    model = untrained(graph)
    encoder = LayerwiseEncoder(model, graph.features_at_inference(), neighborhoods, folder)
    for number in range(encoder.num_passes):
        encoder.allocate(number)
        embeddings = encoder.run(number, 0, NUM_ITEMS)
    return embeddings


def evaluated(graph, embeddings):
    adjacency, cold = graph.adjacency_at_inference(), graph.cold_items()
    rows = graph.features_at_inference().gather(np.arange(NUM_ITEMS))
    return evaluate(
        {
            "pinsage": EmbeddingCosine(embeddings),
            "structure": FeatureCosine(rows[:, graph.feature_columns["structure"]]),
            "size": FeatureCosine(rows[:, graph.feature_columns["size"]]),
            "item_cosine": ItemCosine(adjacency),
            "walk": Pixie(pack_graph(adjacency, WALK.choice), PixieConfig(num_walks=1_000), seed=0),
            "transitions": Transitions(graph.pairs("train"), NUM_ITEMS),
            "popularity": Popularity(adjacency.item_degrees),
        },
        pairs=graph.pairs("test"),
        items=ItemFacts(
            titles=graph.catalog().titles,
            images=[None] * NUM_ITEMS,
            degrees=adjacency.item_degrees,
            content=rows[:, graph.feature_columns["size"]].__getitem__,
            cold=None if cold is None else np.isin(np.arange(NUM_ITEMS), cold.ids),
        ),
        data="made up",
        config=EvaluationConfig(ks=(1, 5), bootstrap_samples=20, sign_flips=50, num_sheets=2),
        seed=0,
    )


def with_edges(tables, items, contexts, days):
    edges = tables["edges"]
    added = {"item_id": items, "context_id": contexts, "day": days}
    return tables | {"edges": {name: np.concatenate([edges[name], added[name]]) for name in edges}}


def first_held_out_day(tables):
    return int(np.sort(tables["pairs"]["day"])[240])


def test_random_edges_of_the_future_move_no_metric(report_of, tables, clean_by_time):
    draw = np.random.default_rng(7)
    poisoned = with_edges(
        tables,
        draw.integers(NUM_ITEMS, size=500),
        [f"c{context}" for context in draw.integers(150, size=500)],
        first_held_out_day(tables) + np.arange(500),
    )
    assert report_of(poisoned, by_time=True) == clean_by_time
    assert clean_by_time["metrics"]["item_cosine"]["hit_rate@5"] > 0.2


def test_edges_of_the_past_do_move_metrics(report_of, tables, clean_by_time):
    past = first_held_out_day(tables) - np.arange(1, 41)
    poisoned = with_edges(tables, np.arange(40), ["c1"] * 40, past)
    clean, moved = clean_by_time["metrics"], report_of(poisoned, by_time=True)["metrics"]
    for method in ("pinsage", "structure", "item_cosine", "walk", "popularity"):
        assert moved[method] != clean[method]


@pytest.mark.parametrize("by_time", [True, False], ids=["time", "context"])
def test_the_labelled_pairs_themselves_as_edges_move_no_metric(
    report_of, tables, clean_by_time, by_time
):
    pairs = tables["pairs"]
    held_out = np.array(pairs["split"]) != "train"
    if by_time:
        held_out = pairs["day"] >= first_held_out_day(tables)
    # Each held-out pair in a context of its own: both its items, on its day.
    contexts = READERS[held_out]
    poisoned = with_edges(
        tables,
        np.concatenate([pairs[side][held_out] for side in ("query_item", "positive_item")]),
        np.concatenate([contexts, contexts]),
        np.tile(pairs["day"][held_out], 2),
    )
    clean = clean_by_time if by_time else report_of(tables, by_time=False)
    assert report_of(poisoned, by_time=by_time) == clean


def test_cold_items_are_ranked_by_the_edges_kept_for_them(report_of, tables):
    cold = report_of(tables, by_time=False, cold_items=0.2)["cold"]["positive"]
    assert cold["pairs"] > 10
    found = {method: cold["metrics"][method]["hit_rate@5"] for method in cold["metrics"]}
    # Content is noise here; the contexts of a community tell all.
    for method in ("structure", "item_cosine", "walk"):
        assert found[method] > 2 * found["size"]


def test_edges_of_cold_items_change_the_embeddings_of_these_items_alone(tables, tmp_path):
    edges, embeddings, ids = tables["edges"], [], np.empty(0)
    for number in range(2):
        moved = np.where(np.isin(edges["item_id"], ids), "c3", edges["context_id"])
        folder = tmp_path / f"{number}"
        folder.mkdir()
        changed = tables | {"edges": edges | {"context_id": moved}}
        graph = ingested(folder, changed, by_time=False, cold_items=0.2)
        embeddings.append(embedded(folder, graph, walked(folder, graph)))
        ids = graph.cold_items().ids
    same = (embeddings[0] == embeddings[1]).all(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(~same), ids)


def test_no_minibatch_has_a_cold_item(tables, tmp_path):
    graph = ingested(tmp_path, tables, by_time=False, cold_items=0.2)
    walked(tmp_path, graph)
    cold = graph.cold_items().ids
    builder = ProducerSpec(
        graph=tmp_path / "graph",
        neighborhoods=tmp_path / "walk",
        minibatch=MinibatchConfig(size=16, shared_negatives=200, max_hard_negatives=0),
        num_layers=2,
        seed=0,
    ).builder()
    for step in range(builder.steps_per_epoch):
        minibatch = builder.build(0, step, world_rank=0, world_size=1)
        assert not np.isin(minibatch.seed_ids, cold).any()
        assert len(np.unique(minibatch.seed_ids)) > NUM_ITEMS / 2
    assert not np.isin(Neighborhoods.open(tmp_path / "walk").ids, cold).any()


def test_validation_sees_cold_items_as_inference_does(tables, tmp_path):
    graph = ingested(tmp_path, tables, by_time=False, cold_items=0.2)
    embeddings = embedded(tmp_path, graph, walked(tmp_path, graph))
    pairs = graph.pairs("valid")
    ranks = rank_pairs(EmbeddingCosine(embeddings), pairs.queries, pairs.positives)
    found = Validator(
        graph=tmp_path / "graph",
        neighborhoods=tmp_path / "walk",
        config=ValidationConfig(sample=10_000),
        num_neighbors=None,
        folder=tmp_path / "rows",
        seed=0,
        device=torch.device("cpu"),
    ).hit_rate(untrained(graph))
    cold = graph.cold_items().ids
    assert np.isin(pairs.queries, cold).any()
    assert found == hit_rate(ranks, 10)


@pytest.mark.parametrize("cold_items", [0.0, 0.2])
def test_features_are_scaled_by_what_training_sees(tables, tmp_path, cold_items):
    graph = ingested(tmp_path, tables, by_time=False, cold_items=cold_items)
    minibatch = MinibatchConfig(size=16)
    task = TrainTask(
        producers=ProducerSpec(tmp_path / "graph", tmp_path / "walk", minibatch, 2, 0),
        model=MODEL,
        train=TrainConfig(minibatch=minibatch, scale_features="columns"),
        checkpoints=tmp_path / "checkpoints",
        tensorboard=tmp_path / "tensorboard",
        settings={},
        num_pairs=16,
    )
    model, *_ = begin(task, None, torch.device("cpu"))
    cold = [] if graph.cold_items() is None else graph.cold_items().ids
    seen = np.setdiff1d(np.arange(NUM_ITEMS), cold)
    rows = graph.features().gather(seen).astype(np.float64)
    np.testing.assert_allclose(model.input_shift.numpy(), rows.mean(axis=0), rtol=1e-5, atol=1e-6)

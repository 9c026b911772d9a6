"""Items made cold: training does not see them, and their edges are kept beside the graph."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from pinsage.graph import DataConfig
from pinsage.graph.schema import SPLITS
from pinsage.graph.structure import StructureConfig

NUM_ITEMS, NUM_CONTEXTS = 60, 40


@pytest.fixture
def edges():
    draw = np.random.default_rng(0)
    return {
        "item_id": draw.integers(NUM_ITEMS, size=400),
        "context_id": draw.integers(NUM_CONTEXTS, size=400),
        "day": draw.permutation(400),
        "weight": 1.0 + draw.integers(3, size=400),
    }


@pytest.fixture
def make(bench, edges):
    """Ingest the edges, some items made cold, with a pairs table or pairs derived from them."""

    def ingest(*, share=0.2, timed=False, structure=None, edges=edges, **options):
        draw = np.random.default_rng(1)
        queries = draw.integers(NUM_ITEMS, size=300)
        pairs = {
            "query_item": queries,
            "positive_item": (queries + draw.integers(1, NUM_ITEMS, 300)) % NUM_ITEMS,
            "split": draw.choice(SPLITS, 300),
        }
        table = {"path": bench.write("edges.parquet", edges)}
        if timed:
            table |= {"timestamp": "day", "weight": "weight"}
        items = {
            "item_id": np.arange(NUM_ITEMS),
            "size": [[float(item), 1.0] for item in range(NUM_ITEMS)],
        }
        tree = {
            "items": {
                "path": bench.write("items.parquet", items),
                "features": [{"name": "size", "column": "size"}],
            },
            "edges": [table],
            "split": {"cold_items": share},
        }
        if not timed:
            tree["pairs"] = {"path": bench.write("pairs.parquet", pairs), "split": "split"}
        return bench.ingest(DataConfig.model_validate(tree), structure=structure, **options)

    return ingest


def edges_by_key(adjacency, graph):
    """Item and context keys of every edge."""
    items = np.repeat(np.arange(adjacency.num_items), adjacency.item_degrees)
    keys = graph.catalog().keys
    contexts = context_keys(graph)
    return {
        (keys[item], contexts[context])
        for item, context in zip(items, adjacency.item_contexts, strict=True)
    }


def context_keys(graph):
    return pq.read_table(graph.artifact.path / "contexts.parquet")["context_key"].to_pylist()


@pytest.mark.parametrize("timed", [False, True])
def test_cold_items_have_no_training_edge_and_are_in_no_train_pair_but_in_test_pairs(make, timed):
    graph = make(timed=timed)
    cold = graph.cold_items()
    assert 0.05 < len(cold.ids) / NUM_ITEMS < 0.4
    assert graph.counts.items_made_cold == len(cold.ids)
    assert not graph.adjacency().item_degrees[cold.ids].any()
    assert graph.counts.left_out_edges["cold_item"] > 0
    train, test = graph.pairs("train"), graph.pairs("test")
    assert len(train) > 0
    assert not np.isin(cold.ids, np.concatenate([train.queries, train.positives])).any()
    assert np.isin(cold.ids, np.concatenate([test.queries, test.positives])).any()


@pytest.mark.parametrize(
    "options", [{}, {"num_shards": 3}, {"order": "locality"}], ids=["one", "shards", "order"]
)
@pytest.mark.parametrize("timed", [False, True])
def test_with_the_kept_edges_the_graph_is_the_one_where_nothing_is_cold(make, timed, options):
    graph, whole = make(timed=timed, **options), make(share=0.0, timed=timed)
    assert whole.cold_items() is None
    wanted = edges_by_key(whole.adjacency(), whole)
    assert edges_by_key(graph.adjacency(), graph) < wanted
    at_inference = graph.adjacency_at_inference()
    # A context that has cold items alone is not in the training graph, and has no id.
    reachable = {edge for edge in wanted if edge[1] in context_keys(graph)}
    assert edges_by_key(at_inference, graph) == reachable
    by_context = np.repeat(np.arange(at_inference.num_contexts), at_inference.context_degrees)
    turned = set(zip(at_inference.context_items.tolist(), by_context.tolist(), strict=True))
    by_item = np.repeat(np.arange(NUM_ITEMS), at_inference.item_degrees)
    assert turned == set(zip(by_item.tolist(), at_inference.item_contexts.tolist(), strict=True))


def test_weights_and_ages_come_along(make):
    graph, whole = make(timed=True), make(share=0.0, timed=True)
    with_cold, without = graph.adjacency_at_inference(), whole.adjacency()
    assert context_keys(graph) == context_keys(whole)
    np.testing.assert_array_equal(with_cold.item_contexts, without.item_contexts)
    np.testing.assert_array_equal(with_cold.item_weights, without.item_weights)
    np.testing.assert_array_equal(with_cold.context_weights, without.context_weights)
    # The newest edge may be one of a cold item's, whose age is not below 0 then.
    gap = without.item_ages - with_cold.item_ages
    assert with_cold.item_ages.min() == 0
    assert len(np.unique(gap[with_cold.item_ages > 0])) == 1


def test_weights_of_repeated_edges_stay_finite(make, edges):
    twice = {name: np.concatenate([column, column]) for name, column in edges.items()}
    graph = make(timed=True, edges=twice | {"weight": np.full(800, 3e38)})
    most = np.finfo(np.float32).max
    assert graph.adjacency().item_weights.max() == most
    assert graph.adjacency_at_inference().item_weights.max() == most
    assert graph.cold_items().weights.max() == most


@pytest.mark.parametrize(
    "structure", [None, StructureConfig(width=4)], ids=["content", "structure"]
)
def test_what_cold_items_edges_are_changes_nothing_that_training_sees(make, edges, structure):
    clean = make(structure=structure)
    cold = np.isin(edges["item_id"], clean.cold_items().ids)
    draw = np.random.default_rng(9)
    moved = np.where(cold, draw.integers(NUM_CONTEXTS, size=400), edges["context_id"])
    poisoned = make(structure=structure, edges=edges | {"context_id": moved})
    files = {
        name: entry.sha256
        for name, entry in clean.artifact.manifest.files.items()
        if not name.startswith("cold_items/")
    }
    assert files == {name: poisoned.artifact.manifest.files[name].sha256 for name in files}
    assert clean.cold_items().contexts.tolist() != poisoned.cold_items().contexts.tolist()


@pytest.mark.parametrize("num_shards", [1, 3])
def test_features_at_inference_are_folded_in_from_the_kept_edges(make, num_shards):
    graph = make(structure=StructureConfig(width=6), num_shards=num_shards)
    cold = graph.cold_items()
    training = graph.features().gather(np.arange(NUM_ITEMS))
    found = graph.features_at_inference().gather(np.arange(NUM_ITEMS))
    warm = np.setdiff1d(np.arange(NUM_ITEMS), cold.ids)
    np.testing.assert_array_equal(found[warm], training[warm])
    content, structure, degree = (
        graph.feature_columns[name] for name in ("size", "structure", "log_degree")
    )
    np.testing.assert_array_equal(found[cold.ids, content], training[cold.ids, content])
    assert not training[cold.ids, structure].any()
    has_edges = np.diff(cold.starts) > 0
    lengths = np.linalg.norm(found[cold.ids, structure], axis=1)
    np.testing.assert_allclose(lengths, has_edges, atol=1e-5)
    np.testing.assert_allclose(
        found[cold.ids, degree][:, 0], np.log1p(np.diff(cold.starts)), rtol=1e-6
    )
    # The files are as they were.
    np.testing.assert_array_equal(graph.features().gather(np.arange(NUM_ITEMS)), training)


def test_an_item_is_cold_by_its_key_alone(make, edges):
    few = {name: column[:300] for name, column in edges.items()}
    assert make().cold_items().ids.tolist() == make(edges=few).cold_items().ids.tolist()
    assert make().cold_items().ids.tolist() != make(seed=1).cold_items().ids.tolist()


def test_a_share_that_happens_to_choose_nothing_changes_nothing(make):
    graph, whole = make(share=1e-9), make(share=0.0)
    assert len(graph.cold_items().ids) == graph.counts.items_made_cold == 0
    assert edges_by_key(graph.adjacency_at_inference(), graph) == edges_by_key(
        whole.adjacency(), whole
    )
    rows = [each.features_at_inference().gather(np.arange(NUM_ITEMS)) for each in (graph, whole)]
    np.testing.assert_array_equal(*rows)

"""What is held out never reaches the training graph, however the pairs are split."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinsage.graph.schema import SPLITS
from pinsage.graph.structure import StructureConfig
from tests.graph.splitting import (
    KEYS,
    NUM_ITEMS,
    TIMED,
    concatenated,
    edge_columns,
    make,
    pair_columns,
)

CUT = 320
"""Where valid begins in `pair_columns`: 200 pairs on even days, 80 % of them for train."""


def poison(days):
    """Random edges on the given days, in contexts old and new."""
    draw = np.random.default_rng(7)
    return {
        "item_id": KEYS[draw.integers(NUM_ITEMS, size=len(days))],
        "context_id": np.array([f"c{number:03d}" for number in draw.integers(90, size=len(days))]),
        "day": np.asarray(days),
    }


def with_random_items(edges, rows):
    """Let some rows name other items."""
    drawn = KEYS[np.random.default_rng(99).integers(NUM_ITEMS, size=len(edges["item_id"]))]
    return edges | {"item_id": np.where(rows, drawn, edges["item_id"])}


def what_training_sees(graph):
    """The digests of all adjacency and feature files, and the train pairs."""
    files = graph.artifact.manifest.files
    train = graph.pairs("train")
    return (
        {name: entry.sha256 for name, entry in files.items() if name.startswith("shard-")},
        files["contexts.parquet"].sha256,
        train.queries.tolist(),
        train.positives.tolist(),
    )


def stored_contexts(graph):
    return set(pq.read_table(graph.artifact.path / "contexts.parquet")["context_key"].to_pylist())


def stored_splits(graph):
    return pq.read_table(graph.artifact.path / "pairs.parquet")["split"].to_numpy()


both_with_and_without_structure = pytest.mark.parametrize(
    "structure", [None, StructureConfig(width=4)], ids=["content", "structure"]
)


def test_pairs_with_times_are_split_in_order_of_time(bench):
    splits = stored_splits(make(bench, edge_columns(), **TIMED))
    days = {split: pair_columns()["day"][splits == split] for split in SPLITS}
    assert [len(days[split]) for split in SPLITS] == [160, 20, 20]
    assert days["train"].max() < days["valid"].min() == CUT
    assert days["valid"].max() < days["test"].min()


@pytest.mark.parametrize(
    "kind",
    [
        TIMED,
        {"timestamp": "day"},
        {},
        {"pairs": {name: pair_columns()[name] for name in ("query_item", "positive_item")}},
    ],
    ids=["timed pairs", "next in time", "rings", "hashed pairs"],
)
def test_all_edges_and_pairs_are_there_to_serve_from_where_nothing_is_held_out(bench, kind):
    edges = edge_columns()
    graph = make(bench, edges, **kind, split={"valid": 0, "test": 0})
    assert graph.num_edges == len({*zip(edges["item_id"], edges["context_id"], strict=True)})
    assert graph.counts.num_left_out == 0
    held_out = make(bench, edges, **kind)
    assert len(stored_splits(graph)) == len(stored_splits(held_out))
    assert set(stored_splits(graph)) == {"train"} < set(stored_splits(held_out))


def test_edges_at_or_after_the_first_held_out_pair_leave_the_graph(bench):
    edges = edge_columns()
    graph = make(bench, edges, **TIMED)
    before = edges["day"] < CUT
    distinct = {*zip(edges["item_id"][before], edges["context_id"][before], strict=True)}
    assert graph.num_edges == len(distinct)
    assert graph.counts.left_out_edges["future"] > 0


@both_with_and_without_structure
def test_poison_added_to_the_future_changes_nothing_that_training_sees(bench, structure):
    clean = make(bench, edge_columns(), **TIMED, structure=structure)
    future = poison(np.arange(CUT, CUT + 500))
    poisoned = make(bench, concatenated(edge_columns(), future), **TIMED, structure=structure)
    assert what_training_sees(poisoned) == what_training_sees(clean)


@pytest.mark.parametrize("derive", [False, True])
def test_weights_and_ages_of_repeated_edges_do_not_see_the_future(bench, derive):
    settings = ({"timestamp": "day"} if derive else TIMED) | {"weight": "weight"}
    edges = edge_columns()
    cut = 288 if derive else CUT
    edges |= {"weight": 1.0 + np.arange(360)}
    late = (edges["day"] >= cut) & (edges["day"] % 3 == 0)
    clean = make(bench, edges, **settings)
    # Future rows repeat edges of the past, and weigh a thousand times as much.
    past = np.flatnonzero(edges["day"] < cut)[: np.count_nonzero(late)]
    repeats = {name: edges[name].copy() for name in ("item_id", "context_id", "weight")}
    for name in ("item_id", "context_id"):
        repeats[name][late] = edges[name][past]
    repeats["weight"][late] *= 1_000
    poisoned = make(bench, edges | repeats, **settings)
    assert poisoned.counts.repeated_edges > clean.counts.repeated_edges
    assert clean.adjacency().item_weights is not None
    assert what_training_sees(poisoned) == what_training_sees(clean)


def test_poison_added_to_the_past_does_change_it(bench):
    clean = make(bench, edge_columns(), **TIMED)
    poisoned = make(bench, concatenated(edge_columns(), poison([CUT - 1])), **TIMED)
    assert what_training_sees(poisoned)[0] != what_training_sees(clean)[0]


def test_only_structural_features_see_past_edges_that_trade_contexts(bench):
    rows = np.arange(360)
    edges = edge_columns() | {"item_id": KEYS[(7 * rows + rows // 6) % NUM_ITEMS], "day": rows}
    traded = edges["context_id"].copy()
    traded[[0, 12]] = traded[[12, 0]]
    for structure in (None, StructureConfig(width=4)):
        settings = TIMED | {"structure": structure}
        one = make(bench, edges, **settings)
        two = make(bench, edges | {"context_id": traded}, **settings)
        assert one.num_edges == two.num_edges
        found = [graph.features().gather(np.arange(NUM_ITEMS)) for graph in (one, two)]
        assert np.array_equal(*found) == (structure is None)


def test_edges_without_times_beside_timed_pairs_are_warned_of(bench, caplog):
    with caplog.at_level(logging.WARNING, logger="pinsage"):
        graph = make(bench, edge_columns(), pairs=pair_columns(), pairs_config={"timestamp": "day"})
    assert "no timestamps" in caplog.text
    assert graph.counts.left_out_edges == {}


def test_pairs_derived_by_time_are_an_item_and_the_next_of_the_same_context(bench):
    # Item 3 comes back to x on day 95: a repeated edge keeps its first day.
    edges = {
        "item_id": KEYS[[3, 1, 2, 5, 4, 6, 7, 8, 9, 3]],
        "context_id": ["x", "x", "x", "y", "y", "z", "z", "z", "z", "x"],
        "day": [30, 10, 20, 10, 20, 40, 50, 80, 96, 95],
    }
    graph = make(bench, edges, timestamp="day")
    rows = pq.read_table(graph.artifact.path / "pairs.parquet").to_pylist()
    assert [(row["query_id"], row["positive_id"], row["split"]) for row in rows] == [
        (1, 2, "train"),
        (2, 3, "train"),
        (5, 4, "train"),
        (6, 7, "train"),
        (7, 8, "train"),
        (8, 9, "test"),
    ]


def test_the_order_of_the_items_table_tells_nothing_of_pairs_of_one_time(bench):
    # Baskets: whatever is in one came at one time.
    edges = edge_columns(num_contexts=400)
    edges["day"] = np.repeat(np.arange(400), 6)
    graph = make(bench, edges, timestamp="day")
    for split in ("train", "test"):
        pairs = graph.pairs(split)
        gaps = pairs.positives - pairs.queries
        assert len(gaps) > 100
        assert 0.4 < (gaps > 0).mean() < 0.6
        # Two items at random are a third of the table apart; neighbors in a sorted basket, a 7th.
        assert np.abs(gaps).mean() > 0.27 * NUM_ITEMS


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.timestamp("ns")], ids=str)
@both_with_and_without_structure
def test_poison_in_the_future_of_derived_pairs_changes_nothing_that_training_sees(
    bench, kind, structure
):
    edges = edge_columns()
    future = edges["day"] >= len(edges["day"]) * 0.8
    typed = {"day": pa.array(edges["day"] * 1000).cast(kind, safe=False)}
    clean = make(bench, edges | typed, timestamp="day", structure=structure)
    poisoned = make(
        bench, with_random_items(edges, future) | typed, timestamp="day", structure=structure
    )
    assert what_training_sees(poisoned) == what_training_sees(clean)
    assert poisoned.pairs("test").positives.tolist() != clean.pairs("test").positives.tolist()


def test_derived_test_pairs_end_after_the_edges_that_training_sees(bench):
    edges = edge_columns()
    graph = make(bench, edges, timestamp="day")
    counts = graph.counts.pairs
    assert counts.train > counts.valid > 0
    assert counts.test > 0
    assert graph.num_edges + graph.counts.left_out_edges["future"] == len({
        *zip(edges["item_id"], edges["context_id"], strict=True)
    })


@both_with_and_without_structure
def test_without_times_whole_contexts_are_held_out_and_poison_in_them_changes_nothing(
    bench, structure
):
    edges = {name: edge_columns()[name] for name in ("item_id", "context_id")}
    clean = make(bench, edges, structure=structure)
    held_out = ~np.isin(edges["context_id"], list(stored_contexts(clean)))
    assert 0 < len(np.unique(edges["context_id"][held_out])) < 30
    assert clean.counts.left_out_edges["held_out_context"] > 0
    more = {"item_id": KEYS[:20], "context_id": np.repeat(edges["context_id"][held_out][:1], 20)}
    poisoned = make(
        bench, concatenated(with_random_items(edges, held_out), more), structure=structure
    )
    assert what_training_sees(poisoned) == what_training_sees(clean)
    assert len(poisoned.pairs("test")) != len(clean.pairs("test")) or (
        len(poisoned.pairs("valid")) != len(clean.pairs("valid"))
    )


def test_edges_of_valid_and_of_test_contexts_are_both_out_of_the_graph(bench):
    # Every item is in one context only, so an item of a held-out context must be cold.
    edges = {"item_id": KEYS, "context_id": np.repeat([f"c{n}" for n in range(20)], 2)}
    graph = make(bench, edges)
    degrees = graph.adjacency().item_degrees
    for split, degree in (("train", 1), ("valid", 0), ("test", 0)):
        queries = graph.pairs(split).queries
        assert len(queries) > 0
        assert (degrees[queries] == degree).all()


def test_derived_rings_make_each_item_of_a_context_a_query_once_and_a_positive_once(bench):
    edges = {"item_id": KEYS, "context_id": np.repeat([f"c{n}" for n in range(10)], 4)}
    graph = make(bench, edges)
    pairs = [graph.pairs(split) for split in SPLITS]
    queries = np.concatenate([one.queries for one in pairs])
    positives = np.concatenate([one.positives for one in pairs])
    assert sorted(queries) == sorted(positives) == list(range(NUM_ITEMS))
    assert (queries // 4 == positives // 4).all()
    assert (queries != positives).all()


def test_pairs_tell_which_held_out_context_they_were_made_from(bench):
    edges = {"item_id": KEYS, "context_id": np.repeat([f"c{n}" for n in range(10)], 4)}
    graph = make(bench, edges)
    for split in ("valid", "test"):
        pairs = graph.pairs(split)
        together = pairs.contexts[:, None] == pairs.contexts
        np.testing.assert_array_equal(together, (pairs.queries // 4)[:, None] == pairs.queries // 4)
    assert graph.pairs("train").contexts is None
    assert make(bench, edge_columns(), timestamp="day").pairs("test").contexts is None
    of_table = make(bench, edges, pairs=pair_columns(), pairs_config={"timestamp": "day"})
    assert of_table.pairs("test").contexts is None


def test_a_context_of_one_item_gives_no_pair(bench):
    edges = edge_columns()
    lone = {"item_id": KEYS[:3], "context_id": np.array(["u", "v", "w"]), "day": np.zeros(3, int)}
    without = make(bench, edges).counts.pairs.model_dump()
    assert make(bench, concatenated(edges, lone)).counts.pairs.model_dump() == without


def test_another_seed_holds_out_other_contexts(bench):
    one, two = (make(bench, edge_columns(), seed=seed) for seed in (0, 1))
    assert stored_contexts(one) != stored_contexts(two)


def test_without_split_or_time_a_pair_and_its_reverse_share_a_split(bench):
    columns = pair_columns(2_000)
    one, other = columns["query_item"], columns["positive_item"]
    both = {
        "query_item": np.concatenate([one, other]),
        "positive_item": np.concatenate([other, one]),
    }
    graph = make(bench, edge_columns(), pairs=both)
    held = {split: graph.pairs(split) for split in SPLITS}
    pairs = {
        split: {frozenset(p) for p in zip(h.queries.tolist(), h.positives.tolist(), strict=True)}
        for split, h in held.items()
    }
    assert all(pairs.values())
    assert not pairs["train"] & pairs["valid"]
    assert not pairs["train"] & pairs["test"]
    assert not pairs["valid"] & pairs["test"]


@pytest.mark.parametrize("prefix", ["", "likes/"])
def test_edges_of_held_out_pairs_in_their_own_context_leave_the_graph(bench, prefix):
    pairs = {
        "query_item": KEYS[[0, 1, 2]],
        "positive_item": KEYS[[1, 2, 3]],
        "split": ["train", "valid", "test"],
        "context": ["x", "x", "y"],
    }
    edges = {
        "item_id": KEYS[[0, 1, 2, 3, 1, 2, 3, 4]],
        "context_id": [prefix + key for key in "xxxxyyyy"],
    }
    settings = {"split": "split", "context": "context", "context_prefix": prefix}
    graph = make(bench, edges, pairs=pairs, pairs_config=settings)
    # x loses 1 and 2 (valid), y loses 2 and 3 (test); the train pair costs nothing.
    assert graph.adjacency().context_items.tolist() == [0, 3, 1, 4]
    assert graph.counts.left_out_edges == {"held_out_pair": 4}

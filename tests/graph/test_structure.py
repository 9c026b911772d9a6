"""Structural features against the exact decomposition, and what must not move them."""

import pickle
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from pydantic import ValidationError

from pinsage.base.artifacts import Draft
from pinsage.base.logs import Progress
from pinsage.graph import BipartiteAdjacency
from pinsage.graph.adjacency import AdjacencyShard
from pinsage.graph.features import FeatureShard, FeatureStore
from pinsage.graph.structure import Structure, StructureConfig, fold_in
from pinsage.graph.synthetic import write_tables
from pinsage.graph.tasks import Threads
from pinsage.kernels import build_csr, transpose


def graph_of(edges, num_items, num_contexts):
    """Build a graph from (item, context) edges."""
    items, contexts = np.array(edges, np.int64).reshape(-1, 2).T
    starts, cols = build_csr(items, contexts, num_items)
    return BipartiteAdjacency(starts, cols, *transpose(starts, cols, num_contexts))


def random_graph(num_items=60, num_contexts=40, chance=0.15, seed=0):
    matrix = np.random.default_rng(seed).random((num_items, num_contexts)) < chance
    return graph_of(np.argwhere(matrix), num_items, num_contexts)


def communities(sizes=(40, 30, 20, 10), seed=0):
    """A graph of planted communities of falling size, so that singular values have a gap."""
    draw = np.random.default_rng(seed)
    of_item = np.repeat(np.arange(len(sizes)), sizes)
    of_context = np.repeat(np.arange(len(sizes)), 25)
    chance = np.where(of_item[:, None] == of_context, 0.4, 0.02)
    edges = np.argwhere(draw.random(chance.shape) < chance)
    return graph_of(edges, len(of_item), len(of_context)), of_item


def normalized(graph, item_power=0.5, context_power=0.5):
    """The degree-normalized matrix, dense."""
    matrix = np.zeros((graph.num_items, graph.num_contexts))
    matrix[np.repeat(np.arange(graph.num_items), graph.item_degrees), graph.item_contexts] = 1
    items = np.maximum(graph.item_degrees, 1) ** -item_power
    contexts = np.maximum(graph.context_degrees, 1) ** -context_power
    return items[:, None] * matrix * contexts


def exact(graph, width, **powers):
    """The same features by LAPACK; columns may differ in sign."""
    left, values, _ = np.linalg.svd(normalized(graph, **powers), full_matrices=False)
    vectors = (left * np.where(values > 1e-9, values, 0))[:, :width]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 1e-9, lengths, 1)


def structure_of(graph, folder, *, seed=0, num_shards=1, **settings):
    """Write a graph's shards, and what is to be made of them."""
    for shard in range(num_shards):
        AdjacencyShard.cut(graph, shard, num_shards).write(Draft(folder))
    return Structure(
        directory=folder,
        folder=folder / "structure",
        num_shards=num_shards,
        num_items=graph.num_items,
        num_contexts=graph.num_contexts,
        config=StructureConfig(**settings),
        seed=seed,
    )


def in_turn(step, numbers, name):
    for number in numbers:
        step(number)


def features(graph, **settings):
    # In memory, where there is such a folder: what is written here has not to outlive anything.
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        made = structure_of(graph, Path(folder), **settings)
        made.make(in_turn)
        return np.array(made.items())


def assert_same_cosines(found, expected, atol):
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=atol)


def assert_same_up_to_sign(found, expected, atol):
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=atol)


@pytest.mark.parametrize("powers", [{}, {"item_power": 0.3, "context_power": 0.2}])
def test_features_of_communities_are_the_leading_singular_vectors(powers):
    graph, _ = communities()
    found = features(graph, width=4, passes=20, **powers)
    assert_same_up_to_sign(found, exact(graph, 4, **powers), atol=1e-4)


def test_a_few_passes_find_the_space_of_the_communities():
    graph, _ = communities()
    values = np.linalg.svd(normalized(graph), compute_uv=False)
    assert values[4] < 0.8 * values[3], "the test needs a gap"
    assert_same_cosines(features(graph, width=4, passes=6), exact(graph, 4), atol=0.06)


def test_more_passes_come_closer():
    graph = random_graph()
    errors = [
        np.abs(found @ found.T - exact(graph, 10) @ exact(graph, 10).T).max()
        for found in (features(graph, width=10, passes=passes) for passes in (1, 8, 100))
    ]
    assert errors[0] > 2 * errors[1]
    assert errors[1] > 2 * errors[2]
    assert errors[2] < 1e-2


def test_items_of_one_community_are_nearer_than_items_of_two():
    graph, of_item = communities()
    found = features(graph, width=4)
    cosines = found @ found.T
    same = of_item[:, None] == of_item
    np.fill_diagonal(cosines, np.nan)
    assert np.nanmean(cosines[same]) > np.nanmean(cosines[~same]) + 0.4


@pytest.mark.parametrize(("num_items", "num_contexts"), [(60, 40), (25, 90)])
def test_the_whole_width_keeps_every_inner_product_of_the_matrix(num_items, num_contexts):
    graph = random_graph(num_items, num_contexts)
    rows = normalized(graph)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    assert_same_cosines(features(graph, width=min(num_items, num_contexts)), rows, atol=1e-5)


@pytest.mark.parametrize(("num_items", "num_contexts"), [(60, 40), (25, 90)])
def test_columns_beyond_the_rank_are_zero_and_change_no_other(num_items, num_contexts):
    graph = random_graph(num_items, num_contexts)
    rank = min(num_items, num_contexts)
    wide = features(graph, width=rank + 30)
    assert wide.shape == (num_items, rank + 30)
    assert (wide[:, rank:] == 0).all()
    assert_same_cosines(wide, exact(graph, rank), atol=1e-5)


def test_equal_contexts_add_nothing_to_the_rank():
    graph = graph_of([(item, context) for item in range(3) for context in range(5)], 3, 5)
    found = features(graph, width=4)
    np.testing.assert_allclose(found, [[1, 0, 0, 0]] * 3, atol=1e-6)
    assert (found[:, 1:] == 0).all()


def test_one_context_makes_all_its_items_alike():
    found = features(graph_of([(item, 0) for item in range(1, 7)], 7, 1), width=3)
    np.testing.assert_allclose(found[1:], [[1, 0, 0]] * 6, atol=1e-6)
    assert found[0].tolist() == [0, 0, 0]


def test_cold_items_have_zero_rows_and_all_others_unit_length():
    graph = random_graph(chance=0.03, seed=2)
    cold = graph.item_degrees == 0
    assert 0 < cold.sum() < graph.num_items
    lengths = np.linalg.norm(features(graph, width=40), axis=1)
    assert (lengths[cold] == 0).all()
    np.testing.assert_allclose(lengths[~cold], 1, atol=1e-5)


def test_a_graph_without_edges_has_zeros():
    found = features(graph_of([], 4, 2), width=3)
    assert found.tolist() == [[0.0] * 3] * 4


def test_a_graph_without_contexts_has_zeros():
    found = features(graph_of([], 4, 0), width=3)
    assert found.tolist() == [[0.0] * 3] * 4


def test_disconnected_parts_have_nothing_in_common():
    edges = [(item, item // 5) for item in range(20)]
    found = features(graph_of(edges, 20, 4), width=4)
    part = np.arange(20) // 5
    np.testing.assert_allclose(found @ found.T, part[:, None] == part, atol=1e-5)


def test_more_parts_than_columns_leave_the_items_of_a_part_alike():
    edges = [(item, item // 5) for item in range(50)]
    found = features(graph_of(edges, 50, 10), width=4)
    cosines = found @ found.T
    part = np.arange(50) // 5
    np.testing.assert_allclose(cosines[part[:, None] == part], 1, atol=1e-5)
    assert cosines[part[:, None] != part].max() < 0.999


def test_the_largest_entry_of_every_column_is_positive_before_rows_are_scaled():
    # All items have one length before the last step, as all have one and the same degree.
    graph = graph_of(
        [(item, context) for item in range(8) for context in (item, (item + 1) % 8)], 8, 8
    )
    found = features(graph, width=8)
    top = np.abs(found).argmax(axis=0)
    filled = np.flatnonzero(np.abs(found).max(axis=0) > 0)
    assert len(filled) >= 7
    assert (found[top[filled], filled] > 0).all()


def test_columns_come_largest_singular_value_first():
    graph, _ = communities()
    squares = np.square(features(graph, width=4, passes=20)).sum(axis=0)
    np.testing.assert_allclose(squares, np.square(exact(graph, 4)).sum(axis=0), rtol=1e-3)


def test_equal_arguments_give_equal_bits_and_another_seed_others():
    graph = random_graph()
    first, second = (features(graph, width=10, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, features(graph, width=10, seed=4))


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("num_steps", [0, 9, 40, 71, 82])
def test_a_killed_run_goes_on_whatever_its_last_steps_wrote(tmp_path, num_steps):
    graph = random_graph(500, 300, 0.05)
    done = 0

    def until_killed(step, numbers, name):
        nonlocal done
        # Steps of a phase run in any order.
        for number in reversed(numbers):
            if done >= num_steps:
                raise Killed
            step(number)
            done += 1

    made = structure_of(graph, tmp_path, width=16, passes=3)
    assert made.num_steps > 82
    with pytest.raises(Killed):
        made.make(until_killed)
    made = structure_of(graph, tmp_path, width=16, passes=3)
    made.make(in_turn)
    np.testing.assert_array_equal(made.items(), features(graph, width=16, passes=3))


def test_threads_and_shards_change_no_bit(tmp_path):
    graph = random_graph(500, 300, 0.05)
    made = structure_of(graph, tmp_path, width=16, passes=2, num_shards=3)
    made.make(Threads(4, Progress("test", made.num_steps, "steps")))
    np.testing.assert_array_equal(made.items(), features(graph, width=16, passes=2))


def test_what_travels_to_another_process_holds_no_array(tmp_path):
    made = structure_of(random_graph(500, 300, 0.05), tmp_path, width=16)
    made.make(in_turn)
    assert len(pickle.dumps(made)) < 2_000


def test_memory_is_that_of_a_piece(tmp_path):
    draw = np.random.default_rng(0)
    edges = np.stack([draw.integers(30_000, size=90_000), draw.integers(9_000, size=90_000)], 1)
    graph = graph_of(edges, 30_000, 9_000)
    structure_of(graph, tmp_path / "first", width=2, passes=1).make(in_turn)
    made = structure_of(graph, tmp_path / "second", width=32, passes=2)
    tracemalloc.start()
    try:
        made.make(in_turn)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    rows = 30_000 // 32 + 1
    # Twice what is stated, for checks of arguments and for what small objects take.
    assert peak < 2 * (8 * 32 * rows + 8 * 90_000 // 32 + 16 * 32**2) + 2**18


@pytest.mark.parametrize("settings", [{"width": 0}, {"passes": 0}, {"depth": 3}])
def test_settings_without_sense_are_refused(settings):
    with pytest.raises(ValidationError):
        StructureConfig(**settings)


@pytest.mark.parametrize("num_shards", [1, 3])
def test_an_item_folds_into_its_own_row_bit_for_bit(bench, num_shards):
    structure = StructureConfig(width=8)
    graph = bench.ingest(
        write_tables(bench.folder / "tables"), structure=structure, num_shards=num_shards
    )
    rows = graph.features().gather(np.arange(graph.num_items))[
        :, graph.feature_columns["structure"]
    ]
    adjacency, vectors = graph.adjacency(), graph.context_vectors()
    for item in range(graph.num_items):
        own = adjacency.item_contexts[slice(*adjacency.item_starts[item : item + 2])]
        np.testing.assert_array_equal(fold_in(own, vectors), rows[item])
        np.testing.assert_array_equal(fold_in(np.tile(own[::-1], 2), vectors), rows[item])


def test_an_item_without_contexts_folds_into_zeros():
    vectors = FeatureStore([FeatureShard(np.ones((4, 3), np.float32))])
    assert fold_in(np.array([], np.int64), vectors).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="from 0 to 3, found 4 to 4"):
        fold_in(np.array([4]), vectors)


def test_a_graph_without_structure_has_no_context_vectors(bench):
    assert bench.ingest(bench.six()).context_vectors() is None


def test_ingest_writes_the_group_after_the_content_and_before_log_degree(bench):
    graph = bench.ingest(bench.six(), structure=StructureConfig(width=3))
    assert graph.feature_columns == {
        "size": slice(0, 2),
        "structure": slice(2, 5),
        "log_degree": slice(5, 6),
    }
    rows = graph.features().gather(np.arange(6))
    assert rows[:, :2].tolist() == [[v, v] for v in range(6)]
    np.testing.assert_array_equal(rows[:, 2:5], features(graph.adjacency(), width=3))
    np.testing.assert_allclose(rows[:, 5], np.log1p([1, 2, 1, 1, 1, 0]), rtol=1e-6)


def test_without_structure_ingest_writes_no_such_group(bench):
    assert "structure" not in bench.ingest(bench.six()).feature_columns


@pytest.mark.parametrize("num_shards", [3, 100])
def test_the_shard_count_changes_nothing(bench, num_shards):
    config, structure = write_tables(bench.folder / "tables"), StructureConfig(width=8)
    one = bench.ingest(config, structure=structure)
    many = bench.ingest(config, num_shards=num_shards, structure=structure)
    ids = np.arange(one.num_items)
    np.testing.assert_array_equal(one.features().gather(ids), many.features().gather(ids))


def test_a_feature_group_cannot_take_the_name(bench, changed):
    groups = [{"name": "structure", "column": "size"}]
    with pytest.raises(ValidationError, match="'structure': the name is taken"):
        changed(bench.six(), {"items.features": groups})

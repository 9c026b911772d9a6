import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsage.kernels import csr, pack, packing, random_walks, walk_neighborhoods, walk_new_items
from tests import reference
from tests.kernels.graphs import graph_of, power_law_graph, small_graphs

WALKS = {"key": 17, "num_walks": 50, "walk_length": 2, "restart": 0.5}

walk_settings = st.fixed_dictionaries({
    "key": st.integers(0, 2**64 - 1),
    "num_walks": st.integers(1, 20),
    "walk_length": st.integers(1, 4),
    "restart": st.sampled_from([0.0, 1.0, 0.5, 1e-30]) | st.floats(0, 1),
})


@pytest.fixture(scope="module")
def large():
    """2,000 items of skewed degree, some of them cold."""
    return power_law_graph(2_000, 300, 20_000, seed=3)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), graph=small_graphs(), walk=walk_settings, num_neighbors=st.integers(1, 20))
def test_neighborhoods_equal_the_reference_bit_for_bit(data, graph, walk, num_neighbors):
    seeds = data.draw(st.lists(st.integers(0, graph.num_items - 1), max_size=6))
    found = walk_neighborhoods(
        graph.packed, np.array(seeds, np.int64), num_neighbors=num_neighbors, **walk
    )
    expected = reference.walk_neighborhoods(
        *graph.lists, seeds, num_neighbors=num_neighbors, **walk
    )
    assert found[0].dtype == found[1].dtype == np.int32
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@settings(deadline=None)
@given(graph=small_graphs(), walk=walk_settings)
def test_visits_come_step_by_step_in_walk_order(graph, walk):
    visited = random_walks(graph.packed, np.arange(graph.num_items), **walk)
    walked = {name: walk[name] for name in ("key", "walk_length", "restart")}
    for seed, row in enumerate(visited):
        paths = [
            reference.walk_once(*graph.lists, walked["key"], seed, number, **_limits(walk))
            for number in range(walk["num_walks"])
        ]
        expected = [
            path[step] for step in range(walk["walk_length"]) for path in paths if step < len(path)
        ]
        assert row.tolist() == expected + [-1] * (len(row) - len(expected))


def _limits(walk):
    return {"walk_length": walk["walk_length"], "restart": walk["restart"]}


def test_long_neighborhoods_of_a_larger_graph_equal_the_reference(large):
    # Hundreds of distinct items a seed: quickselect and the library sort both come into play.
    seeds = [0, 1, 700, 1_999]
    walk = {"key": 2**64 - 1, "num_walks": 400, "walk_length": 3, "restart": 0.25}
    for num_neighbors in (1, 50, 150, 1_000):
        found = walk_neighborhoods(
            large.packed, np.array(seeds), num_neighbors=num_neighbors, **walk
        )
        expected = reference.walk_neighborhoods(
            *large.lists, seeds, num_neighbors=num_neighbors, **walk
        )
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_a_seed_without_edges_has_an_empty_row():
    graph = graph_of([(0, 0), (2, 0)], num_items=3, num_contexts=1)
    ids, counts = walk_neighborhoods(graph.packed, np.array([1]), num_neighbors=3, **WALKS)
    assert ids.tolist() == [[-1, -1, -1]]
    assert counts.tolist() == [[0, 0, 0]]


def test_a_seed_that_reaches_no_other_item_has_an_empty_row():
    graph = graph_of([(0, 0), (1, 1), (2, 1)], num_items=3, num_contexts=2)
    ids, counts = walk_neighborhoods(graph.packed, np.array([0]), num_neighbors=2, **WALKS)
    assert ids.tolist() == [[-1, -1]]
    assert counts.tolist() == [[0, 0]]


def test_no_seeds_give_no_rows(large):
    ids, counts = walk_neighborhoods(large.packed, np.array([], np.int64), num_neighbors=4, **WALKS)
    assert ids.shape == counts.shape == (0, 4)


def test_the_number_of_threads_changes_nothing(large):
    seeds = np.arange(large.num_items)
    before = numba.get_num_threads()
    results = []
    try:
        for threads in {1, numba.config.NUMBA_NUM_THREADS}:
            numba.set_num_threads(threads)
            results.append(walk_neighborhoods(large.packed, seeds, num_neighbors=10, **WALKS))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(results[0][0], results[-1][0])
    np.testing.assert_array_equal(results[0][1], results[-1][1])


def test_splitting_and_shuffling_the_seeds_changes_nothing(large):
    seeds = np.arange(large.num_items)
    whole = walk_neighborhoods(large.packed, seeds, num_neighbors=10, **WALKS)
    order = np.random.default_rng(5).permutation(large.num_items)
    for part in np.array_split(order, 7):
        ids, counts = walk_neighborhoods(large.packed, part, num_neighbors=10, **WALKS)
        np.testing.assert_array_equal(ids, whole[0][part])
        np.testing.assert_array_equal(counts, whole[1][part])


def test_more_walks_begin_with_the_same_walks(large):
    few = random_walks(large.packed, np.arange(50), key=1, num_walks=20, walk_length=1, restart=0.5)
    many = random_walks(
        large.packed, np.arange(50), key=1, num_walks=60, walk_length=1, restart=0.5
    )
    np.testing.assert_array_equal(many[:, :20], few)


def test_another_key_walks_another_way(large):
    one, other = (
        random_walks(large.packed, np.arange(50), key=key, num_walks=50, walk_length=1, restart=0.5)
        for key in (1, 2)
    )
    assert (one != other).mean() > 0.5


def test_read_only_arrays_walk_the_same_way(large):
    expected = walk_neighborhoods(large.packed, np.arange(20), num_neighbors=5, **WALKS)
    packed = large.packed
    seeds = np.arange(20)
    for array in (packed.item_words, packed.context_words, packed.context_items, seeds):
        array.flags.writeable = False
    found = walk_neighborhoods(packed, seeds, num_neighbors=5, **WALKS)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_visit_shares_fit_their_exact_probabilities():
    edges = [(0, 0), (1, 0), (2, 0), (3, 1), (0, 1), (4, 2), (2, 2), (5, 2), (6, 3), (4, 3)]
    graph = graph_of(edges, num_items=8, num_contexts=4)
    # One step: visits are then independent draws, as the chi-square law wants.
    walk = {"walk_length": 1, "restart": 0.5}
    num_walks = 100_000
    for seed in (0, 2, 4):
        shares = reference.visit_shares(*graph.lists, seed, **walk)
        visited = random_walks(graph.packed, np.array([seed]), key=9, num_walks=num_walks, **walk)
        found = np.bincount(visited[0], minlength=8)
        expected = np.array([num_walks * shares.get(item, 0) for item in range(8)])
        assert not found[expected == 0].any()
        reached = expected > 0
        chi_square = ((found - expected)[reached] ** 2 / expected[reached]).sum()
        # 3 to 4 degrees of freedom: 23.5 is passed once in 10,000 seeds at most.
        assert chi_square < 23.5


def test_visit_shares_over_several_steps_fit_their_exact_probabilities():
    edges = [(0, 0), (1, 0), (2, 0), (3, 1), (0, 1), (4, 2), (2, 2), (5, 2), (6, 3), (4, 3)]
    graph = graph_of(edges, num_items=8, num_contexts=4)
    walk = {"walk_length": 4, "restart": 0.3}
    shares = reference.visit_shares(*graph.lists, 0, **walk)
    visited = random_walks(graph.packed, np.array([0]), key=9, num_walks=100_000, **walk)
    visits = visited[visited >= 0]
    for item, share in shares.items():
        found = (visits == item).mean()
        # Visits of one walk depend on each other, at most 4 of them: twice the plain deviation.
        deviation = 2 * (share * (1 - share) / visits.size) ** 0.5
        assert abs(found - share) < 4 * deviation


def test_walks_last_as_long_as_restart_says():
    graph = graph_of([(0, 0), (1, 0)], num_items=2, num_contexts=1)
    visited = random_walks(
        graph.packed, np.array([0]), key=4, num_walks=100_000, walk_length=3, restart=0.25
    )
    mean_steps = (visited >= 0).sum() / 100_000
    assert mean_steps == pytest.approx(1 + 0.75 + 0.75**2, abs=0.02)


def test_draws_of_neighboring_walks_steps_and_items_are_uniform_and_uncorrelated():
    # 64 contexts of one item each: where a walk goes shows the upper bits of its draw.
    graph = graph_of(
        [(0, context) for context in range(64)] + [(1 + c, c) for c in range(64)], 65, 64
    )
    visited = random_walks(
        graph.packed, np.array([0]), key=0, num_walks=64_000, walk_length=1, restart=1.0
    )[0]
    reached = visited[visited > 0]
    expected = reached.size / 64
    chi_square = ((np.bincount(reached, minlength=65)[1:] - expected) ** 2 / expected).sum()
    # 63 degrees of freedom: 120 is passed once in 50,000 keys.
    assert chi_square < 120
    assert abs(np.corrcoef(visited[:-1], visited[1:])[0, 1]) < 4 / visited.size**0.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": np.array([0, 3])}, r"seeds must lie in 0\.\.2; found 3 at place 1"),
        ({"seeds": np.array([-1])}, r"seeds must lie in 0\.\.2; found -1 at place 0"),
        ({"seeds": np.array([0.0])}, "seeds must be a one-dimensional integer array"),
        ({"seeds": np.array([[0]])}, "seeds must be a one-dimensional integer array"),
        ({"num_neighbors": 0}, "num_neighbors must be at least 1; found 0"),
        ({"num_walks": 0}, "num_walks must be at least 1; found 0"),
        ({"walk_length": 0}, "walk_length must be at least 1; found 0"),
        ({"restart": -0.1}, "restart must be a probability, 0 to 1; found -0.1"),
        ({"restart": 1.5}, "restart must be a probability, 0 to 1; found 1.5"),
        ({"restart": float("nan")}, "restart must be a probability, 0 to 1; found nan"),
        ({"key": -1}, "key must be an unsigned 64-bit number; found -1"),
        ({"key": 2**64}, "key must be an unsigned 64-bit number"),
        ({"num_walks": 2**20, "walk_length": 2**20}, r"num_walks \* walk_length must be at most"),
    ],
)
@pytest.mark.parametrize("num_seeds", [2, 0])
def test_walk_neighborhoods_refuses(changed, message, num_seeds):
    graph = graph_of([(0, 0), (1, 0)], num_items=3, num_contexts=1)
    arguments = {"seeds": np.arange(num_seeds), "num_neighbors": 2, **WALKS, **changed}
    with pytest.raises(ValueError, match=message):
        walk_neighborhoods(graph.packed, **arguments)


def test_pack_refuses_a_degree_that_overflows_its_word(monkeypatch):
    graph = graph_of([(0, 0), (1, 0), (1, 1), (1, 2)], num_items=2, num_contexts=3)
    monkeypatch.setattr(packing, "MAX_DEGREE", 2)
    with pytest.raises(ValueError, match="a degree must be at most 2; item 1 has 3 edges"):
        _ = graph.packed


def test_pack_refuses_a_row_start_that_overflows_its_word(monkeypatch):
    graph = graph_of([(0, 0), (1, 0), (1, 1)], num_items=2, num_contexts=2)
    monkeypatch.setattr(packing, "MAX_START", 2)
    with pytest.raises(ValueError, match="a graph must have at most 2 edges; found 3"):
        _ = graph.packed


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"item_starts": [0, 1, 3]}, r"item_starts must run from 0 to the 2 edges; found 0\.\.3"),
        ({"item_starts": [0, 2, 2]}, "item_starts and context_items must describe the same edges"),
        ({"item_contexts": [0, 2]}, r"item_contexts must lie in 0\.\.1; found 2 at place 1"),
        ({"item_contexts": [0, 0]}, "context_starts and item_contexts must describe the same"),
        ({"context_items": [0, 2]}, r"context_items must lie in 0\.\.1; found 2 at place 1"),
        ({"context_items": [0]}, "context_starts must run from 0 to the 1 edges"),
    ],
)
def test_pack_refuses(replaced, message):
    arrays = {
        "item_starts": [0, 1, 2],
        "item_contexts": [0, 1],
        "context_starts": [0, 1, 2],
        "context_items": [0, 1],
    } | replaced
    with pytest.raises(ValueError, match=message):
        pack(**{name: np.array(array) for name, array in arrays.items()})


EDGES = [(0, 0), (1, 0), (2, 0), (3, 1), (0, 1), (4, 2), (2, 2), (5, 2), (6, 3), (4, 3)]


def _chances(graph):
    """Chances over two orders of magnitude for both directions, flat and as lists."""
    rng = np.random.default_rng(4)
    of_items, of_contexts = (np.exp(rng.normal(0, 1.5, len(EDGES))) for _ in range(2))
    lists = [
        [chances[starts[row] : starts[row + 1]].tolist() for row in range(len(starts) - 1)]
        for starts, chances in (
            (graph.item_starts, of_items),
            (graph.context_starts, of_contexts),
        )
    ]
    return of_items, of_contexts, lists


def _pack_with(graph, of_items, of_contexts):
    return pack(
        graph.item_starts,
        graph.item_contexts,
        graph.context_starts,
        graph.context_items,
        item_chances=of_items,
        context_chances=of_contexts,
    )


def _chi_square(packed, shares, seed, *, walk_length=1, num_walks=100_000):
    """How far visits lie from their exact shares, and the degrees of freedom."""
    visited = random_walks(
        packed, np.array([seed]), key=9, num_walks=num_walks, walk_length=walk_length, restart=0.5
    )
    found = np.bincount(visited[visited >= 0], minlength=packed.num_items)
    expected = found.sum() * np.array([shares.get(item, 0.0) for item in range(packed.num_items)])
    assert not found[expected == 0].any()
    reached = expected > 0
    return ((found - expected)[reached] ** 2 / expected[reached]).sum(), reached.sum() - 1


@pytest.mark.parametrize("sides", ["both", "items", "contexts"])
def test_weighted_visit_shares_fit_their_exact_probabilities_and_no_others(sides):
    graph = graph_of(EDGES, num_items=8, num_contexts=4)
    of_items, of_contexts, (context_weights, item_weights) = _chances(graph)
    if sides == "items":
        of_contexts = item_weights = None
    if sides == "contexts":
        of_items = context_weights = None
    packed = _pack_with(graph, of_items, of_contexts)
    for seed in (0, 2, 4):
        right = reference.visit_shares(
            *graph.lists,
            seed,
            walk_length=1,
            restart=0.5,
            context_weights=context_weights,
            item_weights=item_weights,
        )
        # 2 to 4 degrees of freedom: 23.5 is passed once in 10,000 keys at most.
        assert _chi_square(packed, right, seed)[0] < 23.5
        uniform = reference.visit_shares(*graph.lists, seed, walk_length=1, restart=0.5)
        assert _chi_square(packed, uniform, seed)[0] > 1_000


def test_weighted_shares_over_several_steps_fit_their_exact_probabilities():
    graph = graph_of(EDGES, num_items=8, num_contexts=4)
    of_items, of_contexts, (context_weights, item_weights) = _chances(graph)
    shares = reference.visit_shares(
        *graph.lists,
        0,
        walk_length=4,
        restart=0.5,
        context_weights=context_weights,
        item_weights=item_weights,
    )
    found, freedom = _chi_square(_pack_with(graph, of_items, of_contexts), shares, 0, walk_length=4)
    # Visits of one walk depend on each other, at most 4 of them.
    assert found < 4 * (freedom + 4 * (2 * freedom) ** 0.5)


def test_chances_that_are_all_alike_give_the_shares_of_uniform_walks():
    graph = graph_of(EDGES, num_items=8, num_contexts=4)
    shares = reference.visit_shares(*graph.lists, 0, walk_length=1, restart=0.5)
    packed = _pack_with(graph, np.full(len(EDGES), 0.3), None)
    assert _chi_square(packed, shares, 0)[0] < 23.5


def _weighted(graph, dtype):
    rng = np.random.default_rng(1)
    return pack(
        graph.item_starts,
        graph.item_contexts.astype(dtype),
        graph.context_starts,
        graph.context_items.astype(dtype),
        item_chances=rng.random(len(graph.item_contexts)) + 0.1,
        context_chances=rng.random(len(graph.context_items)) + 0.1,
    )


def _uniform(graph, dtype):
    return pack(
        graph.item_starts,
        graph.item_contexts.astype(dtype),
        graph.context_starts,
        graph.context_items.astype(dtype),
    )


@pytest.mark.parametrize("packed_as", [_uniform, _weighted])
def test_wide_ids_give_the_same_neighborhoods(large, packed_as):
    narrow, wide = (
        walk_neighborhoods(packed_as(large, dtype), np.arange(500), num_neighbors=20, **WALKS)
        for dtype in (np.int32, np.int64)
    )
    assert (narrow[0].dtype, wide[0].dtype) == (np.int32, np.int64)
    np.testing.assert_array_equal(narrow[0], wide[0])
    np.testing.assert_array_equal(narrow[1], wide[1])


def test_ids_become_wide_beyond_a_limit_and_nothing_else_changes(monkeypatch):
    narrow = graph_of(EDGES, num_items=8, num_contexts=4)
    monkeypatch.setattr(csr, "INT32_IDS", 3)
    wide = graph_of(EDGES, num_items=8, num_contexts=4)
    assert narrow.packed.id_dtype == np.int32
    assert wide.packed.id_dtype == np.int64
    found = [
        walk_neighborhoods(graph.packed, np.arange(8), num_neighbors=5, **WALKS)[0]
        for graph in (narrow, wide)
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("packed_as", "dtype", "an_edge"),
    [
        (_uniform, np.int32, 12),
        (_uniform, np.int64, 16),
        (_weighted, np.int32, 36),
        (_weighted, np.int64, 48),
    ],
)
def test_a_packed_graph_takes_the_bytes_that_pack_states(large, packed_as, dtype, an_edge):
    nodes = large.num_items + large.num_contexts
    expected = 8 * nodes + an_edge * len(large.item_contexts)
    assert packed_as(large, dtype).nbytes == expected


@pytest.mark.parametrize("packed_as", [_uniform, _weighted])
def test_the_order_and_company_of_seeds_change_nothing_by_chance_either(large, packed_as):
    packed = packed_as(large, np.int32)
    whole = walk_neighborhoods(packed, np.arange(large.num_items), num_neighbors=10, **WALKS)
    order = np.random.default_rng(5).permutation(large.num_items)[:300]
    for part in np.array_split(order, 3):
        ids, counts = walk_neighborhoods(packed, part, num_neighbors=10, **WALKS)
        np.testing.assert_array_equal(ids, whole[0][part])
        np.testing.assert_array_equal(counts, whole[1][part])


@pytest.mark.parametrize("packed_as", [_uniform, _weighted])
def test_the_visits_counted_are_the_visits_listed(large, packed_as):
    packed, seeds = packed_as(large, np.int32), np.arange(200)
    visited = random_walks(packed, seeds, **WALKS)
    found = walk_neighborhoods(packed, seeds, num_neighbors=15, **WALKS)
    for row, seed in enumerate(seeds):
        visits = [item for item in visited[row].tolist() if item >= 0]
        expected = reference.top_visited(visits, seed, 15)
        kept = list(zip(found[0][row].tolist(), found[1][row].tolist(), strict=True))
        assert kept[: len(expected)] == expected


def test_ids_in_order_of_locality_find_their_neighbors_too():
    # All that item 0 reaches has the last ids of many: still an even spread to guess from.
    num_items = 100_000
    near = range(num_items - 300, num_items)
    graph = graph_of([(0, 0), *((item, 0) for item in near)], num_items, 1)
    walk = {"key": 3, "num_walks": 300, "walk_length": 1, "restart": 1.0}
    found = walk_neighborhoods(graph.packed, np.array([0]), num_neighbors=50, **walk)
    visited = random_walks(graph.packed, np.array([0]), **walk)[0]
    expected = reference.top_visited(visited.tolist(), 0, 50)
    assert list(zip(found[0][0].tolist(), found[1][0].tolist(), strict=True)) == expected


@pytest.mark.parametrize("packed_as", [_uniform, _weighted])
def test_a_known_item_given_as_new_has_the_row_it_has(large, packed_as):
    packed, seeds = packed_as(large, np.int32), np.array([5, 0, 1_999, 40])
    rows = [slice(large.item_starts[seed], large.item_starts[seed + 1]) for seed in seeds]
    contexts = np.concatenate([large.item_contexts[row] for row in rows])
    starts = np.cumsum([0, *(row.stop - row.start for row in rows)])
    chances = None
    if packed.by_chance:
        of_all = np.random.default_rng(1).random(len(large.item_contexts)) + 0.1
        chances = np.concatenate([of_all[row] for row in rows])
    found = walk_new_items(
        packed, seeds, starts, contexts, num_neighbors=10, chances=chances, **WALKS
    )
    expected = walk_neighborhoods(packed, seeds, num_neighbors=10, **WALKS)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_a_new_item_reaches_its_contexts_items_and_without_contexts_nothing():
    graph = graph_of([(0, 0), (1, 0), (2, 1)], num_items=3, num_contexts=2)
    ids, counts = walk_new_items(
        graph.packed, np.array([3, 4]), np.array([0, 1, 1]), np.array([0]), num_neighbors=3, **WALKS
    )
    assert sorted(ids[0].tolist()) == [-1, 0, 1]
    assert counts[0].sum() >= 50
    assert ids[1].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"contexts": [0, 2]}, r"contexts must lie in 0\.\.1; found 2 at place 1"),
        ({"contexts": [-1, 0]}, r"contexts must lie in 0\.\.1; found -1 at place 0"),
        ({"starts": [0, 1]}, r"starts must run from 0 to the 2 edges; found 0\.\.1"),
        ({"starts": [0, 1, 2]}, "starts must be 2 long; found 3"),
        ({"seeds": [-1]}, "seeds must lie in 0"),
        ({"chances": [1.0, 2.0]}, "chances must be None"),
    ],
)
def test_walk_new_items_refuses(changed, message):
    graph = graph_of([(0, 0), (1, 0), (2, 1)], num_items=3, num_contexts=2)
    arguments = {"seeds": [3], "starts": [0, 2], "contexts": [0, 1], **changed}
    arrays = {name: np.array(values) for name, values in arguments.items()}
    with pytest.raises(ValueError, match=message):
        walk_new_items(graph.packed, num_neighbors=3, **arrays, **WALKS)


@pytest.mark.parametrize("side", ["item_chances", "context_chances"])
@pytest.mark.parametrize("bad", [0.0, -2.0, float("nan"), float("inf")])
def test_pack_refuses_chances_that_are_not_positive_and_finite(side, bad):
    graph = graph_of(EDGES, num_items=8, num_contexts=4)
    chances = np.ones(len(EDGES))
    chances[7] = bad
    with pytest.raises(ValueError, match=f"{side}: weights must be .* found {bad} at place 7"):
        _pack_with(graph, *((chances, None) if side == "item_chances" else (None, chances)))


def test_pack_refuses_chances_for_another_number_of_edges():
    graph = graph_of(EDGES, num_items=8, num_contexts=4)
    with pytest.raises(ValueError, match="item_chances: starts must run from 0 to the 9 edges"):
        _pack_with(graph, np.ones(9), None)


def test_packed_words_refuse_a_start_beyond_their_bits():
    with pytest.raises(ValueError, match="at most 1099511627775 edges; found 1099511627776"):
        packing.packed_words("item", np.linspace(0, 2**40, 2**17 + 1).astype(np.int64))

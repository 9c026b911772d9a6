import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pinsage.kernels import Scratch, layers_from_table, unique_ids
from tests import reference

NUM_ITEMS = 15

id_arrays = st.sampled_from([np.int32, np.int64]).flatmap(
    lambda dtype: hnp.arrays(dtype, st.integers(0, 40), elements=st.integers(0, NUM_ITEMS - 1))
)


def is_clean(scratch):
    return not (scratch.known.any() or scratch.met.any() or scratch.words_met.any())


@settings(deadline=None)
@given(ids=id_arrays)
def test_unique_ids_are_those_of_np_unique(ids):
    scratch = Scratch.of(NUM_ITEMS)
    unique, slots = unique_ids(ids, scratch)
    expected_unique, expected_slots = np.unique(ids, return_inverse=True)
    assert (unique.dtype, slots.dtype) == (np.int64, np.int32)
    np.testing.assert_array_equal(unique, expected_unique)
    np.testing.assert_array_equal(slots, expected_slots)
    assert is_clean(scratch)


@pytest.mark.parametrize("num_items", [1, 63, 64, 65, 4_095, 4_096, 4_097, 20_000])
def test_ids_at_the_ends_of_words_and_of_words_of_words_are_found(num_items):
    scratch = Scratch.of(num_items)
    ids = np.unique(np.clip([0, 1, 62, 63, 64, 65, 4_095, 4_096, num_items - 1], 0, num_items - 1))
    for _ in range(2):
        unique, slots = unique_ids(ids[::-1], scratch)
        np.testing.assert_array_equal(unique, ids)
        np.testing.assert_array_equal(slots, np.arange(len(ids))[::-1])
        assert is_clean(scratch)


@st.composite
def tables(draw):
    shape = (NUM_ITEMS, draw(st.integers(0, 4)))
    dtype = draw(st.sampled_from([np.int32, np.int64]))
    ids = draw(hnp.arrays(dtype, shape, elements=st.integers(-1, NUM_ITEMS - 1)))
    weights = np.arange(ids.size, dtype=np.float32).reshape(shape)
    return ids, weights


@settings(deadline=None)
@given(
    ids=hnp.arrays(np.int64, st.integers(0, 15), elements=st.integers(0, 14), unique=True),
    table=tables(),
    num_layers=st.integers(0, 3),
)
def test_layers_from_a_table_equal_looking_each_neighbor_up(ids, table, num_layers):
    scratch = Scratch.of(NUM_ITEMS)
    layers, all_ids = layers_from_table(ids, *table, num_layers=num_layers, scratch=scratch)
    expected_layers, expected_ids = reference.layers_from_table(ids, table[0], num_layers)
    np.testing.assert_array_equal(all_ids, expected_ids)
    assert len(layers) == num_layers
    for layer, (slots, num_sources) in zip(layers, expected_layers, strict=True):
        assert layer.num_sources == num_sources
        assert layer.neighbors.dtype == np.int32
        np.testing.assert_array_equal(layer.neighbors, slots)
        np.testing.assert_array_equal(layer.weights, table[1][all_ids[: len(slots)]])
    assert is_clean(scratch)


@pytest.mark.parametrize("num_items", [300, 4_095, 4_096, 20_000])
@pytest.mark.parametrize("num_seeds", [3, 60])
def test_many_neighbors_and_few_give_the_same_layers_as_looking_each_up(num_items, num_seeds):
    # Sixty rows are more than are asked for ahead; three of them have fewer neighbors than there
    # are words of bits for 4,096 items.
    rng = np.random.default_rng(4)
    table = rng.integers(-1, num_items, (num_items, 17)).astype(np.int32)
    weights = rng.random(table.shape).astype(np.float32)
    scratch = Scratch.of(num_items)
    # What one call leaves in the scratch must mean nothing to the next.
    for seeds in np.split(rng.permutation(num_items)[: 3 * num_seeds], 3):
        layers, ids = layers_from_table(seeds, table, weights, num_layers=2, scratch=scratch)
        expected, expected_ids = reference.layers_from_table(seeds, table, 2)
        np.testing.assert_array_equal(ids, expected_ids)
        for layer, (slots, _) in zip(layers, expected, strict=True):
            np.testing.assert_array_equal(layer.neighbors, slots)
            np.testing.assert_array_equal(layer.weights, weights[ids[: len(slots)]])
        assert is_clean(scratch)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 15], r"ids must lie in 0\.\.14; found 15 at place 1"),
        ([-1], r"ids must lie in 0\.\.14; found -1 at place 0"),
        ([0.5], "ids must be a one-dimensional integer array"),
    ],
)
def test_unique_ids_refuses(ids, message):
    with pytest.raises(ValueError, match=message):
        unique_ids(np.array(ids), Scratch.of(NUM_ITEMS))


def test_more_items_than_32_bits_can_name_are_refused():
    with pytest.raises(ValueError, match=r"at most 4,294,967,295 items; found 4,294,967,296"):
        Scratch.of(2**32)


TABLE = (np.full((NUM_ITEMS, 1), 3, np.int32), np.ones((NUM_ITEMS, 1), np.float32))


@pytest.mark.parametrize(
    ("seeds", "table", "message"),
    [
        ([1, 15], TABLE, r"seeds must lie in 0\.\.14; found 15 at place 1"),
        ([1, 2, 1], TABLE, "seeds must not repeat an id"),
        ([1], (TABLE[0][1:], TABLE[1][1:]), r"each of the 15 items.*ids of shape \(14, 1\)"),
        ([1], (TABLE[0], TABLE[1].T), r"weights of shape \(1, 15\)"),
        ([1], (TABLE[0], TABLE[1].astype(float)), "found int32 and float64"),
        ([1], (TABLE[0].astype(np.uint8), TABLE[1]), "int32 or int64 ids.*found uint8 and float32"),
        ([1], tuple(np.tile(part, 2)[:, ::2] for part in TABLE), "row after row in memory"),
    ],
)
def test_layers_from_table_refuses_and_leaves_the_scratch_clean(seeds, table, message):
    scratch = Scratch.of(NUM_ITEMS)
    with pytest.raises(ValueError, match=message):
        layers_from_table(np.array(seeds), *table, num_layers=1, scratch=scratch)
    assert is_clean(scratch)


@pytest.mark.parametrize("bad", [-2, NUM_ITEMS, -(2**31), 2**31 - 1])
def test_a_neighbor_that_is_no_item_is_named_and_never_looked_up(bad):
    scratch = Scratch.of(NUM_ITEMS)
    ids = TABLE[0].copy()
    ids[3] = bad
    message = rf"must lie in -1\.\.14; found {bad} among those of item 3"
    with pytest.raises(ValueError, match=message):
        layers_from_table(np.array([7]), ids, TABLE[1], num_layers=2, scratch=scratch)
    assert is_clean(scratch)

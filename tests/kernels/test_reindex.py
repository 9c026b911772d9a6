import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pinsage.kernels import extend_with_neighbors, unique_in_order
from tests import reference

NUM_ITEMS = 15

id_arrays = st.sampled_from([np.int32, np.int64]).flatmap(
    lambda dtype: hnp.arrays(dtype, st.integers(0, 40), elements=st.integers(0, NUM_ITEMS - 1))
)


def clean_scratch():
    return np.full(NUM_ITEMS, -1, np.int32)


@settings(deadline=None)
@given(ids=id_arrays)
def test_unique_in_order_equals_np_unique_in_order_of_sight(ids):
    scratch = clean_scratch()
    unique, slots = unique_in_order(ids, scratch)
    expected_unique, expected_slots = reference.unique_in_order(ids)
    assert unique.dtype == ids.dtype
    assert slots.dtype == np.int32
    np.testing.assert_array_equal(unique, expected_unique)
    np.testing.assert_array_equal(slots, expected_slots)
    assert (scratch == -1).all()


@settings(deadline=None)
@given(data=st.data(), ids=id_arrays, width=st.integers(0, 4))
def test_extend_with_neighbors_equals_looking_each_one_up(data, ids, width):
    scratch = clean_scratch()
    unique, _ = unique_in_order(ids, scratch)
    neighbor_ids = data.draw(
        hnp.arrays(np.int32, (unique.size, width), elements=st.integers(-1, NUM_ITEMS - 1))
    )
    all_ids, slots = extend_with_neighbors(unique, neighbor_ids, scratch)
    expected_ids, expected_slots = reference.extend_with_neighbors(unique, neighbor_ids)
    assert all_ids.dtype == unique.dtype
    assert slots.dtype == np.int32
    np.testing.assert_array_equal(all_ids, expected_ids)
    np.testing.assert_array_equal(slots, expected_slots)
    assert (scratch == -1).all()


def test_a_missing_neighbor_gets_slot_zero():
    neighbor_ids = np.array([[4, -1], [-1, -1]], np.int32)
    all_ids, slots = extend_with_neighbors(np.array([9, 2]), neighbor_ids, clean_scratch())
    assert all_ids.tolist() == [9, 2, 4]
    assert slots.tolist() == [[2, 0], [0, 0]]


def test_neighbors_in_column_order_of_memory_read_the_same():
    neighbor_ids = np.asfortranarray(np.array([[4, 5], [6, 4]], np.int32))
    all_ids, slots = extend_with_neighbors(np.array([0, 1]), neighbor_ids, clean_scratch())
    assert all_ids.tolist() == [0, 1, 4, 5, 6]
    assert slots.tolist() == [[2, 3], [4, 2]]


@pytest.mark.parametrize(
    ("ids", "scratch", "message"),
    [
        ([0, 15], clean_scratch(), r"ids must lie in 0\.\.14; found 15 at place 1"),
        ([-1], clean_scratch(), r"ids must lie in 0\.\.14; found -1 at place 0"),
        ([0.5], clean_scratch(), "ids must be a one-dimensional integer array"),
        ([0], clean_scratch().astype(np.int64), "scratch must be .* int32 array; .* int64"),
        ([3, 4], np.zeros(15, np.int32), "scratch must be filled with -1"),
    ],
)
def test_unique_in_order_refuses(ids, scratch, message):
    with pytest.raises(ValueError, match=message):
        unique_in_order(np.array(ids), scratch)


@pytest.mark.parametrize(
    ("unique", "neighbor_ids", "message"),
    [
        ([1, 15], [[0], [0]], r"unique must lie in 0\.\.14; found 15 at place 1"),
        ([1, 2], [[0], [15]], r"neighbor_ids must lie in -1\.\.14; found 15 at place 1"),
        ([1, 2], [[0], [-2]], r"neighbor_ids must lie in -1\.\.14; found -2 at place 1"),
        ([1, 2], [[0]], r"one row for each of the 2 ids; found shape \(1, 1\)"),
        ([1, 2, 1], [[0], [0], [0]], "unique must not repeat an id"),
    ],
)
def test_extend_with_neighbors_refuses_and_leaves_scratch_clean(unique, neighbor_ids, message):
    scratch = clean_scratch()
    with pytest.raises(ValueError, match=message):
        extend_with_neighbors(np.array(unique), np.array(neighbor_ids, np.int32), scratch)
    assert (scratch == -1).all()

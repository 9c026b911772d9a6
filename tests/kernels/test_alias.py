import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsage.kernels.alias import alias_tables, faded_weights

weights_of_a_row = st.lists(
    st.floats(1e-30, 1e30) | st.sampled_from([1.0, 2.0, 1e-300, 1e300]), max_size=40
)


@settings(deadline=None)
@given(rows=st.lists(weights_of_a_row, max_size=5))
def test_tables_give_every_choice_its_share(rows):
    starts = np.cumsum([0, *map(len, rows)])
    thresholds, others = alias_tables(
        starts, np.array([weight for row in rows for weight in row], np.float64)
    )
    for row, weights in enumerate(rows):
        own = thresholds[starts[row] : starts[row + 1]] / 2**32
        found = np.zeros(len(weights))
        for slot, other in enumerate(others[starts[row] : starts[row + 1]]):
            found[slot] += own[slot] / len(weights)
            found[other] += (1 - own[slot]) / len(weights)
        expected = np.array(weights) / max(sum(weights), 1e-300)
        # A slot is exact to 2**-32 of itself; float64 adds its rounding.
        np.testing.assert_allclose(found, expected, atol=2**-31, rtol=0)


def test_equal_weights_never_take_the_other_choice():
    thresholds, others = alias_tables(np.array([0, 3, 3, 5]), np.full(5, 0.1))
    assert (thresholds == 2**32 - 1).all()
    assert others.tolist() == [0, 1, 2, 0, 1]


def test_a_rows_tables_depend_on_that_row_alone():
    weights = np.random.default_rng(0).random(12) + 0.1
    whole = alias_tables(np.array([0, 5, 12]), weights)
    for start, stop in ((0, 5), (5, 12)):
        part = alias_tables(np.array([0, stop - start]), weights[start:stop])
        np.testing.assert_array_equal(part[0], whole[0][start:stop])
        np.testing.assert_array_equal(part[1], whole[1][start:stop])


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_alias_tables_refuse_a_weight_that_is_not_positive_and_finite(bad):
    with pytest.raises(ValueError, match=rf"positive, finite numbers; found {bad} at place 2"):
        alias_tables(np.array([0, 4]), np.array([1.0, 2.0, bad, 1.0]))


def test_weights_halve_with_every_half_life():
    weights = np.array([3, 3, 1], np.float32)
    ages = np.array([0, 30, 20], np.float32)
    faded = faded_weights(np.array([0, 3]), weights, ages, 10.0)
    np.testing.assert_allclose(faded, [3, 3 / 8, 1 / 4])


def test_a_row_of_old_edges_alone_keeps_its_ratios():
    ages = np.array([1e6, 1e6 + 1], np.float32)
    faded = faded_weights(np.array([0, 2]), None, ages, 1.0)
    np.testing.assert_allclose(faded, [1.0, 0.5])


def test_an_edge_too_faint_for_a_float_keeps_a_weight():
    faded = faded_weights(np.array([0, 2]), None, np.array([0, 1e9], np.float32), 1.0)
    assert faded.tolist() == [1.0, 2.0**-1022]
    alias_tables(np.array([0, 2]), faded)


@pytest.mark.parametrize(
    ("ages", "half_life", "message"),
    [
        ([0.0, -1.0], 1.0, "ages must be finite and not negative; found -1.0 at place 1"),
        ([0.0, float("nan")], 1.0, "found nan at place 1"),
        ([float("inf"), 0.0], 1.0, "found inf at place 0"),
        ([0.0, 1.0], 0.0, "half_life must be a positive number; found 0.0"),
        ([0.0, 1.0], float("nan"), "half_life must be a positive number; found nan"),
    ],
)
def test_faded_weights_refuse(ages, half_life, message):
    with pytest.raises(ValueError, match=message):
        faded_weights(np.array([0, 2]), None, np.array(ages, np.float32), half_life)

import numpy as np
import pytest

from pinsage.evaluation.similarity import excess_kurtosis, similarity_distribution


def test_excess_kurtosis_of_a_normal_sample_is_near_zero_and_of_a_flat_one_below():
    rng = np.random.default_rng(0)
    assert excess_kurtosis(rng.normal(size=200_000)) == pytest.approx(0, abs=0.05)
    assert excess_kurtosis(rng.random(200_000)) == pytest.approx(-1.2, abs=0.02)


def test_cosines_are_those_of_pairs_of_different_items():
    vectors = np.array([[2, 0], [0, 5]], np.float32)
    found = similarity_distribution(vectors, np.random.default_rng(0), num_pairs=100)
    # Either item with itself would be a cosine of 1.
    assert (found["mean"], found["standard_deviation"]) == (0.0, 0.0)
    assert found["kurtosis"] is None


def test_the_density_integrates_to_one_over_all_cosines():
    vectors = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    found = similarity_distribution(vectors, np.random.default_rng(0), num_pairs=5_000)
    assert np.sum(found["density"] * np.diff(found["edges"])) == pytest.approx(1, abs=1e-3)
    assert (found["edges"][0], found["edges"][-1]) == (-1.0, 1.0)


def test_items_without_direction_are_left_out_and_counted():
    vectors = np.array([[1, 0], [0, 0], [1, 0]], np.float32)
    found = similarity_distribution(vectors, np.random.default_rng(0), num_pairs=50)
    assert found["items_left_out"] == 1
    assert found["mean"] == pytest.approx(1)
    assert similarity_distribution(vectors[:2], np.random.default_rng(0)) is None

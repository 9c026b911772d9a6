from collections.abc import Mapping

import numpy as np
import pytest
import torch

from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.training.scaling import ScaleBy, feature_scale
from tests.worlds import Features


def scale_of(
    rows: np.ndarray, groups: Mapping[str, slice], by: ScaleBy
) -> tuple[np.ndarray, np.ndarray]:
    return feature_scale(Features(rows), np.arange(len(rows)), groups, by)


class Noted(Features):
    """Rows that note how many of them are asked for at a time."""

    most = 0

    def gather(self, item_ids: np.ndarray) -> np.ndarray:
        Noted.most = max(Noted.most, len(item_ids))
        return super().gather(item_ids)


def test_many_rows_are_read_a_few_at_a_time_to_the_same_end() -> None:
    rows = np.random.default_rng(0).normal(5.0, 3.0, size=(20_000, 4)).astype(np.float32)
    chosen = np.arange(0, 20_000, 2)
    mean, deviation = feature_scale(Noted(rows), chosen, {"all": slice(0, 4)}, "columns")
    np.testing.assert_allclose(mean, rows[chosen].mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(deviation, rows[chosen].std(axis=0, dtype=np.float64), rtol=1e-12)
    assert Noted.most < len(chosen) / 2


def test_columns_are_divided_by_their_own_deviations_or_by_their_group_s() -> None:
    rows = np.array([[0.0, 5.0], [6.0, 7.0]])
    groups = {"text": slice(0, 2)}
    mean, deviation = scale_of(rows, groups, "columns")
    assert (mean.tolist(), deviation.tolist()) == ([3.0, 6.0], [3.0, 1.0])
    np.testing.assert_allclose(scale_of(rows, groups, "groups")[1], np.sqrt([5.0, 5.0]))


def test_groups_keep_their_inner_proportions_and_columns_do_not():
    rows = np.random.default_rng(0).normal(size=(500, 4)) * [8.0, 2.0, 0.5, 30.0]
    groups = {"structure": slice(0, 3), "log_degree": slice(3, 4)}
    mean, by_group = scale_of(rows, groups, "groups")
    scaled = ((rows - mean) / by_group).std(axis=0)
    deviations = rows.std(axis=0)
    np.testing.assert_allclose(scaled[:3] / scaled[0], deviations[:3] / deviations[0])
    np.testing.assert_allclose(np.square(scaled[:3]).mean(), 1.0)
    np.testing.assert_allclose(scaled[3], 1.0)
    _, by_column = scale_of(rows, groups, "columns")
    np.testing.assert_allclose(by_column, deviations)


@pytest.mark.parametrize("by", ["columns", "groups"])
@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-9])
def test_what_is_small_beside_its_group_is_constant_and_what_is_small_by_itself_is_not(by, size):
    rows = np.random.default_rng(1).normal(size=(500, 3)) * size
    rows[:, 1] = 0.1 * size + np.linspace(0, 1e-15, 500) * size
    mean, deviation = scale_of(rows, {"all": slice(0, 3)}, by)
    model = PinSage(ModelConfig(num_layers=0, embedding_width=4), feature_width=3)
    model.set_feature_scale(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())
    scaled = model.scale_features(torch.from_numpy(rows).float())
    assert scaled[:, [0, 2]].std() > 0.9
    assert scaled[:, 1].abs().max() < 1e-3


@pytest.mark.parametrize("by", ["columns", "groups"])
def test_a_constant_column_is_silent_and_counts_for_nothing_in_its_group(by):
    rows = np.array([[0.0, 5.0], [6.0, 5.0]])
    assert scale_of(rows, {"text": slice(0, 2)}, by)[1].tolist() == [3.0, 0.0]

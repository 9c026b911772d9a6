import numpy as np
import pytest
import torch

from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.training.scaling import feature_scale


def test_groups_keep_their_inner_proportions_and_columns_do_not():
    rows = np.random.default_rng(0).normal(size=(500, 4)) * [8.0, 2.0, 0.5, 30.0]
    groups = {"structure": slice(0, 3), "log_degree": slice(3, 4)}
    mean, by_group = feature_scale(rows, groups, "groups")
    scaled = ((rows - mean) / by_group).std(axis=0)
    deviations = rows.std(axis=0)
    np.testing.assert_allclose(scaled[:3] / scaled[0], deviations[:3] / deviations[0])
    np.testing.assert_allclose(np.square(scaled[:3]).mean(), 1.0)
    np.testing.assert_allclose(scaled[3], 1.0)
    _, by_column = feature_scale(rows, groups, "columns")
    np.testing.assert_allclose(by_column, deviations)


@pytest.mark.parametrize("by", ["columns", "groups"])
@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-9])
def test_what_is_small_beside_its_group_is_constant_and_what_is_small_by_itself_is_not(by, size):
    rows = np.random.default_rng(1).normal(size=(500, 3)) * size
    rows[:, 1] = 0.1 * size + np.linspace(0, 1e-15, 500) * size
    mean, deviation = feature_scale(rows, {"all": slice(0, 3)}, by)
    model = PinSage(ModelConfig(num_layers=0, embedding_width=4), feature_width=3)
    model.set_feature_scale(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())
    scaled = model.scale_features(torch.from_numpy(rows).float())
    assert scaled[:, [0, 2]].std() > 0.9
    assert scaled[:, 1].abs().max() < 1e-3

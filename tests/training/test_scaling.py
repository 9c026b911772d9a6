import numpy as np

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

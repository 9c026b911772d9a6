import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinsage.base.errors import ConfigError
from pinsage.cluster.search import search
from pinsage.cluster.trials import Between, SearchConfig, draw_trials
from tests.runs import smoke_run


@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 20))
def test_more_trials_of_one_seed_begin_with_the_same_ones(seed, fewer, more):
    first = draw_trials(SearchConfig(seed=seed, num_trials=fewer))
    longer = draw_trials(SearchConfig(seed=seed, num_trials=fewer + more))
    assert longer[: len(first)] == first


@given(st.integers(0, 2**32), st.floats(1e-6, 1.0), st.floats(1.01, 1e6), st.booleans())
def test_a_number_lies_between_its_bounds(seed, low, ratio, log):
    space = {"x": Between(low=low, high=low * ratio, log=log)}
    _, trial = draw_trials(SearchConfig(seed=seed, space=space, num_trials=1))
    assert low <= trial["x"] <= low * ratio


def test_a_setting_that_does_not_exist_is_named_before_anything_is_trained(tmp_path):
    run = smoke_run(tmp_path, "search.space={model.depth: [1, 2]}")
    with pytest.raises(ConfigError, match=r"search.space.*model.depth"):
        search(run)
    assert list(tmp_path.iterdir()) == []

import logging
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinsage.base.artifacts import sole_writer
from pinsage.base.errors import ArtifactError, ConfigError
from pinsage.cluster.run import Run
from pinsage.cluster.search import Lines, Tried, look_at_model, search, told
from pinsage.cluster.trials import Between, SearchConfig, draw_trials
from pinsage.training import TrainConfig, TrainingState
from pinsage.training.state import Validation
from pinsage.training.validation import ValidationConfig
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
    run = smoke_run(tmp_path, "search.space={train.schedule.epoch: [1, 2]}")
    with pytest.raises(ConfigError, match=r"search.space(.|\n)*no such setting; .*epochs"):
        search(run)
    assert list(tmp_path.iterdir()) == []


def test_every_graph_that_a_trial_asks_for_is_made_before_the_first_one_trains(
    tmp_path, monkeypatch
):
    space = "graph.structure.width: [4], subgraph.contexts: [0.5]"
    run = smoke_run(
        tmp_path,
        "graph.structure={width: 8}",
        "subgraph={contexts: 0.75}",
        f"search={{space: {{{space}}}, num_trials: 1}}",
    )
    made = []

    def fit(run, configs, trials):
        graphs = [stage for own in map(Run, configs) for stage in (own.graph, own.training_graph)]
        made.extend(graph.directory for graph in graphs if graph.is_done)
        return [Tried(trial, 0.5, 1, "model/0") for trial in trials]

    monkeypatch.setattr("pinsage.cluster.search.session", lambda ray: nullcontext())
    monkeypatch.setattr("pinsage.cluster.drivers.walk", lambda run: None)
    monkeypatch.setattr("pinsage.cluster.search._fit", fit)
    search(run)
    assert len(set(made)) == 4


def test_two_searches_of_one_output_do_not_run_at_a_time(tmp_path, monkeypatch):
    run = smoke_run(tmp_path, "search.num_trials=1")
    monkeypatch.setattr("pinsage.cluster.search.session", lambda ray: nullcontext())
    for job in ("ingest", "walk"):
        monkeypatch.setattr(f"pinsage.cluster.drivers.{job}", lambda run: None)
    monkeypatch.setattr(
        "pinsage.cluster.search._fit", lambda *_: pytest.fail("two share Ray Tune's folder")
    )
    with (
        sole_writer(tmp_path / "search"),
        pytest.raises(ArtifactError, match="search: another process is writing it"),
    ):
        search(run)


def test_a_trial_whose_process_never_came_up_is_told_of_with_its_own_settings():
    result = SimpleNamespace(metrics=None, config=None, error=RuntimeError("no such node"))
    assert told([{}, {"a": 1}], 1, result) == Tried({"a": 1}, error="no such node")


def test_lines_count_trials_that_ray_tune_has_given_up_too(caplog):
    caplog.set_level(logging.INFO)
    lines = Lines([{}, {"a": 1}])
    for number, result in ((1, None), (0, {"hit_rate": 0.25})):
        trial = SimpleNamespace(config={"number": number}, last_result=result)
        tell = lines.on_trial_error if result is None else lines.on_trial_complete
        tell(iteration=0, trials=[], trial=trial)
    assert caplog.messages == [
        "search  1 of 2  failed  a=1",
        "search  2 of 2  hit-rate 0.2500  the recipe as it is",
    ]


@pytest.mark.parametrize(("patience", "step"), [(None, 30), (9, 20)])
def test_a_trial_is_judged_by_the_weights_that_its_model_has(patience, step):
    looks = [Validation(10, 0.1), Validation(20, 0.4), Validation(30, 0.3)]
    state = TrainingState(step=30, losses=[], validations=looks)
    config = TrainConfig(validation=ValidationConfig(patience=patience))
    look = look_at_model(state, config)
    assert look is not None
    assert look.step == step
    assert look_at_model(TrainingState(step=30, losses=[]), config) is None


def test_a_recipe_with_a_published_model_leaves_nothing_to_search(tmp_path):
    run = smoke_run(tmp_path, "embed.model=0123456789ab")
    with pytest.raises(ConfigError, match=r"embed\.model is 0123456789ab.*leave it out"):
        search(run)
    assert list(tmp_path.iterdir()) == []


def test_no_two_trials_train_one_model_and_what_they_share_is_walked_once_before_them(
    tmp_path, monkeypatch
):
    # The recipe trains for 8 epochs with 50 walks an item.
    space = "train.schedule.epochs: [8, 4], walk.num_walks: [50, 20]"
    run = smoke_run(tmp_path, f"search={{space: {{{space}}}, num_trials: 40}}")
    walked, models = [], []

    def fit(run, configs, trials):
        models.extend(Run(config).model.directory for config in configs)
        assert sorted(walked) == sorted({Run(c).neighborhoods.directory for c in configs})
        return [Tried(trial, 0.5, 1, "model/0") for trial in trials]

    monkeypatch.setattr("pinsage.cluster.search.session", lambda ray: nullcontext())
    monkeypatch.setattr("pinsage.cluster.drivers.ingest", lambda run: None)
    monkeypatch.setattr(
        "pinsage.cluster.drivers.walk", lambda run: walked.append(run.neighborhoods.directory)
    )
    monkeypatch.setattr("pinsage.cluster.search._fit", fit)
    assert len(search(run).trials) == 4
    assert len(models) == len(set(models)) == 4
    assert len(walked) == 2

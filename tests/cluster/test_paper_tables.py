"""What the trials of a reproduction are, without running any."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pinsage.base.config import load_config
from pinsage.base.errors import ConfigError
from pinsage.cluster.paper_tables import (
    METHODS,
    ReproduceConfig,
    by_model,
    ladder_trials,
    minibatch_trials,
    neighbor_trials,
    variant,
)
from pinsage.cluster.run_config import RunConfig
from tests.runs import SMOKE


@pytest.fixture
def config(tmp_path: Path) -> ReproduceConfig:
    run = load_config(RunConfig, SMOKE, [f"output={tmp_path}", "walk.num_neighbors=20"])
    return ReproduceConfig(
        run=run, seeds=(0, 1), num_neighbors=(10, 20), minibatch_sizes=(128, 256)
    )


def test_every_method_and_seed_is_one_model_on_one_graph_and_one_table(config) -> None:
    trials = ladder_trials(config, ["content"])
    assert [trial.method for trial in trials] == ["content", *METHODS, *METHODS]
    trained = trials[1:]
    for stage in ("graph", "neighborhoods"):
        assert len({getattr(trial.run, stage).directory for trial in trained}) == 1
    assert len({trial.run.model.directory for trial in trained}) == 12
    assert len({trial.stage.directory for trial in trials}) == 13


def test_trials_embed_with_the_threads_that_are_theirs_into_the_same_directories(config) -> None:
    wide = config.model_copy(update={"cpus_per_trial": 2.5})
    for trials in (ladder_trials, neighbor_trials, minibatch_trials):
        more = [wide, []] if trials is ladder_trials else [wide]
        one = [config, []] if trials is ladder_trials else [config]
        assert {trial.run.config.embed.threads_per_worker for trial in trials(*more)} == {2}
        assert [t.stage.directory for t in trials(*more)] == [
            t.stage.directory for t in trials(*one)
        ]


def test_steps_of_the_ladder_differ_in_what_their_names_say(config) -> None:
    runs = {trial.method: trial.run.config for trial in ladder_trials(config, [])}
    assert runs["combined"].model.num_layers == 0
    assert [runs[name].model.pooling for name in METHODS[1:]] == [
        "max",
        "mean",
        "mean",
        "mean",
        "importance",
    ]
    assert [runs[name].train.minibatch.max_hard_negatives for name in METHODS] == [0, 0, 0, 0, 2, 2]
    assert [name for name in METHODS if runs[name].train.loss.kind == "cross_entropy"] == [
        "mean-pooling-xent"
    ]


def test_the_recipe_s_own_neighbors_are_the_trial_of_table_one(config) -> None:
    ours = {t.stage.directory for t in ladder_trials(config, []) if t.method == "pinsage"}
    by_size = {
        size: {t.stage.directory for t in neighbor_trials(config) if t.method == f"T = {size}"}
        for size in (10, 20)
    }
    assert by_size[20] == ours
    assert not by_size[10] & ours


def test_trials_that_differ_in_how_one_model_embeds_are_run_one_after_the_other(config) -> None:
    # Trained with 10 neighbors and embedded with 20: T = 10 is the same model, embedded with 10.
    tree = config.run.model_dump(mode="json")
    tree["train"]["minibatch"]["num_neighbors"] = 10
    mixed = config.model_copy(update={"run": RunConfig.model_validate(tree), "seeds": (0,)})
    trials = [*ladder_trials(mixed, ["content"]), *neighbor_trials(mixed)]
    together = [[trial.method for trial in some] for some in by_model(trials)]
    assert ["pinsage", "T = 10"] in together
    assert ["content"] in together
    assert sum(map(len, together)) == len(trials)
    assert len({trial.stage.directory for trial in trials}) == len(trials)


def test_minibatch_sizes_share_all_but_the_model(config) -> None:
    runs = [trial.run for trial in minibatch_trials(config)]
    assert [run.config.train.minibatch.size for run in runs] == [128, 256]
    assert runs[0].neighborhoods.directory == runs[1].neighborhoods.directory
    assert all(run.config.train.validation is not None for run in runs)


def test_seeds_and_sizes_count_once_and_sizes_ascend(config) -> None:
    given = {"run": config.run, "seeds": (3, 0, 3), "num_neighbors": (20, 10, 20)}
    found = ReproduceConfig(**given, minibatch_sizes=(256, 64))
    assert found.seeds == (3, 0)
    assert found.num_neighbors == (10, 20)
    assert found.minibatch_sizes == (64, 256)


@pytest.mark.parametrize("name", ["model", "previous"])
def test_a_published_model_is_no_method_of_its_own(config, name) -> None:
    tree = config.run.model_dump(mode="json")
    tree["embed"][name] = "0123456789ab"
    with pytest.raises(ValidationError, match=r"embed\.model and embed\.previous.*leave them out"):
        ReproduceConfig(run=RunConfig.model_validate(tree))


def test_combined_is_not_trained_on_features_made_from_the_graph(config) -> None:
    tree = config.run.model_dump(mode="json")
    tree["graph"]["structure"] = {"width": 8}
    run = RunConfig.model_validate(tree)
    with pytest.raises(ValidationError, match=r"leave out run\.graph\.structure, or combined"):
        ReproduceConfig(run=run)
    assert ReproduceConfig(run=run, methods=("mean-pooling", "pinsage")).run == run


def test_nothing_to_compare_is_refused(config) -> None:
    none = config.model_copy(update={"methods": ()})
    with pytest.raises(ConfigError, match="methods is empty"):
        ladder_trials(none, [])


def test_fewer_methods_are_fewer_trials(config) -> None:
    some = config.model_copy(update={"methods": ("pinsage",), "seeds": (0,)})
    assert [trial.method for trial in ladder_trials(some, [])] == ["pinsage"]


def test_a_variant_that_does_not_fit_the_recipe_says_which(config) -> None:
    with pytest.raises(ConfigError, match=r"train.minibatch.num_neighbors=30 does not fit"):
        variant(config.run, ["train.minibatch.num_neighbors=30"], seed=0)

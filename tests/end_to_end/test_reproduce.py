import json
import shutil
from pathlib import Path

import pytest

from pinsage.base.config import load_config
from pinsage.cluster import reproduce as driver
from pinsage.cluster.paper_tables import ReproduceConfig, ladder_trials
from pinsage.cluster.reproduce import reproduce, run_trials
from pinsage.cluster.run_config import RunConfig
from tests.runs import ROOT, SMOKE

pytestmark = pytest.mark.ray

RECIPES = sorted((ROOT / "ray_jobs" / "recipes" / "reproduce").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_a_reproduction_loads(recipe: Path) -> None:
    assert load_config(ReproduceConfig, recipe).seeds == (0, 1, 2, 3, 4)


def test_tables_come_out_whole_and_a_rerun_repeats_nothing(
    copy_of_graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [f"output={copy_of_graph}", "train.schedule.epochs=1", "evaluate.ks=[10]"]
    config = ReproduceConfig(
        run=load_config(RunConfig, SMOKE, settings),
        seeds=(0,),
        methods=("pinsage",),
        num_neighbors=(10,),
        minibatch_sizes=(512,),
        minibatch_epochs=1,
    )
    directory = reproduce(config)
    found = json.loads((directory / "reproduce.json").read_text())
    assert set(found["table1"]["metrics"]) == {"content", "pinsage"}
    # The smoke recipe has T = 10, so table 4 is PinSage itself.
    assert found["table4"]["metrics"]["T = 10"] == found["table1"]["metrics"]["pinsage"]
    assert found["table3"]["512"]["steps"] == 4
    assert "| pinsage | 0." in (directory / "reproduce.md").read_text()
    assert "<svg" in (directory / "reproduce.html").read_text()

    def refuse(trials: object, config: object) -> None:
        raise AssertionError(f"{trials} were done already")

    monkeypatch.setattr(driver, "_run_all", refuse)
    assert reproduce(config) == directory


def test_the_pace_is_of_all_steps_and_without_the_log_still_has_what_validation_found(
    copy_of_graph: Path,
) -> None:
    # So long a step ruins the model, so that the best weights are those of an early look.
    settings = [
        f"output={copy_of_graph}",
        "train.schedule.epochs=2",
        "train.schedule.learning_rate=10",
        "train.validation={every_epochs: 0.5, patience: 3}",
    ]
    run = load_config(RunConfig, SMOKE, settings)
    trial = ladder_trials(ReproduceConfig(run=run, seeds=(0,), methods=("pinsage",)), [])[0]
    run_trials([trial], 1)
    logged = trial.stage.manifest().counts["pace"]
    assert logged["steps"] > trial.run.model.manifest().counts["steps"]
    assert logged["steps"] == logged["validations"][-1][0]
    assert logged["step_s"] > 0

    trial.log.unlink()
    shutil.rmtree(trial.stage.directory)
    run_trials([trial], 1)
    assert trial.stage.manifest().counts["pace"] == logged | {"step_s": None}

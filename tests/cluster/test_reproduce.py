from pathlib import Path

import pytest

from pinsage.base.artifacts import sole_writer
from pinsage.base.config import load_config
from pinsage.base.errors import ArtifactError
from pinsage.cluster.paper_tables import ReproduceConfig, ladder_trials
from pinsage.cluster.reproduce import run_trials
from pinsage.cluster.run_config import RunConfig
from tests.runs import SMOKE


def test_a_trial_does_not_train_a_model_that_another_process_is_training(tmp_path: Path) -> None:
    run = load_config(RunConfig, SMOKE, [f"output={tmp_path}"])
    trial = ladder_trials(ReproduceConfig(run=run, seeds=(0,), methods=("pinsage",)), [])[0]
    model = trial.run.model.directory
    with (
        sole_writer(model),
        pytest.raises(ArtifactError, match=rf"{model}: another process is writing it"),
    ):
        run_trials([trial], 1)
    assert not trial.run.checkpoints.exists()

from pathlib import Path

import pytest

from pinsage.base.artifacts import sole_writer
from pinsage.base.config import load_config
from pinsage.base.errors import ArtifactError, DataError
from pinsage.cluster import drivers
from pinsage.cluster.paper_tables import ReproduceConfig, ladder_trials
from pinsage.cluster.reproduce import check_reproduction, reproduce, run_trials, wants_gpu
from pinsage.cluster.run import Run
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


@pytest.fixture
def without_valid(tmp_path: Path) -> ReproduceConfig:
    """A recipe with a graph that has no valid pairs, and a baseline that is chosen by them."""
    settings = [
        f"output={tmp_path}",
        "data.pairs.split=null",
        "data.split.valid=0",
        "evaluate.baselines=[als]",
    ]
    run = load_config(RunConfig, SMOKE, settings)
    drivers.ingest(Run(run))
    return ReproduceConfig(run=run)


def test_table_three_without_valid_pairs_is_refused_before_anything_is_trained(
    without_valid: ReproduceConfig,
) -> None:
    with pytest.raises(DataError, match=r"split valid.*minibatch_sizes=\[\]"):
        reproduce(without_valid)
    assert not (without_valid.run.output / "neighborhoods").exists()


def test_without_table_three_neither_valid_pairs_nor_baselines_are_needed(
    without_valid: ReproduceConfig,
) -> None:
    check_reproduction(without_valid.model_copy(update={"minibatch_sizes": ()}))


@pytest.mark.parametrize(
    ("settings", "trained", "content"),
    [
        ([], True, False),
        (["train.device=cpu"], False, False),
        (["train.device=cpu", "evaluate.device=cuda"], True, True),
    ],
)
def test_a_trial_has_a_gpu_only_where_it_uses_one(
    tmp_path: Path, settings: list[str], *, trained: bool, content: bool
) -> None:
    run = load_config(RunConfig, SMOKE, [f"output={tmp_path}", *settings])
    of_content, of_model = ladder_trials(
        ReproduceConfig(run=run, seeds=(0,), methods=("pinsage",)), ["content"]
    )
    assert (wants_gpu(of_model), wants_gpu(of_content)) == (trained, content)

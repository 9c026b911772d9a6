"""A search through the real drivers, Ray Tune and Ray Train."""

import json
from pathlib import Path

import pytest

from pinsage.base.config import load_config
from pinsage.cluster import drivers
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig
from pinsage.cluster.search import search
from tests.end_to_end.conftest import Finished
from tests.runs import smoke_run

pytestmark = pytest.mark.ray


def test_a_search_ranks_its_trials_keeps_failed_ones_and_writes_the_best_as_a_recipe(
    copy_of_graph: Path, finished: Finished
) -> None:
    run = smoke_run(
        copy_of_graph,
        "train.schedule.epochs=1",
        # A rate that large ends in NaN; the search goes on.
        "search={num_trials: 9, space: {train.schedule.learning_rate: [1.0e+30, 0.003]}}",
    )
    result = search(run)

    rates = [trial.hit_rate for trial in result.trials]
    assert len(rates) == 3
    assert rates[2] is None
    assert "the loss is nan" in (result.trials[2].error or "")
    assert rates[0] >= rates[1]
    assert json.loads(result.table.read_text())[0]["hit_rate"] == rates[0]
    best = Run(load_config(RunConfig, result.best))
    assert drivers.train(best).was_published

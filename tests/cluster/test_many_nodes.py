"""A run on a cluster whose nodes are lost and come, beside the same run on one machine."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.runs import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.many_nodes", "--json", "--quick"),
            *("--scenes", "lost", "elastic"),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


@pytest.mark.parametrize("stage", ["ingest", "walk", "train", "embed"])
def test_a_stage_that_loses_a_node_publishes_the_bytes_of_one_machine(
    found: dict[str, Any], stage: str
) -> None:
    assert found["equal"]["lost"][stage]


def test_training_takes_a_node_that_comes_goes_on_without_one_that_is_lost_and_can_be_stopped(
    found: dict[str, Any],
) -> None:
    assert found["workers"] == [1, 2, 1]
    # Gradients of two halves round differently from those of a whole.
    assert found["loss_ratio"] == pytest.approx(1, abs=0.1)
    assert found["stopped_with"] == 130
    assert found["saved_when_stopped"]

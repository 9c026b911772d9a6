"""A cluster that loses nodes, and to which nodes come, beside one machine."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.runs import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.drill, pytest.mark.timeout(900)]


def play(*scenes: str) -> dict[str, Any]:
    """Play some scenes of the benchmark; gives its figures."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.many_nodes", "--json", "--quick", "--noticed-soon"),
            *("--scenes", *scenes),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=860,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def test_every_stage_that_loses_a_node_publishes_the_bytes_of_one_machine() -> None:
    stages = ("ingest", "walk", "train", "embed")
    assert play("lost")["equal"] == {"lost": dict.fromkeys(stages, True)}


def test_training_takes_a_node_that_comes_and_replicas_outlast_one_that_goes() -> None:
    figures = play("elastic", "serve")
    assert figures["workers"] == [1, 2, 1]
    assert figures["loss_ratio"] == pytest.approx(1.0, abs=0.01)
    assert figures["saved_when_stopped"]
    assert figures["replicas_on_nodes"] == [1, 1, 1]
    assert figures["requests"] > 0
    assert figures["failed"] == 0
    assert figures["back_s"] is not None

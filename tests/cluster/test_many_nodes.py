"""A run on a cluster whose nodes are lost and come, beside the same run on one machine."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.runs import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.many_nodes", "--json", "--quick", "--noticed-soon"),
            *("--scenes", "lost", "--stages", "walk", "train"),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


@pytest.mark.parametrize("stage", ["walk", "train"])
def test_a_stage_that_loses_a_node_publishes_the_bytes_of_one_machine(
    found: dict[str, Any], stage: str
) -> None:
    assert found["equal"]["lost"][stage]

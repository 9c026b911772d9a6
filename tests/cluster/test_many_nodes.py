"""A cluster that loses a node, beside one machine; the benchmark has the further stages."""

import json
import os
import subprocess
import sys

import pytest

from tests.runs import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_walk_that_loses_a_node_publishes_the_bytes_of_one_machine() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.many_nodes", "--json", "--quick", "--noticed-soon"),
            *("--scenes", "lost", "--stages", "walk"),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["equal"] == {"lost": {"walk": True}}

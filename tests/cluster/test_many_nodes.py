"""A cluster that loses a node, beside one machine; the benchmark has the further stages."""

import json
import os
import subprocess
import sys

import pytest

from tests.runs import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.drill, pytest.mark.timeout(600)]


def test_walks_and_training_that_lose_a_node_publish_the_bytes_of_one_machine() -> None:
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
    assert json.loads(done.stdout.splitlines()[-1])["equal"] == {
        "lost": {"walk": True, "train": True}
    }

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.graphs import NUM_ITEMS
from tests.runs import ROOT


@pytest.mark.ray
@pytest.mark.slow
def test_a_walk_that_loses_a_node_goes_on_elsewhere_and_makes_the_same_table(
    tmp_path: Path,
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.lose_a_node", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["alive_nodes"] == 2
    assert found["lost_walks"] > 0
    assert found["rows"] == NUM_ITEMS
    assert found["sharded"] == found["local"]

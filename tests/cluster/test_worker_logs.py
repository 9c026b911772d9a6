"""A run's JSON log goes on in the workers that Ray starts for it."""

import json
import subprocess
import sys

import pytest

from tests.runs import ROOT

SCRIPT = """
import logging
import ray
from pinsage.base.logs import LogConfig
from pinsage.cluster.run_config import RayConfig
from pinsage.cluster.session import session
from pinsage.cluster.worker_logs import set_up_logs

def said():
    (handler,) = logging.getLogger("pinsage").handlers
    return handler.format(logging.makeLogRecord({"name": "pinsage.a", "msg": "from a worker"}))

set_up_logs(LogConfig(format="json"))
with session(RayConfig(address="local", object_store_bytes=100 * 2**20)):
    print(ray.get(ray.remote(num_cpus=0)(said).remote(), timeout=60))
print(said())
"""


@pytest.mark.ray
def test_workers_write_json_with_the_id_of_their_run() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    worker, driver = map(json.loads, done.stdout.splitlines())
    assert worker["message"] == "from a worker"
    assert worker["run"] == driver["run"] != ""
    assert worker["process"] != driver["process"] or worker["node"] != driver["node"]

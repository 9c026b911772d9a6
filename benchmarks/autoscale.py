"""A training that needs more than there is: nodes come for it, and go when it is done.

Run: `python -m benchmarks.autoscale [--json] [--epochs N]`.

Ray's own autoscaler, as `ray up` starts it, over Ray's provider of made-up nodes: each is a Ray
node on this machine with one CPU. The head has none. `ray_jobs.train` is given to it with one to
two workers (`train.num_workers=[1, 2]`), waits for room (`train.start_timeout_s`), and trains on
what comes. A node that nothing runs on for `--idle-s` goes.

`first_node_s` and `second_node_s` are the times from the job's start until there was a node, and a
second one; `first_step_s` until ten steps were done; `workers` how many trained in turn; `gone_s`
is the time from the job's end until no node was left.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from benchmarks._jobs import Job, job, last_step
from benchmarks._timing import parser, report
from benchmarks.serve import free_port
from pinsage.base.config import load_config
from pinsage.cluster import drivers
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RayConfig, RunConfig
from pinsage.cluster.session import session

_RECIPE = Path(__file__).parents[1] / "ray_jobs" / "recipes" / "smoke.yaml"
_HEAD_ID = "f" * 51 + "00000"
"""How Ray's provider of made-up nodes knows the head."""

_HEAD_TYPE = "ray.head.default"
_STORE_BYTES = 100 * 2**20
_MOST_NODES = 2
_LOOK_S = 0.1
_PATIENCE_S = 240.0


def autoscaler_config(address: str, idle_s: float) -> dict[str, Any]:
    """Describe the cluster as a cluster.yaml would, after `ray up` has filled it in."""
    return {
        "cluster_name": "made-up",
        "max_workers": _MOST_NODES,
        "idle_timeout_minutes": idle_s / 60,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "external",
            "module": (
                "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
            ),
            "gcs_address": address,
            "head_node_id": _HEAD_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": _HEAD_TYPE,
        "available_node_types": {
            _HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1, "object_store_memory": _STORE_BYTES},
                "node_config": {},
                "min_workers": 0,
                "max_workers": _MOST_NODES,
            },
        },
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


@contextmanager
def head(folder: Path, idle_s: float) -> Iterator[str]:
    """Start a head without CPUs and its autoscaler; it and its nodes end with the block.

    Gives the address that drivers join.

    Args:
        folder: where Ray keeps its files; a short path.
        idle_s: how long a node may have nothing to do.
    """
    port = free_port()
    address = f"127.0.0.1:{port}"
    config = folder / "cluster.json"
    config.write_text(json.dumps(autoscaler_config(address, idle_s)), encoding="utf-8")
    made_up = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
        "RAY_NODE_TYPE_NAME": _HEAD_TYPE,
    }
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder / 'ray'}"),
        *("--num-cpus=0", f"--object-store-memory={_STORE_BYTES}", "--include-dashboard=false"),
        *(f"--autoscaling-config={config}", "--disable-usage-stats"),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with (folder / "start.log").open("w") as log:
        process = subprocess.Popen(command, env=environment | made_up, stdout=log, stderr=log)
    try:
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        _end_all_of(folder)


def _end_all_of(folder: Path) -> None:
    """End what made-up nodes leave behind: they are nobody's children once the head has gone."""
    for found in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = found.read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder) in command and found.parent.name != str(os.getpid()):
            os.kill(int(found.parent.name), signal.SIGKILL)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train where there is no room yet, and report."""
    flags = parser(__doc__)
    flags.add_argument("--epochs", type=int, default=100, help="of 9 steps each")
    flags.add_argument("--idle-s", type=float, default=20.0)
    options = flags.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="grow", dir="/tmp") as folder:
        run = _prepared(Path(folder) / "run", options.epochs)
        with head(Path(folder), options.idle_s) as address:
            _wait_for(lambda: _joined(address), "the head")
            figures = _train_and_watch(run, address)
            ray.shutdown()
    rows = [["what", "found"], *([name, value] for name, value in figures.items())]
    report("A training that nodes come for", rows, figures, as_json=options.json)


def _prepared(output: Path, epochs: int) -> Run:
    settings = [
        f"output={output}",
        f"train.schedule.epochs={epochs}",
        "train.schedule.decay=0.99",
        "train.num_workers=[1, 2]",
        "train.checkpoint_steps=10",
        "train.start_timeout_s=180",
        "train.resize_interval_s=5",
    ]
    output.mkdir()
    run = Run(load_config(RunConfig, _RECIPE, settings))
    run.save_config()
    with session(RayConfig(address="local")):
        drivers.ingest(run)
        drivers.walk(run)
    return run


def _joined(address: str) -> bool:
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError):
        return False
    return True


def _num_nodes() -> int:
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())


def _train_and_watch(run: Run, address: str) -> dict[str, Any]:
    seen: dict[str, float] = {}
    before = _num_nodes()
    began = time.monotonic()

    def look(training: Job) -> bool:
        now = time.monotonic() - began
        there = _num_nodes()
        for name, is_true in (
            ("first_node_s", there >= 1),
            ("second_node_s", there >= 2),
            ("first_step_s", last_step(run) >= 10),
        ):
            if is_true:
                seen.setdefault(name, round(now, 1))
        return training.process.poll() is not None

    with job(address, "ray_jobs.train", run.output / "config.yaml") as training:
        _wait_for(lambda: look(training), "the training's end")
        ended = time.monotonic()
        status = training.process.returncode
        workers = training.workers
    _wait_for(lambda: _num_nodes() == 0, "the nodes to go")
    return {
        "nodes_before": before,
        **seen,
        "trained_s": round(ended - began, 1),
        "status": status,
        "workers": workers,
        "steps": run.model.open().manifest.counts["steps"] if status == 0 else None,
        "gone_s": round(time.monotonic() - ended, 1),
    }


def _wait_for(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {_PATIENCE_S:g} s in vain for {what}")
        time.sleep(_LOOK_S)


if __name__ == "__main__":
    main()

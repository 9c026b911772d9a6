"""The server under load while the head of its cluster is killed, and comes back.

Run: `python -m benchmarks.chaos_head [--json] [--seconds S]`; it wants `redis-server` in PATH.

A head and one node beside it, as `deploy/kuberay/serve.yaml` has them: the head keeps what it
knows in Redis and holds no replica. The application is that file's. One connection asks without a
pause; a quarter into the time the head is killed with all its processes, at half of it a new one
starts over the same Redis. `lost` counts requests without an answer and `refused` those with
another than 200; connections through the killed head's own proxy are cut, so some may be lost.
`headless_s` is how long there was no head, `running_s` how long after the new one answered Serve
said that the application runs, and `same_replica` whether the replica is the process that it was.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks._load import get, load
from benchmarks._served import Served, write_served
from benchmarks._timing import parser, report
from benchmarks.processes import descendants

_MANIFEST = Path(__file__).parents[1] / "deploy" / "kuberay" / "serve.yaml"
_PATIENCE_S = 180.0
_STORE_BYTES = 128 * 2**20


@dataclass
class Cluster:
    """A head and a node of this machine, with a token, over one Redis."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    redis: int = field(default_factory=lambda: _free_port())
    gcs: int = field(default_factory=lambda: _free_port())
    dashboard: int = field(default_factory=lambda: _free_port())
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        """Start a process that ends with the cluster."""
        known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        known["RAY_gcs_rpc_server_reconnect_timeout_s"] = "600"
        inherited = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        with (self.folder / f"{name}.log").open("w") as log:
            started = subprocess.Popen(
                command,
                env=inherited | known | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.running.append(started)
        return started

    def start_node(self, name: str, *flags: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a Ray node."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *flags]
        command += ["--node-ip-address=127.0.0.1", f"--object-store-memory={_STORE_BYTES}"]
        command += [f"--dashboard-agent-listen-port={_free_port()}", "--disable-usage-stats"]
        return self.start(name, command, **environment)

    def start_head(self, name: str) -> subprocess.Popen[bytes]:
        """Start a head over the Redis, and wait until its dashboard answers."""
        # What a head on another machine would not find: the note that one ran here.
        (self.folder / "ray" / "ray_current_cluster").unlink(missing_ok=True)
        head = self.start_node(
            name,
            *("--head", f"--port={self.gcs}", "--num-cpus=0", f"--redis-password={self.token}"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard}"),
            f"--temp-dir={self.folder / 'ray'}",
            RAY_REDIS_ADDRESS=f"127.0.0.1:{self.redis}",
            RAY_external_storage_namespace="pinsage",
        )
        _wait(lambda: self.ask("GET", "/api/version") is not None, f"the head ({name}.log)")
        return head

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the dashboard; None if it does not answer, or not with what was asked for."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.dashboard}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.loads(answer.read() or b"{}")
        except (OSError, ValueError):
            return None

    def is_running(self) -> bool:
        """Tell whether Serve says that the application runs."""
        told = self.ask("GET", "/api/serve/applications/")
        return bool(told) and told["applications"]["pinsage"]["status"] == "RUNNING"


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start Redis; end it and all that was started besides."""
    made = Cluster(folder)
    try:
        made.start(
            "redis",
            ["redis-server", "--port", str(made.redis), "--bind", "127.0.0.1", "--dir", str(folder),
             "--appendonly", "yes", "--requirepass", made.token],
        )  # fmt: skip
        yield made
    finally:
        for process in made.running:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all below it."""
    for pid in (*descendants(process.pid), process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def application(served: Served, port: int) -> dict[str, Any]:
    """The manifest's Serve configuration, for one replica on this machine."""
    (service,) = yaml.safe_load_all(_MANIFEST.read_text(encoding="utf-8"))
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    (one,) = config["applications"]
    one["runtime_env"] = {"working_dir": f"local://{Path(__file__).parents[1]}"}
    one["args"] |= {"generation": str(served.generation), "num_replicas": 1, "boundary": {}}
    return config


def main() -> None:
    """Run it."""
    flags = parser(__doc__)
    flags.add_argument("--seconds", type=float, default=80.0, help="of load")
    options = flags.parse_args()
    # Ray's sockets want a short path.
    with tempfile.TemporaryDirectory(prefix="head", dir="/tmp") as folder:
        served = write_served(Path(folder) / "run", num_items=2_000, width=64)
        with cluster(Path(folder)) as made:
            figures = suffer(made, served, options.seconds)
    rows = [[*figures], [f"{value:.1f}" if isinstance(value, float) else value
                         for value in figures.values()]]  # fmt: skip
    report("The head of a serving cluster, killed and back", rows, figures, as_json=options.json)


def suffer(made: Cluster, served: Served, seconds: float) -> dict[str, Any]:
    """Put load on the server, kill the head, start another, and see."""
    port = _free_port()
    head = made.start_head("head")
    node = made.start_node("node", f"--address=127.0.0.1:{made.gcs}", "--num-cpus=2")
    config = application(served, port)
    _wait(lambda: made.ask("PUT", "/api/serve/applications/", config) is not None, "Serve")
    _wait(made.is_running, "the application")
    before = _replicas(node)
    times: dict[str, float] = {}

    def lose() -> None:
        time.sleep(seconds / 4)
        kill(head)
        killed = time.monotonic()
        time.sleep(seconds / 4)
        made.start_head("head-again")
        times["headless_s"] = time.monotonic() - killed
        back = time.monotonic()
        _wait(made.is_running, "the application, with the new head")
        times["running_s"] = time.monotonic() - back

    losing = threading.Thread(target=lose)
    losing.start()
    question = get(f"/v1/items/{served.key(1)}/similar?k=10")
    met = load(port, [question], connections=1, seconds=seconds)
    losing.join()
    return {
        "answered": len(met.latencies_s),
        "lost": met.lost,
        "refused": sum(met.statuses.values()),
        **times,
        "same_replica": bool(before) and _replicas(node) == before,
    }


def _replicas(node: subprocess.Popen[bytes]) -> list[int]:
    return sorted(pid for pid, title in descendants(node.pid).items() if "ServeReplica" in title)


def _wait(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {_PATIENCE_S:.0f} s")
        time.sleep(0.3)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()

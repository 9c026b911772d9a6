"""A cluster's head, started as cluster.yaml starts it, on ports of its own."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path


@dataclass(frozen=True)
class Head:
    """A head that runs.

    Attributes:
        dashboard: URL of the dashboard, where jobs are submitted.
        agent: URL of the node's own agent, which takes jobs too.
        gcs: address that nodes and drivers join.
        token: what lets in.
        folder: where it keeps its sessions.
    """

    dashboard: str
    agent: str
    gcs: str
    token: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command that speaks to it."""
        known = {"RAY_AUTH_TOKEN": self.token, "RAY_ADDRESS": self.dashboard}
        return os.environ | known | {"RAY_AUTH_MODE": "token"}

    def ask(self, url: str, method: str, body: bytes = b"", **headers: str) -> int:
        """Send a request, and give the status of the answer."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent.setdefault("Content-Type", "application/json")
        return status_of(url, method, body, sent)

    @property
    def pass_(self) -> dict[str, str]:
        """The header that lets in."""
        return {"Authorization": f"Bearer {self.token}"}


def status_of(url: str, method: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Give the status of an HTTP answer; 0 where what answers is not HTTP, or nothing does."""
    request = urllib.request.Request(url, body or None, dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError, HTTPException):
        return 0


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def head() -> Iterator[Head]:
    """Start a head with a token, its dashboard on loopback; end it and all its processes."""
    token = secrets.token_hex(32)
    dashboard, agent, gcs = free_port(), free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    environment |= {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
    # Jobs find the `python` of this environment.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    # Ray's sockets want a short path.
    with tempfile.TemporaryDirectory(prefix="head", dir="/tmp") as folder:
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *("--node-ip-address=127.0.0.1", f"--port={gcs}", f"--temp-dir={folder}"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
            *(f"--dashboard-agent-listen-port={agent}", "--num-cpus=2"),
            *(f"--object-store-memory={128 * 2**20}", "--disable-usage-stats"),
        ]
        log = Path(folder) / "start.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                command, env=environment, stdout=out, stderr=out, start_new_session=True
            )
        try:
            made = Head(
                f"http://127.0.0.1:{dashboard}",
                f"http://127.0.0.1:{agent}",
                f"127.0.0.1:{gcs}",
                token,
                Path(folder),
            )
            _wait_until_ready(process, made, log)
            yield made
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _wait_until_ready(process: subprocess.Popen[bytes], head: Head, log: Path) -> None:
    for _ in range(240):
        if process.poll() is not None:
            break
        urls = (f"{head.dashboard}/api/version", f"{head.agent}/api/local_raylet_healthz")
        if all(head.ask(url, "GET", **head.pass_) == 200 for url in urls):
            return
        try:
            process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"the head did not start: {log.read_text()}")

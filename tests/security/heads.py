"""A cluster's head, started as cluster.yaml starts it, on ports of its own."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from tests.waiting import free_port

START_ATTEMPTS = 3


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


@contextmanager
def head() -> Iterator[Head]:
    """Start a head with a token, its dashboard on loopback; end it and all its processes."""
    # Ray's sockets want a short path.
    with tempfile.TemporaryDirectory(prefix="head", dir="/tmp") as folder:
        process, made = _started(Path(folder))
        try:
            yield made
        finally:
            _end(process, made.folder)


def _started(folder: Path) -> tuple[subprocess.Popen[bytes], Head]:
    """Start a head until one is ready: Ray gives up after half a minute, on a busy machine too."""
    told = ""
    for attempt in range(1, START_ATTEMPTS + 1):
        process, made = _start(folder / str(attempt))
        if _gets_ready(process, made):
            return process, made
        _end(process, made.folder)
        told = (made.folder / "start.log").read_text()
    raise AssertionError(f"the head did not start: {told}")


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], Head]:
    folder.mkdir()
    token = secrets.token_hex(32)
    dashboard, agent, gcs = free_port(), free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    environment |= {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
    # Jobs find the `python` of this environment.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--node-ip-address=127.0.0.1", f"--port={gcs}", f"--temp-dir={folder}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *(f"--dashboard-agent-listen-port={agent}", "--num-cpus=2"),
        *(f"--object-store-memory={128 * 2**20}", "--disable-usage-stats"),
    ]
    with (folder / "start.log").open("w") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    urls = (f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{agent}")
    return process, Head(*urls, f"127.0.0.1:{gcs}", token, folder)


def _gets_ready(process: subprocess.Popen[bytes], head: Head) -> bool:
    urls = (f"{head.dashboard}/api/version", f"{head.agent}/api/local_raylet_healthz")
    for _ in range(240):
        if all(head.ask(url, "GET", **head.pass_) == 200 for url in urls):
            return True
        try:
            process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            continue
        return False
    return False


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """End a head, and whatever it started that still writes in its folder."""
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    # Ray kills its daemons without waiting for them, and leaves an agent to notice by itself.
    while left := _naming(folder):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _naming(folder: Path) -> list[int]:
    """Processes whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if f"{folder}/".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found

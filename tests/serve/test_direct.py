import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pinsage.base.errors import ResourceError
from pinsage.cluster.run_config import ServeSection
from serve.direct import Workers
from tests.serve.fakes import KEYS, write_generation
from tests.waiting import free_port

QUESTIONS = 20


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
        return reply.read()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_workers_share_a_port_and_their_metrics_and_a_killed_one_is_replaced(
    generation_path: Path,
):
    section = ServeSection(port=free_port(), num_replicas=2)
    workers = Workers(generation_path, section)
    workers.start()
    try:
        first = workers.pids
        assert len(set(first)) == 2
        path = f"/v1/items/{KEYS[5]}/similar?k=2"
        for _ in range(QUESTIONS):
            assert json.loads(get(section.port, path))["query"]["key"] == KEYS[5]
        os.kill(first[0], signal.SIGKILL)
        workers.supervise(lambda: len(set(workers.pids) - {first[0]}) == 2)
        assert first[1] in workers.pids
        assert json.loads(get(section.port, path))["query"]["key"] == KEYS[5]
        metrics = get(section.port, "/metrics").decode()
        counted = re.findall(r'pinsage_requests_total{.*similar".*"200"} (\d+)', metrics)
        # An answer is counted after it is sent: the killed worker's last one and the very last one
        # may not be yet. Without a folder in common, about half would be missing.
        assert QUESTIONS - 1 <= sum(map(int, counted)) <= QUESTIONS + 1
        last = workers.pids
    finally:
        workers.stop()
    assert all(is_gone(pid) for pid in {*first, *last})
    with pytest.raises(urllib.error.URLError):
        get(section.port, "/healthz")


@pytest.mark.slow
def test_one_that_cannot_start_again_is_tried_until_it_can_and_the_others_answer_meanwhile(
    tmp_path: Path,
):
    path = write_generation(tmp_path)
    section = ServeSection(port=free_port(), num_replicas=2)
    workers = Workers(path, section)
    workers.start()
    try:
        first = workers.pids
        (tmp_path / "serving.json").write_text("torn")
        os.kill(first[0], signal.SIGKILL)
        until = time.monotonic() + 240
        # Long enough for one to fail, or the test proves nothing; never so long that it hangs.
        workers.supervise(lambda: workers.failures >= 1 or time.monotonic() > until)
        assert workers.failures >= 1
        assert workers.pids == [first[1]]
        assert json.loads(get(section.port, "/readyz"))["status"] == "ready"
        (tmp_path / "serving.json").unlink()
        workers.supervise(lambda: len(workers.pids) == 2 or time.monotonic() > until)
        assert len(set(workers.pids) - {first[0]}) == 2
        assert workers.failures == 0
    finally:
        workers.stop()


PARENT = """
import sys, threading
from pathlib import Path
from pinsage.cluster.run_config import ServeSection
from serve.direct import Workers

if __name__ == "__main__":
    workers = Workers(Path(sys.argv[1]), ServeSection(port=int(sys.argv[2]), num_replicas=2))
    workers.start()
    print(*workers.pids, flush=True)
    threading.Event().wait()
"""


@pytest.mark.slow
def test_workers_end_with_a_killed_parent_and_leave_the_port_to_the_next_one(
    generation_path: Path, tmp_path: Path
):
    port = free_port()
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), str(generation_path), str(port)]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert json.loads(get(port, "/readyz"))["status"] == "ready"
        parent.kill()
    until = time.monotonic() + 60
    while (left := [pid for pid in pids if not is_gone(pid)]) and time.monotonic() < until:
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "workers without a parent live on"
    Workers(generation_path, ServeSection(port=port)).stop()


@pytest.mark.slow
def test_a_worker_that_cannot_open_the_generation_is_told_and_nothing_is_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    path = write_generation(tmp_path)
    (tmp_path / "index" / "23456789abcd" / "index.json").write_text("{}")
    workers = Workers(path, ServeSection(port=free_port()))
    with pytest.raises(ResourceError, match=r"did not start \(exit status 1\)"):
        workers.start()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(tmp_path / "index") in line


def test_a_busy_port_is_told_before_anything_starts():
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(ResourceError, match=rf"port {port} .* cannot be used"):
            Workers(Path("generation.json"), ServeSection(port=port))

"""Ray's published advisories, replayed against a head as this project starts it: all refused.

SECURITY.md tells what they are. Controls show that the token, and nothing else, lets in.
"""

import json
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
import ray

from tests.security.heads import Head, status_of

pytestmark = pytest.mark.ray

JOB = json.dumps({"entrypoint": "echo taken over"}).encode()
REFUSED = {401, 403, 405}
FIREFOX = {"User_Agent": "not-Mozilla", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"}
CHROME = {
    "User_Agent": "Mozilla/5.0",
    "Origin": "http://rebound.example",
    "Host": "rebound.example",
}


def jobs_of(running: Head) -> int:
    """How many jobs the cluster has been given; asking is the control that the token lets in."""
    request = urllib.request.Request(f"{running.dashboard}/api/jobs/", headers=running.pass_)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return len(json.loads(answer.read()))


def test_cve_2023_48022_nobody_submits_a_job_without_the_token(running: Head) -> None:
    before = jobs_of(running)
    wrong = {"Authorization": "Bearer " + "0" * 64}
    for url in (f"{running.dashboard}/api/jobs/", f"{running.agent}/api/job_agent/jobs/"):
        assert running.ask(url, "POST", JOB) in REFUSED
        assert running.ask(url, "POST", JOB, **wrong) in REFUSED
    assert jobs_of(running) == before


@pytest.mark.parametrize("browser", [FIREFOX, CHROME], ids=["firefox", "chrome"])
def test_cve_2025_62593_no_browser_submits_a_job_even_with_the_token(
    running: Head, browser: dict[str, str]
) -> None:
    before = jobs_of(running)
    cookie = {"Cookie": f"ray-authentication-token={running.token}"}
    for url in (f"{running.dashboard}/api/jobs/", f"{running.agent}/api/job_agent/jobs/"):
        for let_in in ({}, cookie, running.pass_):
            assert running.ask(url, "POST", JOB, **browser, **let_in) in REFUSED
    assert jobs_of(running) == before


@pytest.mark.parametrize("browser", [{}, FIREFOX, CHROME], ids=["script", "firefox", "chrome"])
def test_cve_2026_27482_nobody_deletes_jobs_or_stops_serve(
    running: Head, browser: dict[str, str]
) -> None:
    let_in = running.pass_ if browser else {}
    for path in ("/api/jobs/some-job", "/api/serve/applications/"):
        assert running.ask(running.dashboard + path, "DELETE", **browser, **let_in) in REFUSED
    # The control: there is no such job, which only those learn who are let in.
    control = running.ask(f"{running.dashboard}/api/jobs/some-job", "DELETE", **running.pass_)
    assert control == 404


def test_nobody_reaches_the_control_store_without_the_token(running: Head) -> None:
    """This process has another token, or none: it is what joining a cluster begins with."""
    with pytest.raises(Exception, match=r"(?i)unauthenticated|authentication token"):
        ray._raylet.GcsClient(address=running.gcs).internal_kv_keys(b"", b"", 10)


def test_a_run_of_its_own_has_no_port_that_takes_jobs(local_ray: None) -> None:
    """What `python -m ray_jobs...` starts has no dashboard, and its agents want the token."""
    session = ray._private.worker.global_worker.node.get_session_dir_path()
    ports = listening_ports(session)
    assert ports, "a cluster listens somewhere"
    for port in ports:
        for path in ("/api/jobs/", "/api/job_agent/jobs/"):
            status = status_of(f"http://127.0.0.1:{port}{path}", "POST", JOB, {})
            assert status == 0 or status >= 400, f"port {port} answers {status}"


def listening_ports(session: str) -> set[int]:
    """Ports that the processes of a Ray session listen on."""
    tables = [Path("/proc/net/tcp").read_text(), Path("/proc/net/tcp6").read_text()]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    port_of = {row[9]: int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}
    found = set()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended while we looked
            if session.encode() in command.read_bytes():
                links = [link.readlink().name for link in (command.parent / "fd").iterdir()]
                sockets = {link.removeprefix("socket:[").removesuffix("]") for link in links}
                found |= {port_of[socket] for socket in sockets if socket in port_of}
    return found

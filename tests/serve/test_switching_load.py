"""Switches under load, over real HTTP, on several processes."""

import http.client
import json
import os
import random
import re
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from ray import serve
from ray.serve.config import ProxyLocation

from pinsage.cluster.run_config import ServeConfig, ServeSection
from serve.direct import Workers
from serve.generations import newest_digest
from serve.proxy import prepare_proxies
from serve.recommender import recommender
from tests.serve.fakes import KEYS, NUM_ITEMS, beside, write_further, write_generation
from tests.waiting import free_port, wait_until

# As `python -m serve` does, before Ray starts.
prepare_proxies()

CLIENTS = 4
SWITCHES = 10
STEPS = (3, 4, 5)


@dataclass
class Running:
    """A server of two processes."""

    port: int
    pids: Callable[[], list[int]]
    output: Path
    steps: dict[str, int]
    """Digest to step, of every generation."""
    loses: bool
    """Whether what a killed process was answering is lost."""


@dataclass
class Seen:
    """What clients met."""

    answers: list[tuple[str, int, set[str]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: object = None
) -> tuple[int, str, dict]:
    """Give status, generation and answer."""
    headers = {"content-type": "application/json"} if body else {}
    connection.request(method, path, json.dumps(body) if body else None, headers)
    reply = connection.getresponse()
    content = json.loads(reply.read())
    return reply.status, reply.headers["x-pinsage-generation"], content


def once(port: int, method: str, path: str, body: object = None) -> tuple[int, str, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        return exchange(connection, method, path, body)
    finally:
        connection.close()


def ask_on(port: int, seen: Seen, done: threading.Event, calm: threading.Event, seed: int) -> None:
    """Ask for one item after another; without a pause, until `calm` leaves room for others."""
    drawn = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not done.wait(0.05 if calm.is_set() else 0):
        item = drawn.randrange(NUM_ITEMS)
        # By the quick way, and by the framework's.
        path = f"/v1/items/{quote(KEYS[item], safe='')}/similar?k=2"
        path += drawn.choice(["", "&method=pinsage"])
        try:
            status, digest, answer = exchange(connection, "GET", path)
            if status != 200:
                seen.failures.append(f"{status}: {answer}")
                continue
            seen.answers.append((digest, item, {found["key"] for found in answer["items"]}))
        except (OSError, http.client.HTTPException) as error:
            seen.failures.append(repr(error))
            connection.close()


def everyone_serves(port: int, digest: str) -> bool:
    """Whether one generation is served alone, by all processes.

    Metrics of plain processes are everybody's; a proxy sends each question to either replica.
    """
    for _ in range(16):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
            text = reply.read().decode()
        if re.findall(r'pinsage_generation_info{generation="(\w+)"} 1\.0', text) != [digest]:
            return False
    return True


@pytest.fixture
def output(tmp_path: Path) -> tuple[Path, dict[str, int]]:
    write_generation(tmp_path)
    steps = {str(newest_digest(tmp_path)): 1}
    for step in STEPS:
        steps[write_further(tmp_path, step, width=step, group=f"group_{step}")] = step
    return tmp_path, steps


@pytest.fixture
def plain(output: tuple[Path, dict[str, int]]) -> Iterator[Running]:
    folder, steps = output
    port = free_port()
    workers = Workers(folder / "generation.json", ServeSection(port=port, num_replicas=2))
    stopping = threading.Event()
    workers.start()
    keeper = threading.Thread(target=workers.supervise, args=(stopping.is_set,), daemon=True)
    keeper.start()
    yield Running(port, lambda: workers.pids, folder, steps, loses=True)
    stopping.set()
    keeper.join()
    workers.stop()


def pids_of(title: str) -> list[int]:
    """Processes whose command line begins so."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if command.startswith(title):
            found.append(int(path.parent.name))
    return sorted(found)


@pytest.fixture
def behind_proxy(local_ray: None, output: tuple[Path, dict[str, int]]) -> Iterator[Running]:
    folder, steps = output
    port = free_port()
    serve.start(
        proxy_location=ProxyLocation.HeadOnly, http_options={"host": "127.0.0.1", "port": port}
    )
    first = str(newest_digest(folder))
    config = ServeConfig(num_replicas=2, cpus_per_replica=0)
    # No other test's server is called so.
    name = f"switched-{port}"
    serve.run(recommender(folder / "generation.json", first, config), name=name)
    title = f"ray::ServeReplica:{name}:"
    yield Running(port, lambda: pids_of(title), folder, steps, loses=False)
    serve.shutdown()


@pytest.fixture(params=["plain", pytest.param("behind_proxy", marks=pytest.mark.ray)])
def running(request: pytest.FixtureRequest) -> Running:
    return request.getfixturevalue(request.param)


@pytest.mark.slow
def test_ten_switches_under_load_fail_and_mix_nothing_and_a_killed_process_comes_back_on_the_last(
    running: Running,
):
    seen, done, calm = Seen(), threading.Event(), threading.Event()
    clients = [
        threading.Thread(target=ask_on, args=(running.port, seen, done, calm, seed), daemon=True)
        for seed in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    digests = sorted(running.steps, key=lambda digest: running.steps[digest])
    for turn in range(SWITCHES):
        wanted = digests[turn % len(digests)]
        body = {"previous": True} if turn % 4 == 3 else {"generation": wanted}
        status, _, answer = once(running.port, "POST", "/v1/generation", body)
        assert (status, answer["state"]) == (200, "served"), answer
        last = answer["generation"]
        wait_until(lambda last=last: everyone_serves(running.port, last), "all follow")
    assert seen.failures == []

    # Killed while a decision is on its way.
    wanted = next(digest for digest in digests if digest != last)
    before = running.pids()
    killer = threading.Timer(0.02, os.kill, (before[0], signal.SIGKILL))
    killer.start()
    try:
        once(running.port, "POST", "/v1/generation", {"generation": wanted})
    except (OSError, http.client.HTTPException):
        # It was the one that was asked. Its connections end a moment before it does.
        wait_until(lambda: before[0] not in running.pids(), "it was killed")
    killer.join()
    # A process that starts needs the machine too.
    calm.set()
    wait_until(lambda: len(set(running.pids()) - {before[0]}) == 2, "one in its place")
    once(running.port, "POST", "/v1/generation", {"generation": wanted})
    wait_until(lambda: everyone_serves(running.port, wanted), "all follow")
    done.set()
    for client in clients:
        client.join()

    if not running.loses:
        assert seen.failures == []
    assert {digest for digest, _, _ in seen.answers} == set(running.steps)
    for digest, item, found in seen.answers:
        assert found == beside(item, running.steps[digest]), digest

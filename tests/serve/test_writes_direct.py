"""Writes over real HTTP, in two processes that share a folder."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pinsage.cluster.run_config import ServeSection
from serve.answers import Answers
from serve.direct import Workers
from serve.generation import Generation
from serve.log import WriteLog
from serve.schemas_embed import EmbedRequest
from tests.serve.fakes import KEYS, write_generation
from tests.waiting import free_port

PATIENCE_S = 60


def asked(port: int, method: str, path: str, body: dict | None = None) -> int:
    """Send one request over a connection of its own, so that either process may get it."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=content,
        method=method,
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def becomes(wanted: Callable[[], bool]) -> bool:
    """Whether something holds before long; asked many times, so that both processes are."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if wanted():
            return True
    return False


@pytest.mark.slow
def test_both_processes_have_every_write_and_a_killed_one_loses_nothing_acknowledged(
    tmp_path: Path,
):
    path = write_generation(tmp_path, with_model=True)

    section = ServeSection(port=free_port(), num_replicas=2)
    # What is compiled on first use is in the cache before requests wait for it.
    Answers(Generation.open(path), section).embed(EmbedRequest(contexts=["shelf-1"]))
    workers = Workers(path, section)
    workers.start()
    try:
        port, kept = section.port, []
        killed = workers.pids[0]
        for number in range(20):
            if number == 10:
                os.kill(killed, signal.SIGKILL)
            # A request that the killed process had taken gets no answer; it may count or not.
            with suppress(OSError):
                body = {"contexts": ["shelf-1"]}
                assert asked(port, "PUT", f"/v1/items/new-{number}", body) == 200
                kept.append(f"new-{number}")
        with suppress(OSError):
            assert asked(port, "DELETE", f"/v1/items/{KEYS[0]}") == 200
        workers.supervise(lambda: len(set(workers.pids) - {killed}) == 2)
        assert len(kept) >= 18
        assert set(kept) <= {record["key"] for record in WriteLog(tmp_path / "writes").read()}
        for key in kept:
            # Twenty times in a row: whichever process is asked.
            assert becomes(
                lambda key=key: all(
                    asked(port, "GET", f"/v1/items/{key}/similar?k=3") == 200 for _ in range(20)
                )
            )
        assert becomes(
            lambda: all(asked(port, "GET", f"/v1/items/{KEYS[0]}") == 404 for _ in range(20))
        )
    finally:
        workers.stop()

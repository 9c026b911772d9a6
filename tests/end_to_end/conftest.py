"""What the end-to-end tests share: a finished run of the smoke recipe, a server, a browser."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, sync_playwright

from pinsage.cluster.drivers import JOBS, StageResult
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from tests.end_to_end.visitor import CHROMIUM, FLAGS, Explorer
from tests.runs import smoke_run
from tests.serve.fakes import write_generation


@dataclass(frozen=True)
class Finished:
    """A run, and what each of its jobs said."""

    run: Run
    results: list[StageResult]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Finished:
    """Every stage of the smoke recipe, published."""
    run = smoke_run(tmp_path_factory.mktemp("finished"))
    results = [job(run) for job in JOBS.values()]
    run.publish_generation()
    return Finished(run, results)


@pytest.fixture
def copy_of_graph(finished: Finished, tmp_path: Path) -> Path:
    """A new output folder that shares the finished run's graph and neighborhoods."""
    for stage in (finished.run.graph, finished.run.neighborhoods):
        link = tmp_path / stage.name
        link.symlink_to(stage.directory.parent, target_is_directory=True)
    return tmp_path


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """Let an app answer on a free port of this machine; gives its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.should_exit = True
        thread.join(timeout=20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    generation = Generation.open(write_generation(tmp_path_factory.mktemp("run")))
    with listening(build_api(generation, ServeConfig(title="Old books", default_k=6))) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium found; install it with `apt-get install chromium`")
        pytest.skip("no Chromium found; install it with `apt-get install chromium`")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def explorer(browser: Browser, server: str) -> Iterator[Explorer]:
    visitor = Explorer(browser, server)
    yield visitor
    visitor.page.context.close()
    assert visitor.errors == []

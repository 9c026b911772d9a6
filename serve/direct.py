"""`python -m serve --direct`: the same API in plain processes that listen themselves, without Ray.

Ray Serve passes every request through a proxy, which can find a replica on any node and retry where
one is lost, and which costs more than the answer. Where one machine is enough, these workers share
one listening socket instead: the kernel hands each connection to whichever is free, connections
that nobody took yet survive a worker's death, and a dead worker is replaced.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import uvicorn
from prometheus_client.multiprocess import mark_process_dead

from pinsage.base.errors import PinsageError, ResourceError
from pinsage.cluster.run_config import ServeSection
from pinsage.cluster.worker_logs import set_up_worker
from serve.api import build_api
from serve.background import settle
from serve.generation import Generation
from serve.generations import first_parts
from serve.metrics_folder import MetricsFolder
from serve.patience import patient

logger = logging.getLogger("pinsage.serve")

_START_S = 600.0
_STOP_S = 30.0
_LONGEST_PAUSE_S = 30.0
_BACKLOG = 2048
_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@dataclass
class _Worker:
    """One worker, and the pipe on which it says that it answers."""

    process: BaseProcess
    told: Connection
    failures: int = 0
    """How many in a row have ended before they answered."""
    is_ready: bool = False
    replace_at: float | None = None
    """When to start another in its place; None as long as it lives."""


class Workers:
    """Some processes that answer on one socket, each replaced when it dies."""

    def __init__(self, generation: Path, section: ServeSection) -> None:
        """Bind the socket; nothing answers before `start`.

        Args:
            generation: the `generation.json` to serve.
            section: the server's settings; `num_replicas` workers are started.

        Raises:
            ResourceError: the port cannot be used.
        """
        self._generation = generation
        self._section = section
        self._first: str | None = None
        self._context = multiprocessing.get_context("spawn")
        self._socket = _bound(section.host, section.port)
        self._workers: list[_Worker] = []
        self._metrics = MetricsFolder()
        if section.num_replicas > 1:
            # The one way to tell prometheus_client, before it is imported, where processes meet.
            os.environ[_METRICS_FOLDER] = self._metrics.name

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that answer."""
        answer = [one.process for one in self._workers if one.is_ready and one.process.is_alive()]
        return [process.pid for process in answer if process.pid is not None]

    @property
    def failures(self) -> int:
        """How many in a row ended before they answered; 0 once all do."""
        return max((worker.failures for worker in self._workers if not worker.is_ready), default=0)

    def start(self) -> None:
        """Start all workers, and wait until they answer.

        Raises:
            ArtifactError: there is no generation to serve.
            ResourceError: one ended, or gave no sign within ten minutes; the others are stopped.
        """
        # The one that all begin with, those too that replace a dead one much later.
        self._first = first_parts(self._generation, follow=self._section.follow).digest
        self._workers = [self._started() for _ in range(self._section.num_replicas)]
        for worker in self._workers:
            if not self._becomes_ready(worker, _START_S):
                code = worker.process.exitcode
                self.stop()
                raise ResourceError(
                    f"a server process did not start (exit status {code}); its last words are above"
                )

    def supervise(self, until: Callable[[], bool], *, poll_s: float = 0.2) -> None:
        """Replace workers that die.

        Args:
            until: ends this when it gives true.
            poll_s: how often that is asked.

        One that ends before it answers, as where what it is to serve is damaged, is started again
        after a pause that doubles each time, for as long as another one answers.

        Raises:
            ResourceError: it ended before it answered, and there is no other.
        """
        while not until():
            alive = [one.process for one in self._workers if one.process.is_alive()]
            ended = wait([process.sentinel for process in alive], timeout=poll_s)
            for process in alive:
                if process.sentinel in ended:
                    # It says so a moment before its exit status is there.
                    process.join(_STOP_S)
            for place, worker in enumerate(self._workers):
                if worker.replace_at is None:
                    self._look_at(worker)
                if worker.replace_at is not None and time.monotonic() >= worker.replace_at:
                    self._workers[place] = self._started(worker.failures)

    def stop(self) -> None:
        """Let every worker finish what it is answering, and end it."""
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_STOP_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []
        self._socket.close()
        if os.environ.get(_METRICS_FOLDER) == self._metrics.name:
            del os.environ[_METRICS_FOLDER]
        self._metrics.remove()

    def _look_at(self, worker: _Worker) -> None:
        """Notice that a worker answers, or that it has ended."""
        is_ready = worker.is_ready or self._becomes_ready(worker, 0)
        if worker.process.is_alive():
            return
        worker.failures = 0 if is_ready else worker.failures + 1
        worker.is_ready = False
        self._forget(worker)
        if worker.failures and not self.pids:
            raise ResourceError("a server process ended before it answered; see above")
        pause_s = _pause_s(worker.failures)
        worker.replace_at = time.monotonic() + pause_s
        logger.error(
            "server process %d ended with status %s; starting another%s",
            worker.process.pid,
            worker.process.exitcode,
            f" in {pause_s:g} s, as it ended before it answered" if worker.failures else "",
        )

    def _started(self, failures: int = 0) -> _Worker:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_work,
            args=(self._generation, self._first, self._section, self._socket, theirs),
            name="pinsage-serve",
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Worker(process, ours, failures)

    def _becomes_ready(self, worker: _Worker, timeout_s: float) -> bool:
        ready = wait([worker.told, worker.process.sentinel], timeout=timeout_s)
        if worker.told in ready:
            try:
                worker.is_ready = worker.told.recv_bytes() == b"ready"
            except EOFError:
                worker.is_ready = False
        if ready and not worker.is_ready:
            worker.process.join(_STOP_S)
        return worker.is_ready

    def _forget(self, worker: _Worker) -> None:
        """Take what a dead worker was doing out of the gauges; its counters stay."""
        worker.told.close()
        if _METRICS_FOLDER in os.environ:
            mark_process_dead(  # type: ignore[no-untyped-call]
                worker.process.pid, self._metrics.name
            )


def _pause_s(failures: int) -> float:
    """Say how long to wait after so many ended before they answered."""
    return min(2.0 ** (failures - 1), _LONGEST_PAUSE_S) if failures else 0.0


def serve_directly(
    generation: Path, section: ServeSection, *, announce: Callable[[], None]
) -> None:
    """Serve until interrupted.

    Args:
        generation: the `generation.json` to serve.
        section: the server's settings.
        announce: called when all workers answer.

    Raises:
        ResourceError: the port cannot be used, or a worker does not start.
    """
    workers = Workers(generation, section)
    try:
        workers.start()
        announce()
        workers.supervise(threading.Event().is_set)
    finally:
        workers.stop()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise ResourceError(
            f"port {port} of {host} cannot be used ({error.strerror}); stop what uses it, or "
            f"take another one with --set serve.port={port + 1 if port < 65_535 else 8000}"
        ) from error
    made.listen(_BACKLOG)
    made.set_inheritable(True)
    return made


def _work(
    generation: Path,
    first: str | None,
    section: ServeSection,
    listening: socket.socket,
    told: Connection,
) -> None:
    """What one worker does."""
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    set_up_worker()
    try:
        parts = first_parts(generation, first=first, follow=section.follow)
        api = build_api(Generation.open(parts.path), section)
    except (PinsageError, OSError) as error:
        # Written to standard error as it is, and the exit status is 1.
        sys.exit(f"error: {error}")
    settle()
    config = uvicorn.Config(
        api,
        http=patient(section.boundary.request_timeout_s),
        log_config=None,
        log_level="warning",
        access_log=False,
        # Who stands before us is `serve.boundary.trusted_proxies`' to say.
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=int(_STOP_S / 2),
    )
    told.send_bytes(b"ready")
    uvicorn.Server(config).run(sockets=[listening])


def _end_with_parent() -> None:
    """End as if told to once the parent is gone: nobody else would, and the port stays taken."""
    parent = multiprocessing.parent_process()
    # Called in a worker alone.
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)

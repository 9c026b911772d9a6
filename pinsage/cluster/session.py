"""Joining a Ray cluster, or starting one on this machine for the length of a run."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import ray

from pinsage.base.addresses import place_of
from pinsage.base.errors import ConfigError, ResourceError
from pinsage.base.logs import progress_watchers
from pinsage.base.machine import available_cpus
from pinsage.base.storage import filesystem_at
from pinsage.cluster.gpus import GPUS_AS_GIVEN
from pinsage.cluster.metrics import tell_progress
from pinsage.cluster.run_config import RayConfig
from pinsage.cluster.worker_logs import worker_environment

_log = logging.getLogger(__name__)

_REACH_TIMEOUT_S = 10.0
_START_ATTEMPTS = 3
_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""What Ray sets for the command of a submitted job, and for nothing else."""

_asked = threading.Event()
"""A signal has asked this process to stop."""


@contextmanager
def session(config: RayConfig) -> Iterator[None]:
    """Be connected to Ray inside the block; what was started here ends with it.

    Raises:
        ResourceError: the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    try:
        # Inside, so that an interrupt while Ray starts takes down what has started.
        connect(config)
        yield
    finally:
        ray.shutdown()
        # Ray's native code stops hearing SIGTERM when it ends; the rest of the command hears it.
        _install_handlers()


def connect(config: RayConfig) -> None:
    """Join the configured cluster, or start a quiet one here.

    Raises:
        ResourceError: the cluster cannot be reached, or Ray does not start here.
    """
    _quiet_ray()
    stop_on_signals()
    started = time.monotonic()
    try:
        where = _join(config)
    except SystemExit as error:
        # While it starts, Ray hears SIGTERM in its own way.
        _asked.set()
        raise KeyboardInterrupt from error
    finally:
        # Ray has put handlers of its own in their place.
        _install_handlers()
    _leave_if_asked()
    _log.info(
        "Ray: %s in %.1f s, %d node(s), %d CPUs",
        where,
        time.monotonic() - started,
        sum(node["Alive"] for node in ray.nodes()),
        ray.cluster_resources().get("CPU", 0),
    )
    if tell_progress not in progress_watchers:
        progress_watchers.append(tell_progress)


def _join(config: RayConfig) -> str:
    """Connect; returns what was done, in words."""
    address = cluster_address(config)
    if address == "local":
        _start_here(config)
        _keep_token_private()
        return "started on this machine"
    if address.startswith(("http://", "https://")):
        raise ResourceError(
            f"{address} is where jobs are submitted, and no cluster that a program can join; run "
            "`ray job submit -- python -m ...` with the same command, or set ray.address=local to "
            "run on this machine alone"
        )
    try:
        _reach(address)
        with _native_output_hidden():
            ray.init(
                address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=_with_gpus_as_given(worker_environment()),
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ResourceError(
            f"no Ray cluster answers at {address} ({error}); look at `ray status`, or set "
            "ray.address=local to run on this machine alone"
        ) from error
    return "joined a cluster"


def _reach(address: str) -> None:
    """Connect once, since Ray tries for a quarter of an hour without a word.

    Raises:
        ConnectionError: nobody listens there.
        ValueError: the port is no number.
    """
    host, colon, port = address.rpartition(":")
    if not colon or "://" in address:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_TIMEOUT_S).close()
    except OSError as error:
        raise ConnectionError(str(error)) from error


def _with_gpus_as_given(environment: dict[str, Any] | None) -> dict[str, Any]:
    told = environment or {}
    return {**told, "env_vars": {**told.get("env_vars", {}), **GPUS_AS_GIVEN}}


def _start_here(config: RayConfig) -> None:
    """Start Ray on this machine; where that takes longer than Ray itself waits, start anew."""
    # All that Ray starts here inherits it, without an environment of its own to set up.
    os.environ.update(GPUS_AS_GIVEN)
    for attempt in range(1, _START_ATTEMPTS + 1):
        try:
            with _native_output_hidden():
                ray.init(
                    "local",
                    num_cpus=config.num_cpus or max(available_cpus(), 2),
                    include_dashboard=False,
                    object_store_memory=config.object_store_bytes,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env=worker_environment(),
                )
            return
        except Exception as error:
            ray.shutdown()
            _leave_if_asked()
            if attempt == _START_ATTEMPTS or isinstance(error, ValueError):  # of a wrong setting
                raise ResourceError(
                    f"Ray did not start on this machine in {attempt} attempt(s) ({error}); see "
                    "whether memory, /dev/shm or processes are short: python -m ray_jobs.doctor"
                ) from error
            _log.warning("Ray did not start (%s); trying again", error)


def _keep_token_private() -> None:
    """Ray writes its token for all users of this machine to read; let only this one."""
    token = Path.home() / ".ray" / "auth_token"
    if token.exists() and token.stat().st_uid == os.getuid():
        token.chmod(0o600)


def cluster_address(config: RayConfig) -> str:
    """Decide where to run: a submitted job finds its cluster in Ray's own variable."""
    if config.address != "auto":
        return config.address
    return os.environ.get("RAY_ADDRESS") or "local"


def ray_storage(folder: Path) -> dict[str, Any]:
    """Say where Ray Train or Tune keeps what it shares among nodes, as arguments of its config."""
    place = place_of(folder)
    if place is None:
        return {"storage_path": str(folder)}
    filesystem, path = filesystem_at(place.address)
    return {"storage_path": f"{path}/{place.name}", "storage_filesystem": filesystem}


def require_lasting(output: Path) -> None:
    """Stop a submitted job that would publish into the copy of the working dir that Ray deletes.

    Raises:
        ConfigError: `output` lies inside it, as every relative path does.
    """
    if _SUBMITTED not in os.environ:
        return
    working_dir = Path.cwd()
    if (working_dir / output).resolve().is_relative_to(working_dir.resolve()):
        raise ConfigError(
            f"output: {output} would lie in this job's copy of the working dir ({working_dir}), "
            "which Ray deletes after the job; give a folder that all nodes see, or a bucket, as in "
            "--set output=/shared/runs/books"
        )


def require_cpus(wanted: float, *, purpose: str, setting: str) -> None:
    """Stop before Ray would wait for ever.

    Raises:
        ResourceError: the cluster has fewer CPUs in all.
    """
    found = ray.cluster_resources().get("CPU", 0.0)
    if found < wanted:
        raise ResourceError(
            f"{purpose} wants {wanted:g} CPUs, but the cluster has {found:g}; lower {setting} or "
            "add nodes"
        )


def threads_for(configured: int | None, num_workers: int) -> int:
    """Share this machine's cores out evenly, unless told otherwise."""
    return configured or max(available_cpus() // num_workers, 1)


def stop_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP interrupt the main thread, once.

    A second one does nothing: it would cut the shutdown short and leave processes behind. One that
    is ignored, as `nohup` does with SIGHUP, stays ignored.
    """
    if _in_main_thread():
        _asked.clear()
        _install_handlers()


def _in_main_thread() -> bool:
    """Tell whether signals are heard here."""
    return threading.current_thread() is threading.main_thread()


def _install_handlers() -> None:
    if not _in_main_thread():
        return

    def handler(_number: int, _frame: FrameType | None) -> None:
        if not _asked.is_set():
            _asked.set()
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _leave_if_asked() -> None:
    """Interrupt again where what was interrupted has kept that to itself, as Ray's start may."""
    if _in_main_thread() and _asked.is_set():
        raise KeyboardInterrupt


@contextmanager
def _native_output_hidden() -> Iterator[None]:
    """Keep what Ray's native code writes while it starts off the terminal; errors are raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _quiet_ray() -> None:
    """Leave the terminal to our own lines; errors still show, and Ray keeps its log files."""
    # Ray Data's actor pools make Ray's core warn of something that only Ray Data could change.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    for name in ("ray", "ray.data", "ray.train", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)

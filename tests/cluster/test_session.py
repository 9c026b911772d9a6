import logging
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from pinsage.base.errors import ResourceError
from pinsage.base.machine import available_cpus
from pinsage.cluster.run_config import RayConfig
from pinsage.cluster.session import connect, session, stop_on_signals, threads_for
from tests.runs import ROOT
from tests.waiting import free_port

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_interrupts_once_and_a_second_one_does_not_cut_the_shutdown(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    stop_on_signals()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)


def test_an_ignored_signal_stays_ignored_as_under_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop_on_signals()
    os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_threads_are_shared_out_and_never_none() -> None:
    assert threads_for(None, 1) == available_cpus()
    assert threads_for(None, 10_000) == 1
    assert threads_for(7, 3) == 7


@pytest.mark.parametrize(
    ("error", "failures", "attempts"),
    [
        (Exception("timed out"), 2, 3),
        (Exception("timed out"), 5, 3),
        (ValueError("too little"), 5, 1),
    ],
)
def test_ray_is_started_anew_where_it_gives_up_but_not_for_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    failures: int,
    attempts: int,
) -> None:
    caplog.set_level(logging.INFO)
    made = []

    def init(*_: object, **__: object) -> None:
        made.append(1)
        if len(made) <= failures:
            raise error

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}, {"Alive": False}])
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
    if failures < attempts:
        connect(RayConfig(address="local"))
        assert re.search(r"Ray: started on this machine in \d+.\d s, 1 node.*2 CPUs", caplog.text)
    else:
        with pytest.raises(ResourceError, match=f"{attempts} attempt.*{error}.*ray_jobs.doctor"):
            connect(RayConfig(address="local"))
    assert len(made) == attempts


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize("failure", [None, RuntimeError("cut short")])
def test_an_interrupt_that_rays_start_keeps_to_itself_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, number: int, failure: Exception | None
) -> None:
    signal.signal(number, signal.SIG_DFL)
    made = []

    def init(*_: object, **__: object) -> None:
        made.append(1)
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        if failure is not None:
            raise failure

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        connect(RayConfig(address="local"))
    assert len(made) == 1
    # What is ending is not cut short by another one.
    os.kill(os.getpid(), number)


def test_sigterm_that_ray_hears_while_it_starts_is_told_as_an_interrupt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init(*_: object, **__: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(KeyboardInterrupt):
        connect(RayConfig(address="local"))
    # What is ending is not cut short by another one.
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "https://jobs.example"])
def test_where_jobs_are_submitted_is_told_apart_from_a_cluster(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ResourceError, match=f"{address} is where jobs are submitted.*job submit"):
        connect(RayConfig())


def test_a_cluster_where_nobody_listens_is_told_without_asking_ray(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray would try for minutes"))
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ResourceError, match=f"no Ray cluster answers at {address}.*refused"):
        connect(RayConfig(address=address))


def test_sigterm_is_heard_when_ray_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("pinsage.cluster.session.connect", lambda _: stop_on_signals())
    monkeypatch.setattr("ray.shutdown", lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    with session(RayConfig()):
        pass
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("command", "imported"),
    [("ray_jobs.walk", "pinsage.cluster.drivers"), ("serve", "pinsage.cluster.generations")],
)
def test_ctrl_c_while_a_command_is_imported_ends_it_without_a_traceback(
    command: str, imported: str
) -> None:
    # The first module of ours that imports much: no command is ready before it.
    script = f"""
import os, runpy, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "{imported}":
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except BaseException:
                print("lost in an import")
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["-m", "--help"]
runpy.run_module("{command}", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "\nstopped before anything was done\n"


_IN_COMPILED_CODE = """
import threading, time
import numpy as np
from pinsage.kernels.pooling import symmetric_eigen
matrix = np.random.default_rng(0).standard_normal((300, 300))
symmetric_eigen(matrix + matrix.T)
threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
def work():
    while True:
        symmetric_eigen(matrix + matrix.T)
"""


@pytest.mark.parametrize(
    "work",
    ["work = lambda: signal.raise_signal(signal.SIGINT) or 0", _IN_COMPILED_CODE],
    ids=["in Python", "in compiled code"],
)
def test_ctrl_c_in_a_command_is_told_as_what_it_is_once_the_command_has_begun(work: str) -> None:
    code = (
        "import signal, sys; sys.argv = ['-m']; from ray_jobs._exit import exit_code\n"
        f"{work}\nsys.exit(exit_code(work))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr.startswith("\nstopped; what is published stays")

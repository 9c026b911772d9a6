"""Whether workers compute on GPUs, by what Ray counts and what PyTorch finds."""

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import ray
import torch

from pinsage.base.errors import ConfigError
from pinsage.cluster.gpus import GPUS_AS_GIVEN, Gpu, Look, find_gpu
from tests.runs import ROOT

USABLE, UNUSABLE = Look("2.0+cu118", 80), Look("2.0+cpu", 0)


class Cluster:
    """A Ray that counts some GPUs, one of which finds something, or is busy."""

    exceptions = ray.exceptions

    def __init__(self, num_gpus: int, look: Look | None) -> None:
        self.num_gpus = num_gpus
        self.look = look
        self.waited_s: list[float] = []
        self.num_canceled = 0

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0} | ({"GPU": float(self.num_gpus)} if self.num_gpus else {})

    def remote(self, _function: Callable[[], Look]) -> SimpleNamespace:
        task = SimpleNamespace(remote=lambda: "asked")
        return SimpleNamespace(options=lambda **_options: task)

    def get(self, _asked: str, *, timeout: float) -> Look:
        self.waited_s.append(timeout)
        if self.look is None:
            raise ray.exceptions.GetTimeoutError
        return self.look

    def cancel(self, _asked: str) -> None:
        self.num_canceled += 1


def ask(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, device: str) -> Gpu | None:
    monkeypatch.setattr("pinsage.cluster.gpus.ray", cluster)
    return find_gpu(device, 2, purpose="training", timeout_s=1_200)


@pytest.mark.parametrize(
    ("device", "num_gpus", "look", "wanted"),
    [
        ("cpu", 2, USABLE, None),
        ("auto", 0, USABLE, None),
        ("auto", 1, USABLE, None),
        ("auto", 2, USABLE, Gpu(80)),
        ("auto", 2, UNUSABLE, None),
        ("auto", 2, None, Gpu(None)),
        ("cuda", 2, USABLE, Gpu(80)),
        ("cuda", 1, None, Gpu(None)),
        ("cuda", 0, USABLE, Gpu(80)),
    ],
)
def test_gpus_are_used_where_ray_counts_enough_and_torch_can_use_them(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    num_gpus: int,
    look: Look | None,
    wanted: Gpu | None,
) -> None:
    cluster = Cluster(num_gpus, look)
    assert ask(monkeypatch, cluster, device) == wanted
    # Only the first GPU of a cluster that grows is waited for as long as that may take.
    assert cluster.waited_s in ([], [60.0], [1_200])
    assert (cluster.waited_s == [1_200]) == (device == "cuda" and num_gpus == 0)
    assert cluster.num_canceled == (look is None)


def test_gpus_that_torch_cannot_use_are_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ask(monkeypatch, Cluster(2, UNUSABLE), "auto")
    (told,) = caplog.messages
    assert told.startswith("training goes on CPUs: Ray counts 2 GPU(s), but PyTorch 2.0+cpu")


@pytest.mark.parametrize(
    ("num_gpus", "look", "words"),
    [(0, None, "Ray counts no GPU"), (2, UNUSABLE, r"Ray counts 2 GPU\(s\), but PyTorch 2.0\+cpu")],
)
def test_what_lacks_where_gpus_were_asked_for_is_named(
    monkeypatch: pytest.MonkeyPatch, num_gpus: int, look: Look | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=rf"train\.device is cuda.*{words}.*auto or cpu"):
        ask(monkeypatch, Cluster(num_gpus, look), "cuda")


@pytest.mark.ray
@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch can use a GPU here")
def test_a_gpu_that_ray_makes_up_is_asked_and_not_used() -> None:
    script = """
import ray
import torch

torch.cuda.is_available = lambda: True  # the driver is not the one to ask
from pinsage.cluster.gpus import find_gpu

ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
assert find_gpu("auto", 2, purpose="training", timeout_s=30) is None
print(find_gpu("auto", 1, purpose="training", timeout_s=30))
"""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.endswith("None\n"), done.stderr
    assert "training goes on CPUs: Ray counts 1 GPU(s)" in done.stderr


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_who_is_given_no_gpu_sees_none() -> None:
    # As on a machine with one.
    machine = {"CUDA_VISIBLE_DEVICES": "0"}

    def seen() -> str:
        return os.environ["CUDA_VISIBLE_DEVICES"]

    task = ray.remote(num_cpus=0)(seen)
    assert not ray.get(task.options(runtime_env={"env_vars": machine}).remote())
    shown = dict.fromkeys(GPUS_AS_GIVEN, "0")
    assert ray.get(task.options(runtime_env={"env_vars": machine | shown}).remote()) == "0"

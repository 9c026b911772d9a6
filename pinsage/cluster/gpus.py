"""Whether workers compute on GPUs: Ray must count them, and PyTorch be able to use them."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import ray
import torch

from pinsage.base.errors import ConfigError

_log = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]

GPUS_AS_GIVEN = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
"""Environment in which Ray shows GPUs to those alone that it has given some to.

Without it, everybody on a node sees all of its GPUs, and whoever asks PyTorch computes on the first
one, beside the one that Ray has given it to.
"""

_ANSWER_S = 60.0
"""How long a GPU that Ray counts has to answer; it may be busy."""


@dataclass(frozen=True)
class Gpu:
    """What each of some workers computes on.

    Attributes:
        memory_bytes: of the GPU that answered; None where none did in time.
    """

    memory_bytes: int | None


@dataclass(frozen=True)
class Look:
    """What PyTorch found where Ray gave it a GPU.

    Attributes:
        version: of PyTorch.
        memory_bytes: of the GPU; 0 where PyTorch cannot use it.
    """

    version: str
    memory_bytes: int


def wants_gpus(device: Device, num_workers: int, *, num_gpus: float) -> bool:
    """Decide by numbers alone whether workers are to compute on a GPU each.

    >>> [wants_gpus("auto", 2, num_gpus=found) for found in (1, 2)]
    [False, True]
    """
    return device == "cuda" or (device == "auto" and num_gpus >= num_workers)


def find_gpu(device: Device, num_workers: int, *, purpose: str, timeout_s: float) -> Gpu | None:
    """Decide whether workers compute on a GPU each; None has them compute on CPUs.

    One GPU answers for all. The driver's own machine is not asked: it may have none, or other ones.
    Where no GPU answers in time, since all are busy, Ray's count is believed.

    Args:
        device: `auto` takes GPUs if there are enough.
        num_workers: how many compute at the same time, at least.
        purpose: who wants to know.
        timeout_s: how long the first GPU may take to come to the cluster, if `device` is `cuda`.

    Raises:
        ConfigError: `device` is `cuda`, but Ray counts no GPU or PyTorch cannot use it.
    """
    if not wants_gpus(device, num_workers, num_gpus=_counted()):
        return None
    look = _ask(_ANSWER_S if _counted() else timeout_s)
    if look is None and device == "cuda" and not _counted():
        raise ConfigError(
            "train.device is cuda, but Ray counts no GPU; start Ray where there is one (see "
            "`ray status`), or set train.device to auto or cpu"
        )
    if look is None:
        return Gpu(memory_bytes=None)
    if look.memory_bytes:
        return Gpu(look.memory_bytes)
    found = f"Ray counts {_counted():g} GPU(s), but PyTorch {look.version} cannot use them"
    cure = "install a build of PyTorch for their driver (`python -m ray_jobs.doctor` tells)"
    if device == "cuda":
        raise ConfigError(
            f"train.device is cuda, and {found}; {cure}, or set train.device to auto or cpu"
        )
    _log.warning("%s goes on CPUs: %s; %s", purpose, found, cure)
    return None


def look_at_gpu() -> Look:
    """Look where this process runs."""
    memory_bytes = 0
    if torch.cuda.is_available():
        # What is found may be broken all the same.
        with suppress(RuntimeError):
            memory_bytes = torch.cuda.get_device_properties(0).total_memory
    return Look(torch.__version__, memory_bytes)


def _ask(timeout_s: float) -> Look | None:
    """Have a GPU answer, wherever Ray finds one that is free; None if it takes too long."""
    # Ray ends the process of a task that had a GPU, and with it what it held there. Without a
    # strategy, a trial of a search would look for it among what the trial itself was given.
    there: Any = ray.remote(look_at_gpu)
    asked = there.options(
        num_cpus=0, num_gpus=1, max_retries=0, scheduling_strategy="DEFAULT"
    ).remote()
    try:
        look: Look = ray.get(asked, timeout=timeout_s)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(asked)
        return None
    except ray.exceptions.WorkerCrashedError:
        return None
    return look


def _counted() -> float:
    """Give the GPUs that Ray counts in the cluster."""
    return float(ray.cluster_resources().get("GPU", 0))

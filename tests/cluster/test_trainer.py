import errno
from types import SimpleNamespace

import pytest
import torch

from pinsage.base.errors import ArtifactError, TrainingError, WorkerTimeoutError
from pinsage.cluster.board import Order
from pinsage.cluster.trainer import lasting, train_worker
from pinsage.training import TrainConfig


class EnoughError(Exception):
    """Ends a worker once its threads are set."""


@pytest.mark.parametrize(("asked", "wanted"), [(None, 4), (7, 7)])
def test_a_machine_s_cores_are_shared_by_the_workers_that_are_on_it(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, wanted: int
) -> None:
    def get_device() -> None:
        raise EnoughError

    context = SimpleNamespace(
        get_world_rank=lambda: 2, get_world_size=lambda: 4, get_local_world_size=lambda: 2
    )
    train = SimpleNamespace(
        get_context=lambda: context, torch=SimpleNamespace(get_device=get_device)
    )
    fake = SimpleNamespace(get=lambda order, *, timeout: order, train=train)
    monkeypatch.setattr("pinsage.cluster.trainer.ray", fake)
    monkeypatch.setattr("pinsage.cluster.session.available_cpus", lambda: 8)
    threads = []
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    board = SimpleNamespace(order=SimpleNamespace(remote=lambda: Order.GO_ON))
    task = SimpleNamespace(train=TrainConfig(threads_per_worker=asked))
    with pytest.raises(EnoughError):
        train_worker({"task": task, "producers": [], "board": board})
    assert threads == [wanted]


@pytest.mark.parametrize(
    "error", [WorkerTimeoutError("late"), OSError(errno.EIO, "a bad disk"), ValueError("a bug")]
)
def test_what_another_worker_might_survive_is_tried_again(error: Exception) -> None:
    assert lasting(error) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "make room"),
        (torch.OutOfMemoryError("CUDA out of memory"), r"CUDA out of memory.*train\.accumulate"),
    ],
)
def test_what_no_other_worker_would_survive_is_told_with_its_cure(
    error: Exception, words: str
) -> None:
    told = lasting(error)
    assert isinstance(told, TrainingError)
    with pytest.raises(TrainingError, match=words):
        raise told


def test_an_error_of_ours_is_told_as_it_is() -> None:
    error = ArtifactError("none is whole")
    assert lasting(error) is error

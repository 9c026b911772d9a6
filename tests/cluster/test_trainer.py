from types import SimpleNamespace

import pytest

from pinsage.cluster.board import Order
from pinsage.cluster.trainer import train_worker
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

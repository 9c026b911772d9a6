import threading

import pytest

from pinsage.cluster.alone import minibatches


class Builder:
    """Builds of every step the name of the thread that it is built on."""

    def builder(self) -> "Builder":
        return self

    def build(self, epoch: int, step: int, **_rank: int) -> tuple[int, int, str]:
        return epoch, step, threading.current_thread().name


@pytest.mark.parametrize("side_by_side", [True, False])
def test_the_next_minibatch_is_built_meanwhile_only_where_kernels_run_side_by_side(
    monkeypatch: pytest.MonkeyPatch, *, side_by_side: bool
) -> None:
    monkeypatch.setattr("pinsage.cluster.alone.kernels_run_side_by_side", lambda: side_by_side)
    built = list(minibatches(Builder(), 1, 5, 3))
    assert [(epoch, step) for epoch, step, _ in built] == [(0, 1), (0, 2), (1, 0), (1, 1)]
    here = threading.current_thread().name
    assert {name == here for *_, name in built} == {not side_by_side}

"""A worker's heart, with a board that is late, or gone."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import ray

from pinsage.cluster.board import Order
from pinsage.cluster.heart import Heart

LATE = ray.exceptions.GetTimeoutError("late")
GONE = ray.exceptions.ActorDiedError()

ANSWER_S = 30.0
"""Bounds how long a test that fails waits."""


class Hearts:
    """Starts hearts that hear some answers, the last one again and again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[Heart] = []
        self.heard_all = threading.Event()
        self._monkeypatch = monkeypatch

    def __call__(self, *answers: Order | Exception) -> Heart:
        waiting = list(answers)

        def get(_reference: object, *, timeout: float) -> Order:
            if len(waiting) == 1:
                self.heard_all.set()
            answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        fake = SimpleNamespace(get=get, exceptions=ray.exceptions)
        self._monkeypatch.setattr("pinsage.cluster.heart.ray", fake)
        board = SimpleNamespace(beat=SimpleNamespace(remote=lambda beat: beat))
        self.started.append(Heart(board, rank=0, step=0))
        return self.started[-1]


@pytest.fixture
def beating(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hearts]:
    monkeypatch.setattr("pinsage.cluster.heart._INTERVAL_S", 0.001)
    monkeypatch.setattr("pinsage.cluster.heart._GRACE_S", 0.001)
    hearts = Hearts(monkeypatch)
    yield hearts
    for heart in hearts.started:
        heart.close()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Is set where the process would end."""
    event = threading.Event()
    fake = SimpleNamespace(_exit=lambda _code: event.set())
    monkeypatch.setattr("pinsage.cluster.heart.os", fake)
    return event


@pytest.mark.parametrize(
    "failure",
    [
        LATE,
        ray.exceptions.ActorUnavailableError("away", None),
        ray.exceptions.OutOfMemoryError("no room for the answer"),
        ray.exceptions.RaySystemError(ValueError("odd")),
    ],
    ids=["late", "away", "memory", "system"],
)
def test_a_heart_beats_on_after_it_was_not_answered(
    beating: Hearts, ended: threading.Event, failure: Exception
) -> None:
    heart = beating(failure, failure, Order.STOP)
    assert beating.heard_all.wait(ANSWER_S)
    heart.close()
    assert heart.stopping
    assert not ended.is_set()


@pytest.mark.parametrize("answers", [(Order.END, LATE), (Order.END, GONE), (Order.GO_ON, GONE)])
def test_a_worker_that_is_stuck_ends_though_the_board_is_late_or_gone(
    beating: Hearts,
    ended: threading.Event,
    answers: tuple[Order | Exception, ...],
) -> None:
    beating(*answers)
    assert ended.wait(ANSWER_S)

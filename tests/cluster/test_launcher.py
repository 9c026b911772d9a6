"""What the launcher sees of the board, which may be late."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train

from pinsage.base.errors import TrainingError
from pinsage.base.logs import Progress
from pinsage.cluster import watchdog
from pinsage.cluster.board import Beat, Board, Order, Start
from pinsage.cluster.launcher import Follower, explained


class LateBoard:
    """A board whose answers come late when that is asked for."""

    def __init__(self) -> None:
        self.board = Board()
        self.is_late = True

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self.board, name))

    def get(self, answer: Any, *, timeout: float) -> Any:
        if self.is_late:
            raise ray.exceptions.GetTimeoutError(f"over {timeout} s")
        return answer


def test_a_look_at_a_board_that_is_late_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    board = LateBoard()
    fake = SimpleNamespace(get=board.get, exceptions=ray.exceptions)
    monkeypatch.setattr("pinsage.cluster.launcher.ray", fake)
    follower = Follower(board, Progress("train", 10, "steps"), stuck_after_s=600)
    board.board.enter(0, Start(3, 2))
    board.board.fail(TrainingError("no room"))
    follower.look()
    assert (follower.num_starts, follower.error) == (0, None)
    board.is_late = False
    follower.look()
    assert follower.num_starts == 1
    assert str(follower.error) == "no room"


def follower_of(board: LateBoard, monkeypatch: pytest.MonkeyPatch, after_s: float) -> Follower:
    board.is_late = False
    fake = SimpleNamespace(get=board.get, exceptions=ray.exceptions)
    monkeypatch.setattr("pinsage.cluster.launcher.ray", fake)
    return Follower(board, Progress("train", 10, "steps"), stuck_after_s=after_s)


def test_workers_that_never_say_a_word_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    board = LateBoard()
    follower = follower_of(board, monkeypatch, after_s=-1)
    follower.look()
    assert board.board.order() is Order.END
    follower.look()
    assert "no worker has begun to train" in str(follower.error)


def test_workers_that_have_time_left_or_speak_are_not_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent, speaking = LateBoard(), LateBoard()
    follower_of(silent, monkeypatch, after_s=600).look()
    assert silent.board.order() is Order.GO_ON
    speaking.board.beat(Beat(0, 3, watchdog.STEP, for_s=0.0, since_step_s=0.0))
    follower_of(speaking, monkeypatch, after_s=1).look()
    assert speaking.board.order() is Order.GO_ON


def test_workers_that_were_not_brought_together_are_not_called_lost() -> None:
    task = SimpleNamespace(train=SimpleNamespace(max_failures=3))
    apart = explained(ray.train.ControllerError(ValueError("ProcessGroupNCCL")), task)
    assert "could not be started or brought together: ProcessGroupNCCL" in str(apart)
    lost = explained(ray.train.WorkerGroupError("it died", {0: ValueError("it died")}), task)
    assert "more than train.max_failures=3 times" in str(lost)
    assert "it died" in str(lost)
    leader = explained(ray.exceptions.ActorDiedError(), task)
    assert "that leads the workers was lost" in str(leader)
    assert "max_failures" not in str(leader)

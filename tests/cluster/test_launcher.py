"""What the launcher sees of the board, which may be late."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from pinsage.base.errors import TrainingError
from pinsage.base.logs import Progress
from pinsage.cluster.board import Board, Start
from pinsage.cluster.launcher import Follower


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

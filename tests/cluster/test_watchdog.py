from pinsage.base.errors import TrainingError
from pinsage.cluster import watchdog
from pinsage.cluster.board import Beat, Board, Order, Start
from pinsage.cluster.watchdog import stuck


def beat(rank: int, stage: str, since_step_s: float = 700, silent_s: float = 0.3) -> Beat:
    return Beat(rank, 40, stage, for_s=650, since_step_s=since_step_s, silent_s=silent_s)


def test_nothing_is_stuck_while_any_worker_ends_steps() -> None:
    assert stuck([], after_s=600) is None
    assert stuck([beat(0, watchdog.STEP), beat(1, watchdog.STEP, 3)], after_s=600) is None


def test_the_worker_that_the_others_wait_for_is_named_with_what_it_does() -> None:
    found = stuck([beat(1, watchdog.SAVING), beat(0, watchdog.STEP)], after_s=600)
    assert found == (
        "worker 0: waiting for the gradients of worker 1, for 650 s, after step 40; "
        "worker 1: waiting for a checkpoint to be written, for 650 s, after step 40"
    )


def test_a_worker_that_says_nothing_is_lost() -> None:
    found = stuck([beat(0, watchdog.STEP, silent_s=400)], after_s=600)
    assert found is not None
    assert "worker 0: lost" in found
    assert "ray status" in found


def test_a_worker_alone_in_its_step_computes() -> None:
    found = stuck([beat(0, watchdog.STEP)], after_s=600)
    assert found is not None
    assert "computing" in found


def test_the_board_orders_to_go_on_then_to_stop_then_to_end() -> None:
    board = Board()
    assert board.enter(0, Start(5, 2)) is Order.GO_ON
    board.ask_to_stop()
    assert board.beat(beat(0, watchdog.STEP)) is Order.STOP
    board.fail(TrainingError("first"))
    board.fail(TrainingError("second"))
    assert board.order() is Order.END
    assert str(board.read().error) == "first"


def test_a_warning_is_said_once_and_the_beats_of_an_earlier_start_are_forgotten() -> None:
    board = Board()
    board.enter(0, Start(5, 2))
    board.beat(beat(0, watchdog.STEP))
    for _ in range(2):
        board.warn("damaged")
    assert board.read().warnings == ["damaged"]
    assert set(board.read().beats) == {0}
    board.enter(0, Start(8, 1))
    view = board.read()
    assert (view.starts, view.beats) == ([Start(5, 2), Start(8, 1)], {})

from pathlib import Path

import pytest

from pinsage.base.errors import ConfigError
from pinsage.training.pace import Pace
from pinsage.training.scalars import (
    JsonLines,
    TensorBoard,
    check_trackers,
    read_lines,
    write_repeatable,
)


def test_a_resumed_log_drops_what_it_repeats_and_what_a_kill_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    killed = JsonLines(path, first_step=0)
    for step in (10, 20, 30):
        killed.write(step, {"loss": step / 100})
    killed.close()
    with path.open("a") as log:
        log.write('{"step": 40, "lo')
    resumed = JsonLines(path, first_step=20)
    assert [line["step"] for line in read_lines(path)] == [10, 20]
    resumed.write(30, {"loss": 0.7})
    resumed.close()
    assert read_lines(path)[-1] == {"step": 30, "loss": 0.7}


def test_what_is_published_of_a_log_depends_on_no_clock(tmp_path: Path) -> None:
    for name, speed in (("a", 7.0), ("b", 9.0)):
        log = JsonLines(tmp_path / name, first_step=0)
        for step in (10, 20):
            log.write(step, {"loss": 0.5, "pairs_per_s": speed, "wait_share": 1 / speed})
        log.close()
        write_repeatable(tmp_path / name, tmp_path / f"{name}-published", last_step=10)
    assert (tmp_path / "a-published").read_text() == '{"step": 10, "loss": 0.5}\n'
    assert (tmp_path / "b-published").read_bytes() == (tmp_path / "a-published").read_bytes()


def test_event_files_are_written(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, first_step=0)
    board.write(10, {"loss": 0.5})
    board.close()
    (events,) = tmp_path.glob("events*")
    assert b"train/loss" in events.read_bytes()


def test_a_tracker_whose_package_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_trackers(["tensorboard"])
    monkeypatch.setattr("pinsage.training.scalars.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"names mlflow.*pip install mlflow"):
        check_trackers(["mlflow"])


def test_the_pace_forgets_how_slow_the_start_was() -> None:
    pace = Pace()
    pace.mark(0.0, 0, 0.0)
    pace.mark(100.0, 10, 90.0)
    for second in range(101, 115):
        pace.mark(float(second), 10 + 50 * (second - 100), 90.0)
    assert pace.pairs_per_s == 50
    assert pace.wait_share == 0


@pytest.mark.parametrize("damaged", [b'{"step": 20, "loss": \xff}', b"5", b'{"loss": 1}', b'{"st'])
def test_a_damaged_line_and_what_follows_it_count_for_nothing(
    tmp_path: Path, damaged: bytes
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"step": 10, "loss": 0.9}\n' + damaged + b'\n{"step": 30, "loss": 0.7}\n')
    assert [line["step"] for line in read_lines(path)] == [10]
    resumed = JsonLines(path, first_step=30)
    resumed.write(40, {"loss": 0.6})
    resumed.close()
    assert [line["step"] for line in read_lines(path)] == [10, 40]

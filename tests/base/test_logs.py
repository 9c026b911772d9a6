import io
import json
import logging

import pytest

from pinsage.base.logs import LogConfig, Progress, set_up_logging


def test_the_line_says_what_is_done_of_how_much() -> None:
    out = io.StringIO()
    with Progress("walk", 200, "items", out=out) as progress:
        progress._started -= 10
        progress.advance(50, "note")
        line = progress.line()
    assert "walk" in line
    assert "25%" in line
    assert "50/200 items" in line
    assert "ETA" in line
    assert "note" in line


def test_a_log_file_gets_whole_lines_and_no_control_characters() -> None:
    out = io.StringIO()
    with Progress("walk", 2, "items", out=out) as progress:
        progress.advance(1)
        progress.advance(1)
    assert out.getvalue().endswith("\n")
    assert "\r" not in out.getvalue()
    assert "2/2 items" in out.getvalue().splitlines()[-1]


def test_a_resumed_stage_counts_its_own_rate_only() -> None:
    progress = Progress("walk", 100, "items", out=io.StringIO())
    progress.resume_at(90)
    progress._started -= 10
    assert "0.0/s" in progress.line()


def test_a_json_log_has_one_object_a_line_with_the_run_and_numbers_of_progress(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger("pinsage")
    before = (root.handlers, root.level, root.propagate)
    try:
        set_up_logging(LogConfig(format="json", run_id="run-7"))
        log = logging.getLogger("pinsage.cluster.walkers")
        log.warning("a store was lost;\nwalking again from %d", 5)
        with Progress("walk", 200, "items") as progress:
            progress.advance(50, "note")
        try:
            raise ValueError("no such shard")
        except ValueError:
            log.exception("failed")
    finally:
        root.handlers, root.level, root.propagate = before
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["run"] for line in lines} == {"run-7"}
    assert (lines[0]["level"], lines[0]["logger"]) == ("WARNING", "pinsage.cluster.walkers")
    assert lines[0]["message"] == "a store was lost;\nwalking again from 5"
    assert lines[-2]["progress"] == {
        "stage": "walk", "done": 50, "total": 200, "unit": "items", "note": "note",
    }  # fmt: skip
    assert "no such shard" in lines[-1]["exception"]


def test_runs_without_a_name_get_one_each_and_keep_it() -> None:
    one, other = LogConfig().resolved(), LogConfig().resolved()
    assert one.run_id != other.run_id
    assert one.resolved() == one


def test_a_reader_that_has_gone_does_not_end_the_work() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with Progress("walk", 10, "items", out=Closed()) as progress:
        progress.advance(10)
    assert progress.done == 10

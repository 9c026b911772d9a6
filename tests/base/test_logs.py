import io

from pinsage.base.logs import Progress


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

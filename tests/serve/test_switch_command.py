"""`python -m serve.switch`, as a user calls it."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest

from serve.generations import newest_digest
from serve.pointer import POINTER, read_pointer
from serve.switch import main
from tests.serve.fakes import NUM_ITEMS, write_further, write_generation

RECIPE = Path(__file__).parents[2] / "ray_jobs" / "recipes" / "smoke.yaml"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    write_generation(tmp_path)
    return tmp_path


def run(output: Path, *flags: str) -> int:
    return main(["--config", str(RECIPE), "--set", f"output={output}", *flags])


def test_the_list_marks_what_is_served_and_where_a_rollback_goes(
    output: Path, capsys: pytest.CaptureFixture[str]
):
    first = str(newest_digest(output))
    assert run(output) == 0
    told = capsys.readouterr().out
    assert f"to be served: {first} (the newest one, as nothing was decided;" in told
    assert re.search(rf"{first} .* newest  +{NUM_ITEMS}  0\.100\n", told)
    second = write_further(output, 3)
    assert run(output, "--to", first) == 0
    told = capsys.readouterr().out
    assert f"generation {first} is to be served ({NUM_ITEMS} items), instead of {second}" in told
    assert run(output, "--list") == 0
    lines = {line[:12]: line for line in capsys.readouterr().out.splitlines()}
    assert " served " in lines[first]
    assert " previous " in lines[second]


def test_a_decision_there_and_back_and_to_the_newest(output: Path):
    first = newest_digest(output)
    second = write_further(output, 3)
    assert run(output, "--to", first) == run(output, "--previous") == 0
    assert (read_pointer(output).generation, read_pointer(output).previous) == (second, first)
    third = write_further(output, 4)
    assert run(output, "--newest") == 0
    assert (read_pointer(output).generation, read_pointer(output).previous) == (third, second)


def test_what_cannot_be_served_is_one_line_and_changes_nothing(
    output: Path, capsys: pytest.CaptureFixture[str]
):
    first = newest_digest(output)
    second = write_further(output, 3)
    (output / "index" / f"{3:012x}" / "vectors.npy").write_bytes(b"")
    for flags, complaint in [
        (["--to", "f" * 12], f"found {', '.join(sorted({first, second}))}"),
        (["--to", "../generation"], "no generation ../generation is published"),
        (["--to", second], "vectors.npy: wanted"),
        (["--previous"], "what was served before is not written down"),
    ]:
        assert run(output, *flags) == 1
        told = capsys.readouterr().err
        assert complaint in told
        assert told.count("\n") == 1
        assert read_pointer(output) is None


def test_a_damaged_decision_is_mended(output: Path, capsys: pytest.CaptureFixture[str]):
    first = newest_digest(output)
    (output / POINTER).write_text("{")
    assert run(output, "--list") == 1
    assert "serve.switch --to" in capsys.readouterr().err
    assert run(output, "--to", first) == 0
    assert read_pointer(output).generation == first


def test_nothing_published_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(tmp_path, "--newest") == 1
    assert "ray_jobs.pipeline" in capsys.readouterr().err


def test_a_decision_that_nobody_reads_is_made_and_no_error(output: Path):
    first = str(newest_digest(output))
    write_further(output, 3)
    command = f"{sys.executable} -m serve.switch --config {RECIPE} --set output={output}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} --to {first} | true"],
        capture_output=True, text=True, check=False, cwd=RECIPE.parents[2],
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert read_pointer(output).generation == first


def test_a_list_that_cannot_be_read_is_not_called_a_decision(
    output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def refused(_folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(output / "generations"))

    monkeypatch.setattr("serve.switch.listed", refused)
    assert run(output, "--list") == 1
    told = capsys.readouterr().err
    assert told.startswith("error: the list can't be read: ")
    assert f"Permission denied: '{output}/generations'" in told
    monkeypatch.setattr("serve.switch.decide", lambda *_args, **_names: refused(output))
    monkeypatch.setattr("serve.switch._is_whole", lambda *_args: True)
    assert run(output, "--to", str(newest_digest(output))) == 1
    assert "the decision can't be written down" in capsys.readouterr().err

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve.metrics_folder import MetricsFolder

KILLED = """
import os, signal
from serve.metrics_folder import MetricsFolder
folder = MetricsFolder()
print(folder.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def left_by_a_killed_one() -> Path:
    run = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, check=False
    )
    return Path(run.stdout.strip())


def test_what_a_killed_supervisor_left_is_removed_and_what_a_living_one_uses_is_not():
    living = MetricsFolder()
    left = left_by_a_killed_one()
    assert left.is_dir()
    after = MetricsFolder()
    assert not left.exists()
    assert Path(living.name).is_dir()
    for folder in (living, after):
        folder.remove()
        folder.remove()
        assert not Path(folder.name).exists()


def test_folders_of_other_containers_users_and_names_are_left_alone(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
):
    living = MetricsFolder()
    pid = left_by_a_killed_one().name.split("-")[2]
    # Its number is nobody's here, but its lock is held.
    elsewhere = Path(living.name).rename(temporary / f"pinsage-metrics-{pid}-elsewhere")
    others = [temporary / f"pinsage-metrics-{name}" for name in ("x8_a", f"{pid}", f"{pid}-a-b")]
    for folder in others:
        folder.mkdir()
    target = temporary / "target"
    target.mkdir()
    linked = temporary / f"pinsage-metrics-{pid}-linked"
    linked.symlink_to(target)
    MetricsFolder().remove()
    assert all(folder.is_dir() for folder in (elsewhere, target, *others))
    theirs = left_by_a_killed_one()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    MetricsFolder().remove()
    assert theirs.is_dir()

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pinsage.base.addresses import folder_of
from pinsage.base.artifacts import Draft
from pinsage.base.errors import ArtifactError, TrainingError
from pinsage.training import Checkpoints
from pinsage.training.scalars import LOG
from tests.buckets import BucketServer


def checkpoints(folder: Path, keep: int = 3, **settings: object) -> Checkpoints:
    return Checkpoints(folder, keep, {"seed": 0, "train": {"epochs": 3}, **settings})


def content(size: int = 100) -> Callable[[Draft], None]:
    def write(draft: Draft) -> None:
        with draft.file("weights") as path:
            path.write_bytes(bytes(size))

    return write


def names(folder: Checkpoints) -> list[str]:
    return [path.name for path in folder.published()]


def test_the_newest_and_the_best_are_kept_and_nothing_else(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path, keep=2)
    for step in range(1, 7):
        folder.save(step, content(), best_step=2 if step >= 2 else None)
    assert names(folder) == ["step-000000002", "step-000000005", "step-000000006"]
    assert sorted(path.name for path in tmp_path.glob(".*")) == [
        f".step-00000000{step}.lock" for step in (2, 5, 6)
    ]


def test_damaged_checkpoints_of_later_steps_take_no_place_of_new_ones(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path, keep=1)
    for step in (2, 4):
        folder.save(step, content())
    os.truncate(folder.path(4) / "weights", 10)
    found = checkpoints(tmp_path, keep=1)
    found.save(3, content())
    assert found.find().path == folder.path(3)
    found.save(4, content())
    assert found.find().path == folder.path(4)
    assert names(found) == ["step-000000004"]


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "no manifest", "cut manifest"])
def test_a_damaged_newest_checkpoint_is_passed_over_and_named(tmp_path: Path, damage: str) -> None:
    folder = checkpoints(tmp_path)
    for step in (1, 2, 3):
        folder.save(step, content())
    newest = folder.path(3)
    if damage == "cut":
        os.truncate(newest / "weights", 10)
    elif damage == "changed":
        (newest / "weights").write_bytes(b"x" * 100)
    elif damage == "missing":
        (newest / "weights").unlink()
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    else:
        os.truncate(newest / "manifest.json", 30)
    found = folder.find()
    assert found.path == folder.path(2)
    if damage != "no manifest":
        assert len(found.skipped) == 1
        assert str(newest) in found.skipped[0]
    folder.save(3, content())
    assert folder.find() == type(found)(newest, [])


def test_when_no_checkpoint_is_whole_it_says_so_instead_of_starting_anew(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path)
    assert folder.find().path is None
    for step in (1, 2):
        folder.save(step, content())
        os.truncate(folder.path(step) / "weights", 1)
    with pytest.raises(ArtifactError, match=r"none of its 2 checkpoints is whole.*delete"):
        folder.find()


def test_the_checkpoint_that_is_the_model_must_be_whole(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path)
    folder.save(1, content())
    assert folder.require(1) == folder.path(1)
    os.truncate(folder.path(1) / "weights", 1)
    with pytest.raises(ArtifactError, match=r"the model is the state after step 1.*train anew"):
        folder.require(1)


def test_a_checkpoint_of_other_settings_is_refused_with_what_differs(tmp_path: Path) -> None:
    checkpoints(tmp_path, feature_width=17).save(1, content())
    other = checkpoints(tmp_path, feature_width=20, train={"epochs": 4})
    with pytest.raises(
        ArtifactError, match=r"feature_width was 17, is 20 now; train\.epochs was 3, is 4 now"
    ):
        other.find()


def failing(times: int, code: int = errno.ENOSPC) -> Callable[[Draft], None]:
    left = [times]

    def write(draft: Draft) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(code, os.strerror(code), str(draft.path))
        content()(draft)

    return write


def test_a_full_disk_makes_room_by_dropping_older_checkpoints(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path)
    for step in (1, 2, 3):
        folder.save(step, content(), best_step=1)
    folder.save(4, failing(1), best_step=1)
    assert names(folder) == ["step-000000001", "step-000000003", "step-000000004"]


@pytest.mark.parametrize(
    ("times", "code", "words"),
    [
        (2, errno.ENOSPC, "No space left on device"),
        (1, errno.EIO, "Input/output error"),
    ],
)
def test_a_disk_that_takes_no_checkpoint_is_an_error_and_the_last_one_stays_whole(
    tmp_path: Path, times: int, code: int, words: str
) -> None:
    folder = checkpoints(tmp_path)
    for step in (1, 2):
        folder.save(step, content())
    with pytest.raises(TrainingError, match=f"step-000000003.*{words}.*step-000000002 is whole"):
        folder.save(3, failing(times, code))
    assert folder.find().path == folder.path(2)
    assert not list(tmp_path.glob(".step-*.partial"))


def test_a_limit_of_the_system_in_the_middle_of_a_file_is_an_error_of_the_next_step(
    tmp_path: Path,
) -> None:
    script = """
import sys, pathlib, resource, torch
from pinsage.base.errors import TrainingError
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.training import BackgroundSaver, Checkpoints, Snapshot, TrainingState
model = PinSage(ModelConfig(num_layers=1, projected_width=64, embedding_width=64), 64)
optimizer = torch.optim.Adam(model.parameters())
folder = Checkpoints(pathlib.Path(sys.argv[1]), 2, {})
saver = BackgroundSaver(folder, Snapshot(model, optimizer), resumed_at=-1)
saver.save(TrainingState(step=1, losses=[]))
saver.finish()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
saver.save(TrainingState(step=2, losses=[]))
try:
    while True:
        saver.check()
except TrainingError as error:
    print(error)
print(folder.find().path.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    error, newest = done.stdout.splitlines()
    assert "step-000000002" in error
    assert "File too large" in error
    assert newest == "step-000000001"
    assert not list(tmp_path.glob(".step-*.partial"))


def test_a_run_whose_node_is_lost_goes_on_elsewhere_from_its_bucket(
    buckets: BucketServer, tmp_path: Path
) -> None:
    address = buckets.new_run()
    here, there = (
        checkpoints(folder_of(address, tmp_path / name) / "checkpoints/model", keep=2)
        for name in ("here", "there")
    )
    here.folder.mkdir(parents=True)
    (here.folder / LOG).write_text('{"step": 3}\n')
    for step in (1, 2, 3):
        here.save(step, content(), best_step=1)
    assert names(there) == ["step-000000001", "step-000000002", "step-000000003"]
    assert there.find().path == there.path(3)
    assert (there.path(3) / "weights").read_bytes() == bytes(100)
    stored = buckets.objects(address)
    assert stored[f"checkpoints/model/{LOG}"] == b'{"step": 3}\n'
    there.save(4, content())
    assert names(here) == ["step-000000003", "step-000000004"]
    buckets.put(address, "checkpoints/model/step-000000004/weights", b"x" * 100)
    elsewhere = checkpoints(folder_of(address, tmp_path / "elsewhere") / "checkpoints/model")
    found = elsewhere.find()
    assert found.path == elsewhere.path(3)
    assert len(found.skipped) == 1


def test_a_checkpoint_that_a_worker_cannot_see_is_named_beside_the_newest_it_sees(
    tmp_path: Path,
) -> None:
    folder = checkpoints(tmp_path)
    folder.save(2, content())
    with pytest.raises(
        ArtifactError,
        match=r"worker 0 goes on from step-000000004, but worker 1 .* sees is step-000000002\.",
    ):
        folder.wait_for(4, worker=1, timeout_s=0.0)


def test_a_checkpoint_that_is_seen_late_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoints(tmp_path)
    folder.save(2, content())
    monkeypatch.setattr("time.sleep", lambda _seconds: folder.save(4, content()))
    assert folder.wait_for(4, worker=1, timeout_s=60.0) == folder.path(4)

"""What an unfinished stage has left is gone on with only by one of the same parents."""

import fcntl
import threading
from pathlib import Path

import numpy as np
import pytest

from pinsage.base import shared
from pinsage.base.addresses import folder_of
from pinsage.base.artifacts import Artifact, Draft, open_artifact, publish, sole_writer
from pinsage.base.drafts import draft_of
from pinsage.base.errors import ArtifactError
from tests.buckets import BucketServer


def parent(directory: Path, number: int) -> dict[str, Artifact]:
    """Publish a directory that holds a number, and open it as a parent."""
    with publish(directory, stage="numbers", config={}, parents={}) as draft:
        draft.write_array("numbers.npy", np.array([number]))
    return {"numbers": open_artifact(directory, stage="numbers")}


def begin(directory: Path, parents: dict[str, Artifact]) -> None:
    """Do half of a stage's work: a result, and a mark in the scratch that other nodes see."""
    with (
        pytest.raises(KeyboardInterrupt),
        publish(directory, stage="sums", config={}, parents=parents) as draft,
    ):
        draft.write_array("first.npy", np.zeros(1))
        (draft.scratch / "pass-0.done").write_text("{}")
        shared.push(draft.scratch)
        raise KeyboardInterrupt


def found(directory: Path, parents: dict[str, Artifact]) -> list[str]:
    """Name what the next run of the stage finds, here or in its bucket."""
    with (
        pytest.raises(KeyboardInterrupt),
        publish(directory, stage="sums", config={}, parents=parents) as draft,
    ):
        shared.pull(draft.scratch)
        names = sorted(path.name for path in draft.path.rglob("*") if path.is_file())
        raise KeyboardInterrupt
    return [name for name in names if not name.startswith(".")]


def test_a_draft_is_gone_on_with_while_its_parents_are_the_same(tmp_path: Path) -> None:
    parents = parent(tmp_path / "a", 1)
    begin(tmp_path / "b", parents)
    assert found(tmp_path / "b", parents) == ["first.npy", "pass-0.done"]


def test_a_draft_whose_parent_was_made_anew_is_begun_anew(tmp_path: Path) -> None:
    begin(tmp_path / "b", parent(tmp_path / "one" / "a", 1))
    assert found(tmp_path / "b", parent(tmp_path / "other" / "a", 2)) == []


def test_a_draft_that_does_not_say_what_it_is_made_from_is_begun_anew(tmp_path: Path) -> None:
    draft = Draft(draft_of(tmp_path / "b"))
    (draft.scratch / "pass-0.done").write_text("{}")
    assert found(tmp_path / "b", parent(tmp_path / "a", 1)) == []


def test_what_a_draft_is_made_from_is_not_published_as_a_file_of_it(tmp_path: Path) -> None:
    parents = parent(tmp_path / "a", 1)
    begin(tmp_path / "b", parents)
    with publish(tmp_path / "b", stage="sums", config={}, parents=parents):
        pass
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "first.npy",
        "manifest.json",
    ]


def test_a_draft_of_which_nothing_was_written_leaves_nothing(tmp_path: Path) -> None:
    parents = parent(tmp_path / "a", 1)
    with (
        pytest.raises(KeyboardInterrupt),
        publish(tmp_path / "b", stage="sums", config={}, parents=parents) as draft,
    ):
        draft.discard()
        raise KeyboardInterrupt
    assert not draft_of(tmp_path / "b").exists()


def test_a_draft_in_a_bucket_is_gone_on_with_elsewhere_only_with_the_same_parents(
    buckets: BucketServer, tmp_path: Path
) -> None:
    address = buckets.new_run()
    here, there = (folder_of(address, tmp_path / name) / "sums/b" for name in ("here", "there"))
    same, other = parent(tmp_path / "one" / "a", 1), parent(tmp_path / "other" / "a", 2)
    begin(here, same)
    assert found(there, same) == ["pass-0.done"]
    assert found(there, other) == []
    assert not [name for name in buckets.objects(address) if name.endswith(".done")]
    # The first node still has its own, of which the bucket knows nothing any more.
    assert found(here, other) == []


def test_who_wants_to_write_what_another_one_writes_is_told_so(tmp_path: Path) -> None:
    with (
        sole_writer(tmp_path / "new" / "a"),
        pytest.raises(ArtifactError, match=r"new/a: another process is writing it"),
        sole_writer(tmp_path / "new" / "a"),
    ):
        pass


def test_whoever_only_asks_whether_a_draft_is_locked_keeps_nobody_from_writing(tmp_path) -> None:
    with draft_of(tmp_path / "a").with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        asked = threading.Timer(0.15, fcntl.flock, (lock, fcntl.LOCK_UN))
        asked.start()
        with sole_writer(tmp_path / "a"):
            pass
        asked.join()
        fcntl.flock(lock, fcntl.LOCK_SH)
        with (
            pytest.raises(ArtifactError, match="another process is writing it"),
            sole_writer(tmp_path / "a"),
        ):
            pass

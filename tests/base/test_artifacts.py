import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from pinsage.base.artifacts import (
    Draft,
    fingerprint,
    finish,
    is_published,
    open_artifact,
    publish,
    whole_parents,
)
from pinsage.base.errors import ArtifactError, NotFiniteError
from pinsage.base.files import whole_file


def publish_numbers(directory: Path, numbers: list[int]) -> None:
    with publish(directory, stage="numbers", config={"n": len(numbers)}, parents={}) as draft:
        draft.write_array("numbers.npy", np.array(numbers))
        (draft.scratch / "notes").write_text("for the stage alone")


def test_a_published_directory_opens_with_its_content_checked(tmp_path: Path) -> None:
    publish_numbers(tmp_path / "a", [1, 2])
    opened = open_artifact(tmp_path / "a", stage="numbers", check_digests=True)
    assert sorted(path.name for path in opened.path.iterdir()) == ["manifest.json", "numbers.npy"]
    assert np.load(opened.path / "numbers.npy").tolist() == [1, 2]


def test_nothing_is_visible_until_the_block_ends_and_a_rerun_keeps_whole_files(
    tmp_path: Path,
) -> None:
    with (
        pytest.raises(RuntimeError),
        publish(tmp_path / "a", stage="numbers", config={}, parents={}) as draft,
    ):
        draft.write_array("first.npy", np.zeros(1))
        raise RuntimeError
    assert not is_published(tmp_path / "a")
    with publish(tmp_path / "a", stage="numbers", config={}, parents={}) as draft:
        assert draft.has("first.npy")
        assert not draft.has("second.npy")
    assert is_published(tmp_path / "a")


def test_nothing_overwrites_a_published_directory(tmp_path: Path) -> None:
    publish_numbers(tmp_path / "a", [1])
    with pytest.raises(ArtifactError, match="published already"):
        publish_numbers(tmp_path / "a", [2])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, found"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xff"), "SHA-256"),
        (lambda path: path.unlink(), "missing; delete its directory and rerun"),
    ],
)
def test_a_damaged_file_is_found(tmp_path: Path, damage, words: str) -> None:
    publish_numbers(tmp_path / "a", [1])
    damage(tmp_path / "a" / "numbers.npy")
    with pytest.raises(ArtifactError, match=words):
        open_artifact(tmp_path / "a", stage="numbers", check_digests=True)


def test_a_directory_of_another_stage_or_without_manifest_is_refused(tmp_path: Path) -> None:
    publish_numbers(tmp_path / "a", [1])
    with pytest.raises(ArtifactError, match="wanted stage letters"):
        open_artifact(tmp_path / "a", stage="letters")
    with pytest.raises(ArtifactError, match="has not finished"):
        open_artifact(tmp_path / "b", stage="letters")


@pytest.mark.parametrize("job", [lambda path: publish_numbers(path, [1]), finish])
def test_a_directory_without_manifest_is_told_of_before_the_work_and_not_after_it(
    tmp_path: Path, job
) -> None:
    # As an interrupted copy or removal leaves it; its draft has come as far as its last step.
    publish_numbers(tmp_path / "a", [1])
    shutil.copytree(tmp_path / "a", tmp_path / ".a.partial")
    (tmp_path / "a" / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"/a: wanted .* without manifest\.json, .*delete it"):
        job(tmp_path / "a")


@pytest.mark.parametrize("name", ["numbers.npy", "manifest.json"])
def test_a_copy_of_a_draft_that_lacks_bytes_is_not_published(tmp_path: Path, name: str) -> None:
    publish_numbers(tmp_path / "a", [1])
    shutil.copytree(tmp_path / "a", tmp_path / "copy" / ".a.partial")
    os.truncate(tmp_path / "copy" / ".a.partial" / name, 10)
    assert not finish(tmp_path / "copy" / "a")
    publish_numbers(tmp_path / "copy" / "a", [1])
    opened = open_artifact(tmp_path / "copy" / "a", stage="numbers", check_digests=True)
    assert opened.manifest == open_artifact(tmp_path / "a", stage="numbers").manifest


def test_a_draft_whose_writer_was_killed_at_the_last_step_is_published(tmp_path: Path) -> None:
    publish_numbers(tmp_path / "a", [1])
    (tmp_path / "a").rename(tmp_path / ".a.partial")
    assert finish(tmp_path / "a")
    open_artifact(tmp_path / "a", stage="numbers", check_digests=True)


def test_the_fingerprint_depends_on_settings_and_parents_alone() -> None:
    assert fingerprint("a", {"x": 1, "y": 2}, {}) == fingerprint("a", {"y": 2, "x": 1}, {})
    distinct = {
        fingerprint("a", {"x": 1}, {}),
        fingerprint("a", {"x": 2}, {}),
        fingerprint("b", {"x": 1}, {}),
        fingerprint("a", {"x": 1}, {"p": "1"}),
    }
    assert len(distinct) == 4


def test_equal_content_gives_an_equal_manifest_digest(tmp_path: Path) -> None:
    for name in ("one/a", "two/a"):
        publish_numbers(tmp_path / name, [1, 2])
    one, two = (open_artifact(tmp_path / n, stage="numbers").manifest for n in ("one/a", "two/a"))
    assert one.digest == two.digest


def write_and_die(directory: Path) -> None:
    with publish(directory, stage="numbers", config={}, parents={}) as draft:
        draft.write_array("whole.npy", np.zeros(3))
        with draft.file("half.npy") as path:
            path.write_bytes(b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_writer_leaves_nothing_half_published_and_no_lock(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=write_and_die, args=(tmp_path / "a",)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not is_published(tmp_path / "a")
    with publish(tmp_path / "a", stage="numbers", config={}, parents={}) as draft:
        assert draft.has("whole.npy")
        assert not draft.has("half.npy")
    files = open_artifact(tmp_path / "a", stage="numbers").manifest.files
    assert list(files) == ["whole.npy"]


def test_of_a_scratch_whose_removal_was_killed_nothing_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_some_and_die(path: Path, **_: object) -> None:
        if Path(path).exists():
            next(Path(path).iterdir()).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", remove_some_and_die)
        with (
            pytest.raises(KeyboardInterrupt),
            publish(tmp_path / "a", stage="numbers", config={}, parents={}) as draft,
        ):
            draft.write_array("numbers.npy", np.zeros(1))
            for name in ("rows", "what is done of them"):
                (draft.scratch / name).write_text("one without the other misleads")
    with publish(tmp_path / "a", stage="numbers", config={}, parents={}) as draft:
        assert not list(draft.scratch.iterdir())
    published = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert published == ["manifest.json", "numbers.npy"]


def test_two_writers_of_one_directory_do_not_mix(tmp_path: Path) -> None:
    with (
        publish(tmp_path / "a", stage="numbers", config={}, parents={}),
        pytest.raises(ArtifactError, match="another process"),
    ):
        publish_numbers(tmp_path / "a", [1])


def test_a_whole_file_replaces_the_old_one_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_that_write_one_file_at_a_time_do_not_share_its_temporary(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    with whole_file(path) as one:
        one.write_text("one")
        with whole_file(path) as other:
            other.write_text("other")
        assert path.read_text() == "other"
    assert path.read_text() == "one"


@pytest.mark.parametrize(
    "error",
    [RuntimeError("NaN"), OSError("Corrupt snappy data"), NotFiniteError("the loss is nan")],
)
def test_work_that_fails_on_a_changed_parent_names_it_and_keeps_nothing_made_from_it(
    tmp_path: Path, error: Exception
) -> None:
    publish_numbers(tmp_path / "a", [1, 2])
    parents = {"numbers": open_artifact(tmp_path / "a", stage="numbers")}

    def work() -> None:
        with (
            publish(tmp_path / "b", stage="sums", config={}, parents=parents) as draft,
            whole_parents(draft, parents),
        ):
            draft.write_array("first.npy", np.zeros(1))
            raise error

    with pytest.raises(type(error), match=str(error)):
        work()
    assert (tmp_path / ".b.partial" / "first.npy").exists()
    path = tmp_path / "a" / "numbers.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(ArtifactError, match=r"numbers\.npy: its SHA-256 is not") as caught:
        work()
    assert caught.value.__cause__ is error
    assert not (tmp_path / ".b.partial").exists()


def test_of_work_on_a_changed_parent_whose_removal_was_killed_no_mark_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_numbers(tmp_path / "a", [1, 2])
    parents = {"numbers": open_artifact(tmp_path / "a", stage="numbers")}
    path = tmp_path / "a" / "numbers.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")

    def remove_some_and_die(path: Path, **_: object) -> None:
        if Path(path).exists():
            next(file for file in sorted(Path(path).rglob("*")) if file.is_file()).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", remove_some_and_die)
        with (
            pytest.raises(KeyboardInterrupt),
            publish(tmp_path / "b", stage="sums", config={}, parents=parents) as draft,
            whole_parents(draft, parents),
        ):
            for name in ("rows", "what is done of them"):
                (draft.scratch / name).write_text("one without the other misleads")
            raise NotFiniteError("the loss is nan")
    assert not list(Draft(tmp_path / ".b.partial").scratch.iterdir())


def test_a_damaged_manifest_is_told_of_in_one_line(tmp_path: Path) -> None:
    publish_numbers(tmp_path / "a", [1, 2])
    (tmp_path / "a" / "manifest.json").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"0 bytes; delete .* and rerun the numbers") as caught:
        open_artifact(tmp_path / "a", stage="numbers")
    assert "\n" not in str(caught.value)

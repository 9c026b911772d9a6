"""Publishing into a bucket, and opening what is there, on a server that speaks S3 and can fail."""

import fcntl
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pinsage.base import shared
from pinsage.base.addresses import StorageConfig, folder_of
from pinsage.base.artifacts import (
    MANIFEST,
    finish,
    is_published,
    list_published,
    open_artifact,
    open_manifest,
    publish,
    whole_parents,
)
from pinsage.base.copies import make_room, release, remove, set_limit
from pinsage.base.drafts import PARENTS
from pinsage.base.errors import ArtifactError, StorageError
from pinsage.graph.rows import RowFile
from pinsage.inference.exchange import Exchange
from tests.buckets import BUSY, CLOSED, BucketServer

MIB = 2**20


@pytest.fixture
def address(buckets: BucketServer) -> Iterator[str]:
    yield buckets.new_run()
    buckets.on_request = None


def write(directory: Path, *, num_files: int = 4, size: int = 100) -> None:
    with publish(directory, stage="numbers", config={}, parents={}) as draft:
        for number in range(num_files):
            draft.write_array(f"part/{number}.npy", np.full(size, number, np.uint8))


def test_what_one_machine_publishes_another_one_opens_with_equal_bytes(
    buckets: BucketServer, address: str, tmp_path: Path
) -> None:
    here, there = (folder_of(address, tmp_path / name) / "numbers/a" for name in ("here", "there"))
    write(here)
    written = [path for method, path in buckets.requests if method in {"PUT", "POST"}]
    assert written[-1].endswith(f"numbers/a/{MANIFEST}")
    assert open_manifest(there, stage="numbers").files.keys() == {f"part/{n}.npy" for n in range(4)}
    assert not there.exists()
    opened = open_artifact(there, stage="numbers", check_digests=True)
    assert opened.manifest == open_artifact(here, stage="numbers").manifest
    assert np.load(there / "part/3.npy").tolist() == [3] * 100
    assert list_published(there.parent) == [there]
    with pytest.raises(ArtifactError, match="published already"):
        write(there)


def publish_there(directory: Path) -> None:
    write(directory)


def test_a_killed_upload_leaves_nothing_visible_and_goes_on_with_the_whole_files(
    buckets: BucketServer, address: str, tmp_path: Path
) -> None:
    directory = folder_of(address, tmp_path) / "numbers/a"
    process = multiprocessing.get_context("spawn").Process(target=publish_there, args=(directory,))

    def kill_before_the_manifest(method: str, path: str) -> tuple[str, bytes] | None:
        if method != "GET" and method != "HEAD" and path.endswith(f"/{MANIFEST}"):
            os.kill(int(process.pid or 0), signal.SIGKILL)
            return BUSY
        return None

    buckets.on_request = kill_before_the_manifest
    process.start()
    process.join()
    buckets.on_request = None
    assert process.exitcode == -signal.SIGKILL
    assert len(buckets.objects(address)) == 4
    assert not is_published(directory)
    elsewhere = folder_of(address, tmp_path / "elsewhere") / "numbers/a"
    with pytest.raises(ArtifactError, match="has not finished"):
        open_artifact(elsewhere, stage="numbers")
    buckets.requests.clear()
    assert finish(directory)
    written = {path.rpartition("/")[2] for method, path in buckets.requests if method == "PUT"}
    assert written == {MANIFEST}
    assert open_artifact(elsewhere, stage="numbers").path == elsewhere


def test_a_busy_server_is_asked_again_and_a_closed_one_is_named(
    buckets: BucketServer, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    directory = folder_of(address, tmp_path) / "numbers/a"
    # More than the client below tries by itself.
    refusals = iter([BUSY] * 4)
    buckets.on_request = lambda method, _path: next(refusals, None) if method == "PUT" else None
    write(directory, num_files=1)
    assert next(refusals, None) is None
    assert is_published(directory)
    buckets.on_request = lambda _method, _path: CLOSED
    with pytest.raises(StorageError, match=r"s3://tests/run-\d+/numbers/a/manifest.json: cannot"):
        open_artifact(folder_of(address, tmp_path / "b") / "numbers/a", stage="numbers")


def test_an_object_that_was_changed_is_refused_and_no_part_of_it_is_kept(
    buckets: BucketServer, address: str, tmp_path: Path
) -> None:
    write(folder_of(address, tmp_path) / "numbers/a")
    whole = buckets.objects(address)["numbers/a/part/2.npy"]
    buckets.put(address, "numbers/a/part/2.npy", whole[:-1] + b"\xff")
    elsewhere = folder_of(address, tmp_path / "elsewhere") / "numbers/a"
    with pytest.raises(ArtifactError, match=r"part/2.npy: wanted SHA-256"):
        open_artifact(elsewhere, stage="numbers")
    assert not elsewhere.exists()


def test_a_result_that_was_deleted_from_the_bucket_is_gone_here_too(
    buckets: BucketServer, address: str, tmp_path: Path
) -> None:
    here, there = (folder_of(address, tmp_path / name) / "numbers/a" for name in ("here", "there"))
    write(here)
    remove(there)
    assert not is_published(here)
    assert not buckets.objects(address)
    write(here, num_files=1)
    assert open_manifest(there, stage="numbers").files.keys() == {"part/0.npy"}
    assert sorted(path.name for path in (here / "part").iterdir()) == ["0.npy"]


def test_copies_in_excess_go_the_least_recently_opened_first_and_never_an_open_one(
    address: str, tmp_path: Path
) -> None:
    root = folder_of(address, tmp_path)
    set_limit(root, StorageConfig(cache_gib=2.5 / 1024))
    for name in ("a", "b"):
        write(root / "numbers" / name, num_files=1, size=MIB)
    open_artifact(root / "numbers/a", stage="numbers")
    write(root / "numbers/c", num_files=1, size=MIB)
    assert [(root / "numbers" / name).exists() for name in "abc"] == [True, False, True]
    open_artifact(root / "numbers/b", stage="numbers")
    assert [(root / "numbers" / name).exists() for name in "abc"] == [True, True, False]
    make_room(root, need_bytes=10 * MIB)
    assert [(root / "numbers" / name).exists() for name in "abc"] == [True, True, False]
    release(root / "numbers/a")
    make_room(root, need_bytes=10 * MIB)
    assert [(root / "numbers" / name).exists() for name in "abc"] == [False, True, False]


def test_what_killed_processes_left_of_copies_goes(address: str, tmp_path: Path) -> None:
    root = folder_of(address, tmp_path)
    write(root / "numbers/a", num_files=1)
    for name in (".x.leaving-7", ".old.arriving", ".new.arriving", ".busy.arriving"):
        (root / "numbers" / name).mkdir()
    (root / "numbers/.new.used").touch()
    (root / "checkpoints/run/.y.leaving-7").mkdir(parents=True)
    with (root / "numbers/.busy.fetch").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_room(root)
    left = [path.name for path in root.glob("**/.*") if path.is_dir()]
    assert sorted(left) == [".busy.arriving", ".new.arriving"]


def test_nobody_waits_for_a_copy_that_is_being_fetched_but_who_opens_it(
    buckets: BucketServer, address: str, tmp_path: Path
) -> None:
    root = folder_of(address, tmp_path / "here")
    for name in ("a", "b"):
        write(folder_of(address, tmp_path / "there") / "numbers" / name, num_files=1)
    open_artifact(root / "numbers/a", stage="numbers")
    waited = []

    def open_and_release_another_one() -> None:
        open_artifact(root / "numbers/a", stage="numbers")
        release(root / "numbers/a")

    def look(method: str, path: str) -> None:
        if method == "GET" and path.endswith("b/part/0.npy"):
            other = threading.Thread(target=open_and_release_another_one)
            other.start()
            other.join(2)
            waited.append(other.is_alive())

    buckets.on_request = look
    open_artifact(root / "numbers/b", stage="numbers")
    assert waited == [False]


def test_what_was_made_from_a_damaged_copy_is_gone_from_the_bucket_too(
    buckets: BucketServer, address: str, tmp_path: Path
) -> None:
    root = folder_of(address, tmp_path)
    write(root / "numbers/a", num_files=1)
    parents = {"numbers": open_artifact(root / "numbers/a", stage="numbers")}
    (root / "numbers/a/part/0.npy").write_bytes(b"\0" * 228)
    with (
        pytest.raises(ArtifactError, match="SHA-256"),
        publish(root / "sums/b", stage="sums", config={}, parents=parents) as draft,
        whole_parents(draft, parents),
    ):
        (draft.scratch / "pass-0.done").write_text("{}")
        shared.push(draft.scratch)
        assert any(name.endswith("pass-0.done") for name in buckets.objects(address))
        raise ValueError("a stage that cannot make sense of what it reads")
    assert not any(name.startswith("sums/") for name in buckets.objects(address))


def test_files_that_nodes_share_go_by_way_of_the_bucket(address: str, tmp_path: Path) -> None:
    here, there = (folder_of(address, tmp_path / name) for name in ("here", "there"))
    (here / "walks").mkdir(parents=True)
    (here / "walks/0.npy").write_bytes(b"zero")
    (here / "walks/.1.npy.tmp").write_bytes(b"half")
    shared.push(here / "walks")
    shared.pull(there / "walks")
    assert [path.name for path in (there / "walks").iterdir()] == ["0.npy"]
    shared.write_shared(here / "pointer.json", b"1")
    assert shared.read_shared(there / "pointer.json") == b"1"
    assert shared.list_shared(there).keys() == {"walks/0.npy", "pointer.json"}


def row_files(address: str, folder: Path) -> list[RowFile]:
    """Files of six rows of zeros, in the scratch of a draft on two nodes."""
    files = []
    for name in ("here", "there"):
        scratch = folder_of(address, folder / name) / "embeddings/.a.partial/.scratch"
        scratch.mkdir(parents=True)
        files.append(RowFile(scratch / "projected-0.npy"))
        files[-1].make(6, 2)
    return files


def test_rows_that_one_node_has_computed_are_in_the_files_of_another(
    address: str, tmp_path: Path
) -> None:
    files = row_files(address, tmp_path)
    here, there = (Exchange(file.path.parent) for file in files)
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    for exchange, file, some in ((here, files[0], slice(0, 4)), (there, files[1], slice(4, 6))):
        file.write(some.start, rows[some])
        exchange.give(file, some.start, some.stop)
    there.take(files[1])
    assert files[1].read().tolist() == rows.tolist()
    assert files[0].read()[4:].tolist() == [[0, 0], [0, 0]]


def test_rows_are_synced_before_they_are_noted_to_be_here(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = row_files(address, tmp_path)
    here, there = (Exchange(file.path.parent) for file in files)
    for start in (0, 3):
        here.give(files[0], start, start + 3)
    done = []

    def sync(file: RowFile) -> None:
        done.append(("sync", len(list(file.path.parent.glob(".rows-*.here")))))

    monkeypatch.setattr(RowFile, "sync", sync)
    there.take(files[1])
    assert done == [("sync", 0), ("sync", 1)]
    assert len(list(files[1].path.parent.glob(".rows-*.here"))) == 2


def test_rows_here_of_a_draft_that_another_one_has_replaced_are_taken_anew(
    address: str, tmp_path: Path
) -> None:
    files = row_files(address, tmp_path)
    here, there = (Exchange(file.path.parent) for file in files)
    note = files[0].path.parent.parent / PARENTS
    for value in (1, 2):
        shared.write_shared(note, f"parents {value}".encode())
        files[0].write(0, np.full((6, 2), value, np.float32))
        here.give(files[0], 0, 6)
        for _ in range(2):
            there.begin()
            there.take(files[1])
            assert files[1].read().tolist() == [[value, value]] * 6

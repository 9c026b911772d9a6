"""The log of writes: nothing that was kept is lost, nothing that is torn is taken for whole."""

import errno
import multiprocessing
from pathlib import Path

import pytest

from pinsage.base.errors import ArtifactError
from serve.log import LOG_FILE, WriteLog, main, written_line

RECORDS = [
    {"op": "put", "key": "a\nb", "item": {"title": "\u00fc"}},
    {"op": "delete", "key": "a\nb"},
    {"op": "put", "key": "", "item": {"contexts": ["x"] * 5}},
]
LINES = [written_line(record) for record in RECORDS]


def write(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG_FILE).write_bytes(content)


def saved(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.glob(f"{LOG_FILE}.torn-*")]


def test_a_log_cut_at_any_byte_gives_its_whole_records_and_takes_new_ones(tmp_path: Path):
    content = b"".join(LINES)
    ends = [sum(map(len, LINES[:number])) for number in range(len(LINES) + 1)]
    for cut in range(len(content) + 1):
        folder = tmp_path / str(cut)
        write(folder, content[:cut])
        whole = max(number for number, end in enumerate(ends) if end <= cut)
        log = WriteLog(folder)
        assert log.read() == RECORDS[:whole]
        # A reader leaves the end alone: somebody may be writing it.
        assert (folder / LOG_FILE).read_bytes() == content[:cut]
        assert WriteLog(folder).append({"key": "new"}) == RECORDS[:whole]
        assert log.read() == [{"key": "new"}]
        assert WriteLog(folder).read() == [*RECORDS[:whole], {"key": "new"}]
        torn = content[ends[whole] : cut]
        assert saved(folder) == ([torn] if torn else [])


@pytest.mark.parametrize(
    ("broken", "how"),
    # The last record without its line break is a torn end.
    [
        (b, how)
        for b in range(3)
        for how in ("bit", "zeros", "split", "gone")
        if (b, how) != (2, "zeros")
    ],
)
def test_damage_is_told_with_its_place_and_mended_on_request(tmp_path: Path, broken: int, how: str):
    lines = list(LINES)
    old = lines[broken]
    lines[broken] = {
        "bit": old[:30] + bytes([old[30] ^ 1]) + old[31:],
        "zeros": bytes(len(old)),
        "split": old[:25] + b"\n" + old[25:],
        "gone": old[10:],
    }[how]
    write(tmp_path, b"".join(lines))
    at = sum(map(len, LINES[:broken]))
    for act in (lambda log: log.read(), lambda log: log.append({"key": "new"})):
        with pytest.raises(ArtifactError, match=rf"at byte {at}, .*serve\.log mend"):
            act(WriteLog(tmp_path))
    assert (tmp_path / LOG_FILE).read_bytes() == b"".join(lines)
    assert main(["check", str(tmp_path)]) == 2
    assert main(["mend", str(tmp_path)]) == 0
    kept = [record for number, record in enumerate(RECORDS) if number != broken]
    assert WriteLog(tmp_path).read() == kept
    assert main(["check", str(tmp_path)]) == 0
    assert b"".join(saved(tmp_path)) in b"".join(lines)


def test_everyone_reads_a_compacted_log_from_its_beginning(tmp_path: Path):
    log, other = WriteLog(tmp_path), WriteLog(tmp_path)
    for record in RECORDS:
        log.append(record)
    assert other.has_changed
    assert other.read() == RECORDS
    assert not other.has_changed
    log.compact(lambda records: records[1:])
    assert other.has_changed
    assert other.read() == log.read() == RECORDS[1:]
    assert other.append({"key": "new"}) == []
    assert log.read() == [{"key": "new"}]


def test_what_others_have_added_is_still_read_after_a_write_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log, other = WriteLog(tmp_path), WriteLog(tmp_path)
    log.append(RECORDS[0])
    other.append(RECORDS[1])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        with pytest.raises(OSError, match="No space"):
            log.append(RECORDS[2])
    assert log.has_changed
    assert log.read() == [RECORDS[1]]
    assert not log.has_changed


def test_a_first_record_whose_file_may_not_outlive_a_loss_of_power_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def failing(_folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    log, other = WriteLog(tmp_path), WriteLog(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("serve.log.sync_directory", failing)
        with pytest.raises(OSError, match="Input/output"):
            log.append(RECORDS[0])
    assert other.read() == []
    assert log.append(RECORDS[1]) == []
    assert other.read() == [RECORDS[1]]


def test_a_log_that_vanished_takes_nothing_more_until_it_is_back(tmp_path: Path):
    log = WriteLog(tmp_path)
    log.append(RECORDS[0])
    kept = (tmp_path / LOG_FILE).rename(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="its 1 records were here, and the file is gone"):
        log.append(RECORDS[1])
    assert not (tmp_path / LOG_FILE).exists()
    kept.rename(tmp_path / LOG_FILE)
    assert log.append(RECORDS[1]) == []
    assert WriteLog(tmp_path).read() == RECORDS[:2]


def test_what_many_processes_append_at_once_is_all_there_and_whole(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=append_many, args=(tmp_path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    keys = [record["key"] for record in WriteLog(tmp_path).read()]
    assert sorted(keys) == sorted(f"{name}{number}" for name in "abc" for number in range(20))
    # Each process's own stand in its order.
    for name in "abc":
        assert [key for key in keys if key[0] == name] == [f"{name}{n}" for n in range(20)]


def append_many(folder: Path, name: str) -> None:
    log = WriteLog(folder)
    for number in range(20):
        log.append({"key": f"{name}{number}"})


def test_a_torn_end_that_the_disk_has_no_room_for_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path, LINES[0] + LINES[1][:-3])

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr("serve.log.os.fsync", full)
        WriteLog(tmp_path).append({"key": "new"})
    assert saved(tmp_path) == []
    assert WriteLog(tmp_path).append({"key": "new"}) == RECORDS[:1]
    assert saved(tmp_path) == [LINES[1][:-3]]

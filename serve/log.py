"""The log of writes: one line each, appended whole and synced before anybody is answered.

    length and CRC-32 of the JSON text, 8 hex digits each, then the text: `0000002f 1c291ca3 {...}`

Any number of processes share the file, by a lock on a file beside it. Who was killed half way
leaves a torn end, without a line break, which the next one to write saves beside the log and cuts
off: nobody was answered for it. Any other bad line is damage, which is never passed over: see
`mend`.
"""

import argparse
import fcntl
import logging
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pinsage.base.errors import ArtifactError
from pinsage.base.files import sync_directory, whole_file
from pinsage.base.interrupts import hear_ctrl_c

logger = logging.getLogger("pinsage.serve")

LOG_FILE = "writes.log"
_LOCK_FILE = "writes.lock"
_HEAD_BYTES = 18
_HEAD = re.compile(rb"[0-9a-f]{8} [0-9a-f]{8} ")

Record = dict[str, Any]

Place = tuple[int, int]
"""Which file a log is, by its inode, and how many bytes of it."""


@dataclass(frozen=True)
class _Read:
    """What some bytes of a log hold.

    Attributes:
        records: the whole records, in order.
        size: bytes up to the end of the last line; behind it a write was interrupted.
        bad: where damage begins and ends.
    """

    records: list[Record]
    size: int
    bad: list[tuple[int, int]]


class WriteLog:
    """The log of one folder, as one process reads and extends it; not for several threads."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made with the first write.

        Args:
            folder: shared by all replicas.
        """
        self._folder = folder
        self._path = folder / LOG_FILE
        self._name = str(self._path)
        self._inode = 0
        self._read_bytes = 0
        self._seen_bytes = 0
        self.num_records = 0
        """Records of the file, as far as it was read."""

    @property
    def has_changed(self) -> bool:
        """Whether others have written since this process looked last; costs one `stat`."""
        return self.found() not in (None, self.place)

    @property
    def place(self) -> Place:
        """How far this process has looked."""
        return self._inode, self._seen_bytes

    def found(self) -> Place | None:
        """Tell how far the log goes now, by one `stat`; None if there is none."""
        try:
            # Every question about an item asks; `Path.stat` takes twice as long.
            found = os.stat(self._name)  # noqa: PTH116
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size

    def read(self) -> list[Record]:
        """Give the records that were added since the last time; all again if the file is another.

        Raises:
            ArtifactError: there is damage.
            OSError: the file cannot be read.
        """
        if not self._path.exists():
            return []
        with self._locked(write=False), self._opened(os.O_RDONLY) as handle:
            records, _ = self._catch_up(handle)
            return records

    def append(self, record: Mapping[str, Any]) -> list[Record]:
        """Keep a record for good.

        Returns:
            What others had added before it, since the last time.

        Raises:
            ArtifactError: there is damage, or the log is gone; nothing is added.
            OSError: the record could not be kept; then it isn't there.
        """
        line = written_line(record)
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked(write=True), self._opened(self._how_to_write()) as handle:
            before = self._inode, self._read_bytes, self.num_records
            others, torn = self._catch_up(handle)
            try:
                if torn:
                    self._cut(handle, torn)
                if self._read_bytes == 0:
                    # The file's name must outlive a loss of power as its records do.
                    sync_directory(self._folder)
                _append(handle, line, at=self._read_bytes)
            except OSError:
                # Nobody is given what others have added, so it is still to be read.
                self._inode, self._read_bytes, self.num_records = before
                self._seen_bytes = -1
                raise
            self._read_bytes += len(line)
            self._seen_bytes = self._read_bytes
            self.num_records += 1
            return others

    def _how_to_write(self) -> int:
        """Say how to open the file; only one that this process has seen nothing of is made."""
        if self._read_bytes == 0:
            return os.O_RDWR | os.O_CREAT
        if not self._path.exists():
            raise ArtifactError(
                f"{self._path}: its {self.num_records} records were here, and the file is gone; "
                "put it back, or start the server again to go on without them"
            )
        return os.O_RDWR

    def compact(self, kept: Callable[[list[Record]], list[Record]]) -> None:
        """Put a shorter log in this one's place; every process reads it anew from its beginning.

        Args:
            kept: chooses among all records.

        Raises:
            ArtifactError: there is damage; the log stays as it is.
            OSError: it could not be written; the log stays as it is.
        """
        try:
            with self._locked(write=True):
                with self._opened(os.O_RDONLY) as handle:
                    self._inode = 0
                    records, torn = self._catch_up(handle)
                if torn:
                    _saved_beside(self._path, torn)
                _publish(self._path, map(written_line, kept(records)))
        finally:
            # What others have added is given to nobody here.
            self._inode = 0

    @contextmanager
    def _locked(self, *, write: bool) -> Iterator[None]:
        """Keep other processes from writing, or from reading as well."""
        path = self._folder / _LOCK_FILE
        mode = os.O_RDONLY if not write and path.exists() else os.O_RDWR | os.O_CREAT
        handle = os.open(path, mode, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _opened(self, mode: int) -> Iterator[int]:
        handle = os.open(self._path, mode, 0o600)
        try:
            yield handle
        finally:
            os.close(handle)

    def _catch_up(self, handle: int) -> tuple[list[Record], bytes]:
        """Read what was added, and tell what stands torn behind it."""
        found = os.fstat(handle)
        if found.st_ino != self._inode or found.st_size < self._read_bytes:
            self._inode, self._read_bytes, self.num_records = found.st_ino, 0, 0
        added = _bytes_from(handle, self._read_bytes, found.st_size)
        read = _read_lines(added)
        if read.bad:
            at = self._read_bytes + read.bad[0][0]
            raise ArtifactError(
                f"{self._path}: wanted a whole record at byte {at}, found a damaged one; restore "
                f"the file, or keep what can be read with `python -m serve.log mend "
                f"{self._folder}`, which saves the rest beside it"
            )
        self._read_bytes += read.size
        self._seen_bytes = found.st_size
        self.num_records += len(read.records)
        return read.records, added[read.size :]

    def _cut(self, handle: int, torn: bytes) -> None:
        saved = _saved_beside(self._path, torn)
        os.ftruncate(handle, self._read_bytes)
        logger.warning(
            "%s: a write was interrupted at byte %d, and nobody was answered for it; its %d bytes "
            "are saved as %s",
            self._path,
            self._read_bytes,
            len(torn),
            saved.name,
        )


def written_line(record: Mapping[str, Any]) -> bytes:
    """Write a record as a line of the log."""
    text = orjson.dumps(record)
    return b"%08x %08x %b\n" % (len(text), zlib.crc32(text), text)


def last_by_key(records: Iterable[Record]) -> list[Record]:
    """Choose the last record of every key, in the order of the log."""
    last: dict[str, Record] = {}
    for record in records:
        last.pop(record["key"], None)
        last[record["key"]] = record
    return list(last.values())


def mend(folder: Path) -> tuple[int, int]:
    """Keep the whole records of a damaged log, and save the bad lines beside it.

    Returns:
        How many records there are, and how many bytes were bad.

    Raises:
        OSError: the log cannot be read or replaced.
    """
    log = WriteLog(folder)
    path = folder / LOG_FILE
    with log._locked(write=True):
        content = path.read_bytes()
        read = _read_lines(content)
        bad = b"".join(content[start:stop] for start, stop in read.bad) + content[read.size :]
        if bad:
            _saved_beside(path, bad)
            _publish(path, map(written_line, read.records))
    return len(read.records), len(bad)


def _read_lines(content: bytes) -> _Read:
    records: list[Record] = []
    bad: list[tuple[int, int]] = []
    start = whole = 0
    while (end := content.find(b"\n", start)) >= 0:
        # Where a line break was lost, a record stands at the end of a longer line.
        for begin in (
            start,
            *(start + found.start() for found in _HEAD.finditer(content[start:end])),
        ):
            record = _record(content[begin:end])
            if record is not None:
                if begin > whole:
                    bad.append((whole, begin))
                records.append(record)
                whole = end + 1
                break
        start = end + 1
    if start > whole:
        bad.append((whole, start))
    return _Read(records, start, bad)


def _record(line: bytes) -> Record | None:
    """Read one line; None if it isn't whole."""
    text = line[_HEAD_BYTES:]
    if line[:_HEAD_BYTES] != b"%08x %08x " % (len(text), zlib.crc32(text)):
        return None
    record = orjson.loads(text)
    assert isinstance(record, dict)
    return record


def _append(handle: int, line: bytes, *, at: int) -> None:
    try:
        done = 0
        while done < len(line):
            done += os.pwrite(handle, line[done:], at + done)
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, at)
        raise


def _bytes_from(handle: int, start: int, stop: int) -> bytes:
    parts = []
    while start < stop and (part := os.pread(handle, stop - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _saved_beside(path: Path, content: bytes) -> Path:
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.torn-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        Path(name).unlink()
        raise
    return Path(name)


def _publish(path: Path, lines: Iterable[bytes]) -> None:
    """Write a whole file, and put it in another one's place."""
    with whole_file(path) as temporary:
        temporary.touch(0o600)
        temporary.write_bytes(b"".join(lines))
    sync_directory(path.parent)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check or mend a log; returns the exit status."""
    hear_ctrl_c()
    parser = argparse.ArgumentParser(prog="python -m serve.log", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (("check", "count the records"), ("mend", "keep what can be read")):
        command = commands.add_parser(name, help=about)
        command.add_argument("folder", type=Path, help="where the log is")
    options = parser.parse_args(arguments)
    try:
        if not options.folder.is_dir():
            raise FileNotFoundError(f"{options.folder}: no such folder; wanted <output>/writes")
        if options.command == "check":
            print(f"{len(WriteLog(options.folder).read())} records")
        else:
            records, bad_bytes = mend(options.folder)
            print(f"{records} records; {bad_bytes} bad bytes were saved beside the log")
    except (ArtifactError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

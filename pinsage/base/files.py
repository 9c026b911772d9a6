"""Files of this machine, whole or not there at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; on a clean exit it replaces `target` in one step."""
    # Not the number of the process: those of two nodes that share a folder may be equal.
    temporary = target.with_name(f".{target.name}.{uuid4().hex[:12]}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there, under another name: nobody ever finds a part of it.

    What a process that was killed meanwhile has left goes too.
    """
    leaving = path.with_name(f"{path.name}.leaving")
    shutil.rmtree(leaving, ignore_errors=True)
    with suppress(FileNotFoundError):
        path.rename(leaving)
    shutil.rmtree(leaving, ignore_errors=True)


def sync_directory(path: Path) -> None:
    """Make what was renamed in a directory outlast a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

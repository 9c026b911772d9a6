"""`Draft`: a directory being written, under a temporary name, by one process at a time.

What a stage has written is worth keeping only for the parents it was made from: a fingerprint does
not tell a model from one that was trained again. So a draft notes their digests, here and in its
bucket, and what was written for others is dropped.
"""

import fcntl
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from pinsage.base import copies, shared
from pinsage.base.addresses import shown
from pinsage.base.errors import ArtifactError
from pinsage.base.files import remove_folder, whole_file
from pinsage.base.manifest import canonical

_log = logging.getLogger(__name__)

PARENTS = ".parents.json"
"""The file of a draft that names the digests of what it is made from; none if that is nothing."""

_TRIES = 5
_PAUSE_S = 0.1


@dataclass
class Draft:
    """A directory being written."""

    path: Path
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def scratch(self) -> Path:
        """A folder for what the stage needs while it works; gone when it publishes."""
        path = self.path / ".scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def discard(self) -> None:
        """Drop the scratch, and the directory if nothing else is in it."""
        remove_folder(self.path / ".scratch")
        if self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {PARENTS}:
            shutil.rmtree(self.path)

    def has(self, name: str) -> bool:
        """Tell whether a whole file of this name is there, from this run or one before it."""
        return (self.path / name).exists()

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Give a temporary path; on a clean exit it becomes the file `name`, whole."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as temporary:
            yield temporary

    def write_array(self, name: str, array: npt.NDArray[Any]) -> None:
        """Write one `.npy` file."""
        with self.file(name) as path, path.open("wb") as out:
            np.save(out, array, allow_pickle=False)

    def write_json(self, name: str, value: object) -> None:
        """Write one indented JSON file."""
        with self.file(name) as path:
            path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def draft_of(directory: Path) -> Path:
    """Name the draft of a directory that is to be published."""
    return directory.parent / f".{directory.name}.partial"


def begin_draft(path: Path, parents: Mapping[str, str]) -> None:
    """Make a draft's directory; keep what is there, or in its bucket, if it has these parents.

    Args:
        path: the draft.
        parents: stage name to the digest of that parent's manifest.
    """
    path.mkdir(exist_ok=True)
    if not parents:
        return
    note, wanted = path / PARENTS, canonical(dict(parents))
    if any(path.iterdir()) and not (note.exists() and note.read_bytes() == wanted):
        _log.info("%s: begun anew, since its files may be made from other parents", shown(path))
        _drop_here(path)
        path.mkdir()
    if shared.read_shared(note) != wanted:
        copies.remove_sent(path)
        shared.write_shared(note, wanted)
    if not note.exists():
        with whole_file(note) as temporary:
            temporary.write_bytes(wanted)


def drop_draft(path: Path) -> None:
    """Remove a draft, here and in its bucket."""
    copies.remove_sent(path)
    _drop_here(path)


def _drop_here(path: Path) -> None:
    # First, and whole: what is marked as done in it would be taken for done.
    remove_folder(path / ".scratch")
    shutil.rmtree(path)


def _locked(lock: TextIO) -> bool:
    """Take a lock, unless a process keeps it; whoever asks whether it is taken has it a moment."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        else:
            return True
    return False


@contextmanager
def sole_writer(directory: Path) -> Iterator[None]:
    """Keep others from writing a directory; the system lets them when this process dies.

    Raises:
        ArtifactError: another process is writing it.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with draft_of(directory).with_suffix(".lock").open("w") as lock:
        if not _locked(lock):
            raise ArtifactError(
                f"{shown(directory)}: another process is writing it; wait for that one to finish"
            )
        # The file stays: without it, two writers could hold locks on two files of one name.
        yield

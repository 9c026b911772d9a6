"""Rows that one node has computed and others need, brought to them through the output's bucket.

On one machine, and on machines that share the output folder, passes find each other's rows in its
files, and nothing here does anything.
"""

import fcntl
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pinsage.base import shared
from pinsage.base.addresses import place_of
from pinsage.base.arrays import read_array
from pinsage.base.drafts import PARENTS
from pinsage.base.storage import list_objects, read_object, write_object
from pinsage.graph.rows import RowFile

MARK_SUFFIX = ".done"

_ROWS = "rows"
_CHUNK = re.compile(r"(\d{12})-(\d{12})\.npy")


class Exchange:
    """The rows of one run's passes in a bucket, a chunk an object."""

    def __init__(self, folder: Path) -> None:
        """Name the folder that the passes work in."""
        self._folder = folder
        self._place = place_of(folder)

    def begin(self) -> None:
        """Forget the rows here of a draft that another one, of other parents, has replaced."""
        if self._place is None:
            return
        here = self._folder / PARENTS
        parents = shared.read_shared(self._folder.parent / PARENTS) or b""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.sole():
            if not here.exists() or here.read_bytes() != parents:
                self._forget("*")
                for plan in self._folder.glob("*-update.npy"):
                    plan.unlink()
                here.write_bytes(parents)

    @property
    def is_open(self) -> bool:
        """Tell whether there is a bucket to exchange rows through."""
        return self._place is not None

    def give(self, file: RowFile, start: int, stop: int) -> None:
        """Send the rows in [start, stop) of a file to where other nodes find them."""
        if self._place is None:
            return
        name = self._name(file, start, stop)
        out = io.BytesIO()
        np.save(out, file.read()[start:stop], allow_pickle=False)
        write_object(self._place.under(name), out.getvalue())
        self._note(name)

    @contextmanager
    def sole(self) -> Iterator[None]:
        """Keep other processes of this machine from making files and taking rows meanwhile."""
        if self._place is None:
            yield
            return
        with (self._folder / ".exchange.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def take(self, file: RowFile) -> None:
        """Write into a file the rows that other nodes have sent, and that are not in it yet."""
        if self._place is None:
            return
        place = self._place.under(f"{_ROWS}/{file.path.stem}")
        for chunk in sorted(list_objects(place)):
            found = _CHUNK.fullmatch(chunk)
            name = f"{_ROWS}/{file.path.stem}/{chunk}"
            if found is None or self._noted(name).exists():
                continue
            content = read_object(place.under(chunk))
            assert content is not None
            file.write(int(found[1]), read_array(io.BytesIO(content)))
            # A note must not outlive its rows, should the machine lose power.
            file.sync()
            self._note(name)

    def forget(self, file: RowFile) -> None:
        """Take all rows of a file again, should it be made again: it leaves the folder."""
        self._forget(file.path.stem)

    def keep_only_shared_marks(self) -> None:
        """Fetch the marks of other nodes, and drop those here whose rows no other node can have."""
        if self._place is None:
            return
        shared.pull(self._folder, suffix=MARK_SUFFIX)
        there = {name for name in list_objects(self._place) if name.endswith(MARK_SUFFIX)}
        for path in self._folder.glob(f"*{MARK_SUFFIX}"):
            if path.name not in there:
                path.unlink()

    def _name(self, file: RowFile, start: int, stop: int) -> str:
        return f"{_ROWS}/{file.path.stem}/{start:012d}-{stop:012d}.npy"

    def _forget(self, stem: str) -> None:
        for note in self._folder.glob(f".{_ROWS}-{stem}-*.here"):
            note.unlink()

    def _noted(self, name: str) -> Path:
        return self._folder / f".{name.replace('/', '-')}.here"

    def _note(self, name: str) -> None:
        """Remember, for all processes of this machine, that rows are in its file."""
        self._noted(name).touch()

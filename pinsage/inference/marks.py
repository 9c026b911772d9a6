"""Passes over rows, cut into chunks, and what is done of them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinsage.base.files import whole_file
from pinsage.base.machine import boot_id

_BOOT = "boot"
"""Names the run of the machine in which rows were written that are not synced to the disk."""

_PLACE = "place"
"""Names the folder in which marks were set: a copy is another one."""

Chunk = tuple[int, int]
"""The first row of a group, and the one after its last."""


@dataclass(frozen=True)
class Pass:
    """One pass over all items, or over all contexts.

    Attributes:
        name: what its marks begin with.
        total: how many rows.
        size: rows of a chunk.
    """

    name: str
    total: int
    size: int

    def chunks(self) -> list[Chunk]:
        """Cut the rows."""
        starts = range(0, self.total, self.size)
        return [(start, min(start + self.size, self.total)) for start in starts]


class Marks:
    """What is done: a file for every chunk, and one for every whole pass."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hold_until_restart(self) -> bool:
        """Let marks be set from now on for rows that were written, but not synced to the disk.

        Processes may be killed; but a machine that starts anew may have lost such rows.

        Returns:
            Whether a restart would be noticed; else rows must be synced.
        """
        boot = boot_id()
        if boot is not None:
            with whole_file(self._folder / _BOOT) as temporary:
                temporary.write_text(boot, encoding="ascii")
        return boot is not None

    def drop_lost(self) -> bool:
        """Drop all marks if their rows were not synced, and the machine was restarted since.

        Returns:
            Whether it was.
        """
        noted = self._folder / _BOOT
        if not noted.exists() or noted.read_text(encoding="ascii") == boot_id():
            return False
        self.drop_all()
        noted.unlink()
        return True

    @property
    def may_be_copied(self) -> bool:
        """Tell whether marks may have come by a copy, whose rows may be older than they are."""
        noted = self._folder / _PLACE
        return not noted.exists() or noted.read_text(encoding="ascii") != self._place

    def note_place(self) -> None:
        """Take marks set here from now on, and those there are, for what they say."""
        with whole_file(self._folder / _PLACE) as temporary:
            temporary.write_text(self._place, encoding="ascii")

    @property
    def _place(self) -> str:
        return str(self._folder.stat().st_ino)

    def drop_damaged(self) -> bool:
        """Drop all marks if one of them cannot be read.

        Returns:
            Whether there was one.
        """
        try:
            for path in self._folder.glob("*.done"):
                _load(path)
        except ValueError:
            self.drop_all()
            return True
        return False

    def drop_all(self) -> None:
        """Drop the marks of all passes."""
        for mark in self._folder.glob("*.done"):
            mark.unlink()

    def drop(self, name: str, chunk: Chunk) -> None:
        """Drop the mark of a chunk."""
        self._of_chunk(name, chunk).unlink()

    def chunks(self, name: str) -> list[tuple[Chunk, dict[str, Any]]]:
        """List the chunks of a pass that are marked, however they were cut, and their receipts."""
        found = []
        for path in sorted(self._folder.glob(f"{name}-*-*.done")):
            start, stop = path.stem.split("-")[-2:]
            found.append(((int(start), int(stop)), _load(path)))
        return found

    def set(self, name: str, chunk: Chunk, receipt: dict[str, Any]) -> None:
        """Mark a chunk, whose rows are written, and synced unless `hold_until_restart` allows."""
        self._save(self._of_chunk(name, chunk), receipt)

    def path(self, name: str, chunk: Chunk) -> Path:
        """Name the file of a chunk's mark."""
        return self._of_chunk(name, chunk)

    def is_set(self, name: str, chunk: Chunk) -> bool:
        """Tell whether a chunk cut like this is done."""
        return self._of_chunk(name, chunk).exists()

    def finish(self, stage: Pass) -> None:
        """Mark a whole pass, all of whose chunks are done; its receipt does not tell the cuts."""
        receipts = [_load(self._of_chunk(stage.name, chunk)) for chunk in stage.chunks()]
        digests = [digest for receipt in receipts for digest in receipt.get("digests", [])]
        whole = {
            "rows": sum(receipt["rows"] for receipt in receipts),
            "convolutions": sum(receipt["convolutions"] for receipt in receipts),
        }
        if digests:
            whole["digest"] = hashlib.sha256("".join(digests).encode()).hexdigest()
        self._save(self._of_pass(stage.name), whole)

    def receipt(self, name: str) -> dict[str, Any] | None:
        """Give the receipt of a whole pass; None if it is not done."""
        path = self._of_pass(name)
        return _load(path) if path.exists() else None

    def _of_chunk(self, name: str, chunk: Chunk) -> Path:
        """Name a chunk by both its ends: a rerun may cut the rows differently."""
        return self._folder / f"{name}-{chunk[0]:012d}-{chunk[1]:012d}.done"

    def _of_pass(self, name: str) -> Path:
        return self._folder / f"{name}.done"

    def _save(self, path: Path, receipt: dict[str, Any]) -> None:
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(receipt), encoding="utf-8")


def _load(path: Path) -> dict[str, Any]:
    receipt: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return receipt

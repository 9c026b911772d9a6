"""Pieces of a graph being built: arrays on disk that belong together, whole or not at all.

A piece is a folder. It is written under a temporary name and renamed, so that a build that was
killed goes on with the pieces it finds.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from pinsage.base.arrays import map_array

_FACTS = "facts.json"


class MappedArrays(Mapping[str, np.ndarray]):
    """The arrays of a folder, each memory-mapped anew when asked for.

    What is held is names alone: a map keeps its file open, and a process may open few files.
    """

    def __init__(self, folder: Path) -> None:
        """Look which arrays there are."""
        self._paths = {path.stem: path for path in sorted(folder.glob("*.npy"))}

    def __getitem__(self, name: str) -> np.ndarray:
        # As a plain array: compiled code then takes it as it takes any other.
        return np.asarray(map_array(self._paths[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, name: object) -> bool:
        return name in self._paths


@dataclass(frozen=True)
class Piece:
    """A piece, opened; its arrays are memory-mapped as they are asked for."""

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    """What else is known of it, as JSON holds it."""

    def get(self, name: str) -> np.ndarray | None:
        """Give an array, or None if the piece has none of that name."""
        return self.arrays.get(name)


def save_piece(
    folder: Path,
    arrays: Mapping[str, np.ndarray | None],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write a piece; arrays that are None are left out, and one that is there already is kept."""
    # Not the process's number: those of two nodes that share a folder may be equal.
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex[:12]}.tmp")
    temporary.mkdir(parents=True)
    try:
        _write(temporary, arrays, facts or {})
        temporary.rename(folder)
    except OSError as error:
        # What is left of it would keep a full disk full.
        shutil.rmtree(temporary, ignore_errors=True)
        # A run that was killed right after, or another worker, has written the same.
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST} or not has_piece(folder):
            raise


def _write(folder: Path, arrays: Mapping[str, np.ndarray | None], facts: Mapping[str, Any]) -> None:
    for name, array in arrays.items():
        if array is not None:
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb") as written:
            os.fsync(written.fileno())


def open_piece(folder: Path) -> Piece:
    """Open a whole piece.

    Raises:
        FileNotFoundError: it is not there.
    """
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    return Piece(MappedArrays(folder), facts)


def has_piece(folder: Path) -> bool:
    """Tell whether a whole piece is there."""
    return (folder / _FACTS).exists()

"""Files that all nodes of a run read and write: in its folder, or in its bucket.

All functions take local paths. Where those have no place in a bucket, nothing is fetched or sent,
and small files are read and written where they are.
"""

import os
import threading
from pathlib import Path

from pinsage.base.addresses import Place, place_of
from pinsage.base.errors import ArtifactError
from pinsage.base.files import sync_directory, whole_file
from pinsage.base.storage import (
    Stored,
    fetch_file,
    has_object,
    list_objects,
    read_object,
    send_file,
    side_by_side,
    stat_object,
    write_object,
)


def push(path: Path) -> None:
    """Send a file, or all whole files of a folder, to their place; nothing without one.

    Raises:
        StorageError: one could not be sent.
    """
    place = place_of(path)
    if place is None or not path.exists():
        return
    if path.is_file():
        send_file(path, place)
        return
    names = [
        file.relative_to(path).as_posix()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    ]
    side_by_side(lambda name: send_file(path / name, place.under(name)), names)


def pull(folder: Path, *, suffix: str = "") -> None:
    """Fetch the files of a folder that other nodes have sent, and that are not here.

    Args:
        folder: where they are to be.
        suffix: what their names end with.

    Raises:
        StorageError: one could not be fetched.
    """
    place = place_of(folder)
    if place is None:
        return
    missing = [
        name
        for name in list_objects(place)
        if name.endswith(suffix) and not (folder / name).exists()
    ]
    side_by_side(lambda name: fetch_whole(place.under(name), folder / name), missing)


def pull_file(path: Path) -> None:
    """Fetch one file anew if its bucket has it.

    Raises:
        StorageError: it could not be fetched.
    """
    place = place_of(path)
    if place is not None and is_stored(path):
        fetch_whole(place, path)


def is_stored(path: Path) -> bool:
    """Tell whether a file is there: in the bucket, if it has a place in one."""
    place = place_of(path)
    if place is None:
        return path.exists()
    return has_object(place)


def read_shared(path: Path) -> bytes | None:
    """Read a small file that all nodes share, from its bucket if it has a place in one."""
    place = place_of(path)
    if place is not None:
        return read_object(place)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def written_at(path: Path) -> float:
    """Tell when a file that is there was written, in seconds since 1970."""
    place = place_of(path)
    return path.stat().st_mtime if place is None else stat_object(place).written_s


def write_shared(path: Path, content: bytes) -> None:
    """Write a small file that all nodes share, whole, into its bucket if it has a place in one."""
    place = place_of(path)
    if place is not None:
        write_object(place, content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
    sync_directory(path.parent)


def list_shared(folder: Path) -> dict[str, Stored]:
    """List the files of a folder and below, in its bucket if it has a place in one.

    Returns:
        Names as seen from the folder, to what is known of them.
    """
    place = place_of(folder)
    if place is not None:
        return list_objects(place)
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            stat = path.stat()
            found[path.relative_to(folder).as_posix()] = Stored(stat.st_size, stat.st_mtime)
    return found


def fetch_whole(place: Place, path: Path, *, wanted_sha256: str | None = None) -> None:
    """Fetch an object into a file that is there whole or not at all.

    Raises:
        ArtifactError: its SHA-256 is not the one wanted.
        StorageError: it could not be fetched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        found = fetch_file(place, temporary)
        if wanted_sha256 not in {None, found}:
            raise ArtifactError(
                f"{place}: wanted SHA-256 {wanted_sha256}, found {found}, so it was changed after "
                "it was published; delete its directory in the bucket and rerun the stage"
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

"""Copies on this machine of what is published in a bucket.

A published directory is fetched once a machine, checked against its manifest, and kept in the
folder that stands for the output. Processes share it: who has opened it holds a lock until it ends
or releases it, and what nobody holds may go when room is needed, the least recently opened first.

All functions take local paths, and do nothing, or what is plain, where those have no place in a
bucket.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pinsage.base.addresses import Place, StorageConfig, place_of, root_of
from pinsage.base.errors import ArtifactError
from pinsage.base.manifest import MANIFEST, FileEntry, Manifest
from pinsage.base.shared import fetch_whole, is_stored
from pinsage.base.storage import (
    list_objects,
    read_object,
    remove_objects,
    remove_tree,
    send_file,
    side_by_side,
    write_object,
)

_log = logging.getLogger(__name__)

LIMIT_FILE = "cache.json"
"""In an output in a bucket, says what its copies may take on a node."""

_GIB = 2**30

_COPIES = ("[!.]*/[!.]*", "checkpoints/[!.]*/[!.]*")
"""Where copies are: stages, and the states of trainings."""

_FORSAKEN_S = 86_400.0
"""After so long, nobody goes on fetching what a killed process had begun to."""

_held: dict[Path, int] = {}
_holding = threading.RLock()


def hold(directory: Path) -> None:
    """Have a copy of a published directory here until it is released; fetch it if need be.

    What is not released is held until this process ends.

    Raises:
        ArtifactError: it is not published, or what is in the bucket is not what its manifest says.
        StorageError: it could not be fetched.
    """
    place = place_of(directory)
    if place is None:
        return
    with _holding:
        if directory in _held and (directory / MANIFEST).exists():
            return
        _hold_lock(directory)
    # Outside, so that nobody who has or lets go of other copies waits while one is fetched.
    content = read_object(place.under(MANIFEST))
    if content is None:
        raise ArtifactError(f"{place}: no {MANIFEST}, so its stage has not finished; run it first")
    if not _is_same(directory, content):
        with _locked(_beside(directory, "fetch")):
            if not _is_same(directory, content):
                _fetch(place, directory, content)


def release(directory: Path) -> None:
    """Let a copy go once room is needed: this process opens nothing of it any more."""
    with _holding:
        handle = _held.pop(directory, None)
        if handle is not None:
            os.close(handle)


def send(draft: Path, directory: Path, files: Mapping[str, FileEntry]) -> None:
    """Send a whole draft to where its directory belongs, the manifest last.

    Files that an interrupted run had sent are not sent again.

    Raises:
        StorageError: one could not be sent; nothing is visible then.
    """
    place = place_of(directory)
    if place is None:
        return
    ledger = _beside(directory, "sent")
    sent = _read_ledger(ledger) if ledger.exists() else {}
    there = list_objects(place) if sent else {}
    todo = [
        name
        for name, entry in files.items()
        if sent.get(name) != entry.sha256
        or name not in there
        or there[name].size_bytes != entry.size_bytes
    ]
    writing = threading.Lock()

    def send_one(name: str) -> None:
        send_file(draft / name, place.under(name))
        with writing, ledger.open("a", encoding="utf-8") as out:
            out.write(json.dumps([name, files[name].sha256]) + "\n")

    side_by_side(send_one, todo)
    send_file(draft / MANIFEST, place.under(MANIFEST))


def settle(draft: Path, directory: Path) -> None:
    """Drop what only an unpublished directory needs in a bucket, and keep the copies in bounds."""
    draft_place = place_of(draft)
    if draft_place is None:
        return
    if list_objects(draft_place):
        remove_tree(draft_place)
    _beside(directory, "sent").unlink(missing_ok=True)
    _beside(directory, "used").touch()
    make_room(root_of(directory), keep=directory)


def forget(directory: Path) -> None:
    """Drop a copy that is no copy any more: its original is gone, or was replaced."""
    if place_of(directory) is not None:
        shutil.rmtree(directory, ignore_errors=True)


def remove(directory: Path) -> None:
    """Remove a folder or a published directory, here and in its bucket; its manifest goes first."""
    if place_of(directory) is not None:
        remove_sent(directory)
        with _holding:
            for held in [path for path in _held if path.is_relative_to(directory)]:
                release(held)
        for kind in ("fetch", "used", "sent"):
            _beside(directory, kind).unlink(missing_ok=True)
    if directory.exists():
        shutil.rmtree(directory)


def remove_sent(folder: Path) -> None:
    """Remove what is of a folder in its bucket, manifests first; nothing without one."""
    place = place_of(folder)
    if place is not None:
        names = list_objects(place)
        remove_objects(place, [name for name in names if name.rpartition("/")[2] == MANIFEST])
        if names:
            remove_tree(place)


def set_limit(root: Path, config: StorageConfig) -> None:
    """Tell all nodes what the copies of an output may take; nothing without a bucket."""
    place = place_of(root)
    if place is not None:
        content = json.dumps({"cache_gib": config.cache_gib})
        write_object(place.under(LIMIT_FILE), content.encode())


def make_room(root: Path, *, keep: Path | None = None, need_bytes: int = 0) -> None:
    """Drop the least recently opened copies that nobody holds, until all are within the bound.

    Args:
        root: the folder that stands for an output in a bucket.
        keep: a copy that stays.
        need_bytes: what is about to be fetched.
    """
    _sweep(root)
    copies = sorted(_copies(root), key=lambda one: _last_used(one[0]))
    most = _limit_bytes(root)
    total = need_bytes + sum(size for _, size in copies)
    for directory, size in copies:
        if total <= most:
            return
        if directory != keep and _evict(directory):
            total -= size
    if total > most:
        _log.warning(
            "%s: the copies in use take %.1f GiB, over the %.1f GiB of storage.cache_gib",
            root,
            total / _GIB,
            most / _GIB,
        )


def _is_same(directory: Path, manifest: bytes) -> bool:
    path = directory / MANIFEST
    return path.exists() and path.read_bytes() == manifest


def _fetch(place: Place, directory: Path, content: bytes) -> None:
    """Fetch a directory beside its place, check it, and move it there whole."""
    try:
        files = Manifest.model_validate_json(content).files
    except ValueError as error:
        raise ArtifactError(
            f"{place}/{MANIFEST}: damaged ({error}); delete {place} and rerun"
        ) from error
    make_room(root_of(directory), keep=directory, need_bytes=_size_of(files))
    arriving = directory.with_name(f".{directory.name}.arriving")
    arriving.mkdir(parents=True, exist_ok=True)
    todo = [name for name, entry in files.items() if not _has(arriving / name, entry)]

    def fetch_one(name: str) -> None:
        fetch_whole(place.under(name), arriving / name, wanted_sha256=files[name].sha256)

    side_by_side(fetch_one, todo)
    (arriving / MANIFEST).write_bytes(content)
    shutil.rmtree(directory, ignore_errors=True)
    arriving.rename(directory)


def _has(path: Path, entry: FileEntry) -> bool:
    if not path.is_file() or path.stat().st_size != entry.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256


def _hold_lock(directory: Path) -> None:
    if directory not in _held:
        directory.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(_beside(directory, "used"), os.O_RDWR | os.O_CREAT, 0o600)
        # Whoever evicts lets go of it at once.
        fcntl.flock(handle, fcntl.LOCK_SH)
        _held[directory] = handle
    os.utime(_beside(directory, "used"))


def _evict(directory: Path) -> bool:
    """Drop one copy, unless a process holds it."""
    with _beside(directory, "used").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        leaving = directory.with_name(f".{directory.name}.leaving-{os.getpid()}")
        with suppress(FileNotFoundError):
            directory.rename(leaving)
    shutil.rmtree(leaving, ignore_errors=True)
    return True


def _sweep(root: Path) -> None:
    """Drop what killed processes left, and drafts of what was published from another node."""
    for draft in root.glob("*/.*.partial"):
        directory = draft.with_name(draft.name.removeprefix(".").removesuffix(".partial"))
        if is_stored(directory / MANIFEST):
            with draft.with_suffix(".lock").open("a") as lock, suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(draft)
    for pattern in _COPIES:
        beside = pattern.removesuffix("[!.]*")
        for left in root.glob(f"{beside}.*.leaving-*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in root.glob(f"{beside}.*.arriving"):
            directory = left.with_name(left.name.removeprefix(".").removesuffix(".arriving"))
            # Who was killed goes on with it soon, or never; who fetches it holds the lock.
            if time.time() - _last_used(directory) > _FORSAKEN_S:
                with _beside(directory, "fetch").open("a") as lock, suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)


def _copies(root: Path) -> Iterator[tuple[Path, int]]:
    for pattern in _COPIES:
        for path in root.glob(f"{pattern}/{MANIFEST}"):
            with suppress(FileNotFoundError):
                files = Manifest.model_validate_json(path.read_bytes()).files
                yield path.parent, _size_of(files)


def _size_of(files: Mapping[str, FileEntry]) -> int:
    return sum(entry.size_bytes for entry in files.values())


def _last_used(directory: Path) -> float:
    used = _beside(directory, "used")
    return used.stat().st_mtime if used.exists() else 0.0


def _limit_bytes(root: Path) -> float:
    place = place_of(root)
    content = None if place is None else read_object(place.under(LIMIT_FILE))
    told = {} if content is None else json.loads(content)
    return float(told.get("cache_gib", StorageConfig().cache_gib)) * _GIB


def _beside(directory: Path, kind: str) -> Path:
    return directory.with_name(f".{directory.name}.{kind}")


def _read_ledger(path: Path) -> dict[str, str]:
    """Read which files were sent; a killed run may have left half a line."""
    sent = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            name, digest = json.loads(line)
            sent[name] = digest
    return sent


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

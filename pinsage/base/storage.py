"""Addresses in buckets (`s3://`, `gs://`), the folders here that stand for them, and moving files.

An output folder may be in a bucket. Code then works in a local folder whose name is the quoted
address, so any process on any machine can tell from a path alone where in the bucket it belongs:

    s3://bucket/run  ->  <cache>/s3%3A%2F%2Fbucket%2Frun/

Whoever reads a bucket's files meets them whole: an object is there once all of it was sent.
Credentials come from the environment or the machine's role, and are refused in addresses, which
stand in logs and manifests.
"""

import hashlib
import logging
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pa_fs
from pydantic import AfterValidator, BeforeValidator, PositiveFloat

from pinsage.base.config import Config
from pinsage.base.errors import StorageError

_log = logging.getLogger(__name__)

SCHEMES = ("s3", "gs")

_PREFIXES = tuple(quote(f"{scheme}://", safe="") for scheme in SCHEMES)
_LONGEST_NAME = 240
_ATTEMPTS = 6
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 20.0
_PIECE_BYTES = 8 * 2**20
_SIDE_BY_SIDE = 8
_NO_RETRY_MENDS = (
    "ACCESS_DENIED",
    "NO_SUCH_BUCKET",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "HTTP status 401",
    "HTTP status 403",
    "Anonymous users",
)

ResultT = TypeVar("ResultT")
JobT = TypeVar("JobT")


class StorageConfig(Config):
    """Where copies of what is in a bucket stand, when `output` is an address."""

    cache: Path = Path("~/.cache/pinsage")
    """Folder of the copies, the same on every node; give it the fastest disk with room."""
    cache_gib: PositiveFloat = 200.0
    """What the copies of one output may take on a node, in GiB. The least recently opened go first,
    and never one that a process has open. What is not published yet is not counted."""


@dataclass(frozen=True)
class Place:
    """A place in a bucket.

    Attributes:
        address: of the output folder.
        name: of what is in it, with slashes; empty for the folder itself.
    """

    address: str
    name: str

    def __str__(self) -> str:
        plain = self.address.partition("?")[0].rstrip("/")
        return f"{plain}/{self.name}" if self.name else plain

    def under(self, name: str) -> "Place":
        """Name a place inside this one."""
        return Place(self.address, f"{self.name}/{name}" if self.name else name)


@dataclass(frozen=True)
class Stored:
    """What is known of a file without reading it: its size, and when it was written (epoch s)."""

    size_bytes: int
    written_s: float


@dataclass
class Traffic:
    """What this process has moved to and from buckets."""

    sent_bytes: int = 0
    received_bytes: int = 0
    retries: int = 0


traffic = Traffic()
_counting = threading.Lock()


def check_address(address: str) -> str:
    """Give an address back if it is one that files can be kept at.

    Raises:
        ValueError: its scheme is unknown, it names no bucket, or credentials stand in it.
    """
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES:
        raise ValueError(
            f"wanted a folder, or an address that begins with {' or '.join(map(_begun, SCHEMES))}, "
            f"found {_begun(parts.scheme)}; mount other storage as a folder and give its path"
        )
    without_credentials(address)
    if not parts.netloc:
        raise ValueError(f"{address}: wanted a bucket behind {_begun(parts.scheme)}, found none")
    if len(quote(address, safe="")) > _LONGEST_NAME:
        raise ValueError(f"{address}: too long for the name of a folder; use a shorter prefix")
    return address.rstrip("/") if not parts.query else address


def only_local(value: Any) -> Any:
    """Refuse an address where a folder of this machine is wanted.

    Raises:
        ValueError: it is an address.
    """
    if isinstance(value, str) and "://" in value:
        raise ValueError(
            f"wanted a folder of a file system with locks, found the address {value}; name a "
            "folder that all who write there share"
        )
    return value


def without_credentials(address: str) -> str:
    """Give an address or a path back if no credentials stand in it.

    Raises:
        ValueError: it has some.
    """
    scheme, sign, rest = address.partition("://")
    host = rest.partition("/")[0]
    if sign and "@" in host and (scheme in SCHEMES or ":" in host.partition("@")[0]):
        raise ValueError(
            f"{scheme}://...@...: wanted an address without credentials, which would be written "
            "into manifests and logs; put them into the environment (AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS), or give the machine a role"
        )
    return address


TablePath = Annotated[str, AfterValidator(without_credentials)]
"""A setting that names input files: a path, or an address."""

LocalPath = Annotated[Path, BeforeValidator(only_local)]
"""A setting that is a path of a file system, and cannot be an address."""


def folder_of(address: str, cache: Path) -> Path:
    """Name the local folder that stands for an address.

    >>> folder_of("s3://bucket/run", Path("/cache")).as_posix()
    '/cache/s3%3A%2F%2Fbucket%2Frun'
    """
    return cache.expanduser().absolute() / quote(address, safe="")


def place_of(path: Path) -> Place | None:
    """Tell where in a bucket a path belongs; None for what is of this machine alone.

    >>> str(place_of(Path("/cache/s3%3A%2F%2Fbucket%2Frun/graph/0123")))
    's3://bucket/run/graph/0123'
    >>> place_of(Path("runs/books"))
    """
    parts = path.parts
    for number, part in enumerate(parts):
        if part.startswith(_PREFIXES):
            return Place(unquote(part), "/".join(parts[number + 1 :]))
    return None


def address_of(path: Path) -> str | None:
    """Give the whole address of a folder that stands for an output; None for any other path."""
    place = place_of(path)
    return place.address if place is not None and not place.name else None


def root_of(path: Path) -> Path:
    """Give the folder that stands for the whole output, for a path that has a place in a bucket."""
    for folder in (path, *path.parents):
        if folder.name.startswith(_PREFIXES):
            return folder
    raise ValueError(f"{path}: has no place in a bucket")


def shown(path: Path) -> str:
    """Write a path as its user knows it: as an address, if it has a place in a bucket."""
    place = place_of(path)
    return str(path) if place is None else str(place)


def has_object(place: Place) -> bool:
    """Tell whether there is an object.

    Raises:
        StorageError: it could not be looked for.
    """

    def look() -> bool:
        filesystem, path = _where(place)
        return bool(filesystem.get_file_info(path).type == pa_fs.FileType.File)

    return _tried("look for", place, look)


def read_object(place: Place) -> bytes | None:
    """Read one object; None if there is none.

    Raises:
        StorageError: it could not be read.
    """

    def read() -> bytes | None:
        filesystem, path = _where(place)
        try:
            with filesystem.open_input_stream(path) as file:
                content: bytes = file.read()
        except FileNotFoundError:
            return None
        return content

    return _tried("read", place, read)


def write_object(place: Place, content: bytes) -> None:
    """Put one object in its place, whole.

    Raises:
        StorageError: it could not be written.
    """

    def write() -> None:
        filesystem, path = _where(place)
        with filesystem.open_output_stream(path) as file:
            file.write(content)

    _tried("write", place, write)
    _count(sent=len(content))


def list_objects(place: Place) -> dict[str, Stored]:
    """List all that is under a place: names as seen from there.

    Raises:
        StorageError: it could not be listed.
    """

    def look() -> dict[str, Stored]:
        filesystem, path = _where(place)
        selector = pa_fs.FileSelector(path, recursive=True, allow_not_found=True)
        return {
            info.path.removeprefix(path).lstrip("/"): Stored(info.size, (info.mtime_ns or 0) / 1e9)
            for info in filesystem.get_file_info(selector)
            if info.type == pa_fs.FileType.File
        }

    return _tried("list", place, look)


def remove_objects(place: Place, names: Iterable[str]) -> None:
    """Remove some objects under a place; those that are gone already are passed over.

    Raises:
        StorageError: one could not be removed.
    """

    def remove(name: str) -> None:
        def act() -> None:
            filesystem, path = _where(place.under(name))
            try:
                filesystem.delete_file(path)
            except FileNotFoundError:
                return

        _tried("remove", place.under(name), act)

    side_by_side(remove, list(names))


def send_file(path: Path, place: Place) -> None:
    """Send a file to its place; it is there once all of it was sent.

    Raises:
        StorageError: it could not be sent.
    """

    def send() -> None:
        filesystem, target = _where(place)
        with path.open("rb") as source, filesystem.open_output_stream(target) as out:
            shutil.copyfileobj(source, out, _PIECE_BYTES)

    _tried("write", place, send)
    _count(sent=path.stat().st_size)


def fetch_file(place: Place, path: Path) -> str:
    """Fetch an object into a file.

    Returns:
        Its SHA-256.

    Raises:
        StorageError: it is not there, or could not be fetched.
    """

    def fetch() -> str:
        filesystem, source = _where(place)
        digest = hashlib.sha256()
        with filesystem.open_input_stream(source) as file, path.open("wb") as out:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                out.write(piece)
        return digest.hexdigest()

    try:
        found = _tried("read", place, fetch)
    except FileNotFoundError as error:
        raise StorageError(f"{place}: wanted an object, found none; run its stage again") from error
    _count(received=path.stat().st_size)
    return found


def side_by_side(act: Callable[[JobT], ResultT], jobs: list[JobT]) -> list[ResultT]:
    """Do some transfers at a time; the first error stops those that have not begun."""
    if len(jobs) < 2:
        return [act(job) for job in jobs]
    with ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(jobs)), thread_name_prefix="storage") as pool:
        calls = [pool.submit(act, job) for job in jobs]
        try:
            return [call.result() for call in calls]
        finally:
            pool.shutdown(cancel_futures=True)


def filesystem_at(address: str) -> tuple[Any, str]:
    """Give the filesystem of an address, and the path in it, for libraries that want both."""
    return _tried("reach", Place(address, ""), lambda: _connected(address))


@lru_cache(maxsize=16)
def _connected(address: str) -> tuple[Any, str]:
    filesystem, path = pa_fs.FileSystem.from_uri(address)
    return filesystem, path.rstrip("/")


def _where(place: Place) -> tuple[Any, str]:
    filesystem, path = _connected(place.address)
    return filesystem, f"{path}/{place.name}" if place.name else path


def _tried(doing: str, place: Place, act: Callable[[], ResultT]) -> ResultT:
    """Act, and again after growing pauses where that may help."""
    attempt = 0
    while True:
        try:
            return act()
        except (OSError, pa.ArrowException) as error:
            if _is_local(error):
                raise
            attempt += 1
            if attempt == _ATTEMPTS or not _may_pass(error):
                raise _explained(doing, place, error) from error
            # Spread out, so that all who were turned away don't come back at once.
            pause_s = min(_FIRST_PAUSE_S * 2 ** (attempt - 1), _LONGEST_PAUSE_S)
            pause_s *= random.uniform(0.5, 1.0)
            _log.warning("%s: cannot %s, again in %.1f s (%s)", place, doing, pause_s, _said(error))
            _count(retries=1)
            time.sleep(pause_s)


def _explained(doing: str, place: Place, error: Exception) -> StorageError:
    return StorageError(
        f"{place}: cannot {doing} it ({_said(error)}); check the bucket's name, this machine's "
        "access, and AWS_ENDPOINT_URL where it is not Amazon's, then run the same command again"
    )


def _is_local(error: Exception) -> bool:
    """Tell errors of this machine, such as a full disk, or a missing object, from the bucket's."""
    return getattr(error, "errno", None) is not None


def _may_pass(error: Exception) -> bool:
    """Tell whether trying again may help."""
    return not any(sign in str(error) for sign in _NO_RETRY_MENDS)


def _said(error: Exception) -> str:
    return str(error).partition(" (Request ID")[0]


def _begun(scheme: str) -> str:
    return f"{scheme}://"


def _count(*, sent: int = 0, received: int = 0, retries: int = 0) -> None:
    with _counting:
        traffic.sent_bytes += sent
        traffic.received_bytes += received
        traffic.retries += retries

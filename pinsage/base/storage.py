"""Reading, writing and moving objects of a bucket, again where that may help.

Whoever reads an object meets it whole: it is there once all of it was sent.
"""

import hashlib
import logging
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.fs as pa_fs

from pinsage.base.addresses import Place
from pinsage.base.errors import StorageError

_log = logging.getLogger(__name__)

_ATTEMPTS = 6
_QUICK_ATTEMPTS = 3
_QUICK_S = 5
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
    "HTTP Status Code: 403",
    "Anonymous users",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "retry.reason=permanent-error",
)

ResultT = TypeVar("ResultT")
JobT = TypeVar("JobT")


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


def has_object(place: Place) -> bool:
    """Tell whether there is an object.

    Raises:
        StorageError: it could not be looked for.
    """
    return bool(_looked_at(place).type == pa_fs.FileType.File)


def stat_object(place: Place) -> Stored:
    """Tell what is known of an object that must be there.

    Raises:
        StorageError: it is not there, or could not be looked for.
    """
    info = _looked_at(place)
    if info.type != pa_fs.FileType.File:
        raise StorageError(f"{place}: wanted an object, found none; run its stage again")
    return _stored(info)


def _looked_at(place: Place) -> Any:
    def look() -> Any:
        filesystem, path = _where(place)
        return filesystem.get_file_info(path)

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
            info.path.removeprefix(path).lstrip("/"): _stored(info)
            for info in filesystem.get_file_info(selector)
            if info.type == pa_fs.FileType.File
        }

    return _tried("list", place, look)


def _stored(info: Any) -> Stored:
    return Stored(info.size, (info.mtime_ns or 0) / 1e9)


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


def remove_tree(place: Place) -> None:
    """Remove all that is under a place, and what filesystems write to mark an empty folder.

    Raises:
        StorageError: it could not be removed.
    """

    def remove() -> None:
        filesystem, path = _where(place)
        if filesystem.get_file_info(path).type == pa_fs.FileType.NotFound:
            return
        try:
            filesystem.delete_dir(path)
        except FileNotFoundError:
            # Google's has removed all there was, and then missed what would mark the folder.
            return

    _tried("remove", place, remove)


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
    options = dict(parse_qsl(urlsplit(address).query))
    # By themselves, both kinds of filesystem would try for minutes, and say nothing.
    if urlsplit(address).scheme == "gs" and "retry_limit_seconds" not in options:
        address += f"{'&' if options else '?'}retry_limit_seconds={_QUICK_S}"
    filesystem, path = pa_fs.FileSystem.from_uri(address)
    if filesystem.type_name == "s3":
        # It knows the bucket's region now.
        filesystem = pa_fs.S3FileSystem(
            region=filesystem.region,
            endpoint_override=options.get("endpoint_override") or _endpoint_of_environment(),
            scheme=options.get("scheme"),
            retry_strategy=pa_fs.AwsStandardS3RetryStrategy(max_attempts=_QUICK_ATTEMPTS),
        )
    return filesystem, path.rstrip("/")


def _endpoint_of_environment() -> str | None:
    """Read the variable that all S3 clients read; pyarrow does so for addresses alone."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


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
            if doing == "write" and _has_no_bucket(error):
                raise _explained(doing, place, error) from error
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


def _has_no_bucket(error: Exception) -> bool:
    """Tell Google's missing bucket from a missing file of this machine, which is named."""
    return isinstance(error, FileNotFoundError) and error.filename is None


def _may_pass(error: Exception) -> bool:
    """Tell whether trying again may help."""
    return not any(sign in str(error) for sign in _NO_RETRY_MENDS)


def _said(error: Exception) -> str:
    return str(error).partition(" (Request ID")[0]


def _count(*, sent: int = 0, received: int = 0, retries: int = 0) -> None:
    with _counting:
        traffic.sent_bytes += sent
        traffic.received_bytes += received
        traffic.retries += retries

"""Addresses in buckets (`s3://`, `gs://`), and the folders here that stand for them.

An output folder may be in a bucket. Code then works in a local folder whose name is the quoted
address, so any process on any machine can tell from a path alone where in the bucket it belongs:

    s3://bucket/run  ->  <cache>/s3%3A%2F%2Fbucket%2Frun/

Credentials come from the environment or the machine's role, and are refused in addresses, which
stand in logs and manifests.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, PositiveFloat

from pinsage.base.config import Config

SCHEMES = ("s3", "gs")

_PREFIXES = tuple(quote(f"{scheme}://", safe="") for scheme in SCHEMES)
_LONGEST_NAME = 240
_VARIABLE = re.compile(r"\$(\{\w+\}|[A-Za-z_]\w*)")


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
        return Place(self.address, f"{self.name}/{name}".strip("/"))


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
    without_variables(address)
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
    if scheme == "gs":
        # Says that there are none.
        host = host.removeprefix("anonymous@")
    if sign and "@" in host and (scheme in SCHEMES or ":" in host.partition("@")[0]):
        raise ValueError(
            f"{scheme}://...@...: wanted an address without credentials, which would be written "
            "into manifests and logs; put them into the environment (AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS), or give the machine a role"
        )
    return address


def without_variables(path: str) -> str:
    """Give a path or an address back if no variable of the shell stands in it.

    Raises:
        ValueError: one does, which nothing here would fill in.
    """
    variable = _VARIABLE.search(path)
    if variable is not None:
        raise ValueError(
            f"{path}: recipes know no variables, so {variable[0]} would be taken as it stands; "
            "write it out, or give the setting with --set, where the shell fills it in"
        )
    return path


def expanded(path: Path) -> Path:
    """Put the home folder in the place of a leading `~`.

    Raises:
        ValueError: a variable of the shell stands in the path.
    """
    without_variables(str(path))
    return path.expanduser()


TablePath = Annotated[str, AfterValidator(without_credentials)]
"""A setting that names input files: a path, or an address."""

FolderPath = Annotated[Path, AfterValidator(expanded)]
"""A setting that names a folder or a file of this machine; `~` is the home folder."""

LocalPath = Annotated[FolderPath, BeforeValidator(only_local)]
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


def _begun(scheme: str) -> str:
    return f"{scheme}://"

"""Where input files are: one file, a directory, a glob, on any filesystem pyarrow knows."""

import fnmatch
import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.fs as pa_fs

from pinsage.base.arrays import map_array, read_array
from pinsage.base.errors import DataError
from pinsage.graph.schema import DataConfig

_WHOLE_DIGEST_BYTES = 256 * 2**20
"""Up to this size, a file's facts hold the digest of all of it."""

_WILDCARDS = "*?["

_OPTION = r"[a-z_]+=(?:https?://)?[^/&?]*"
_QUERY = re.compile(rf"\?{_OPTION}(?:&{_OPTION})*$")
"""An address's options, as pyarrow takes them."""


@dataclass(frozen=True)
class Source:
    """One input file."""

    path: str
    """As its filesystem writes it."""
    filesystem: Any
    size_bytes: int
    modified_ns: int

    @property
    def is_local(self) -> bool:
        """Tell whether the file can be memory-mapped."""
        return isinstance(self.filesystem, pa_fs.LocalFileSystem)


Stamp: TypeAlias = tuple[str, int, int]


@dataclass(frozen=True)
class Inputs:
    """The input files of a graph, as they were found."""

    facts: dict[str, list[dict[str, Any]]]
    """Configured path to its files: `path`, `size_bytes`, and either `sha256`, or `modified_ns` and
    `footer_sha256`."""
    stamps: dict[str, list[Stamp]]
    """Configured path to the names, sizes and times of change of its files."""
    found_at: float
    """When they were looked at, in seconds since 1970."""

    @property
    def as_of(self) -> float:
        """No later than this is what they tell of: when the newest was written, or they were found.

        In seconds since 1970. A file whose time of change nobody knows counts as just written.
        """
        times = [modified for files in self.stamps.values() for _, _, modified in files]
        return min(self.found_at, max(times) / 1e9) if all(times) else self.found_at

    def require_unchanged(self) -> None:
        """Look again, after they were read: other bytes would go under these facts.

        Raises:
            DataError: a file was written, came or went since.
        """
        changed = [path for path, before in self.stamps.items() if _stamps_now(path) != before]
        if changed:
            raise DataError(
                f"{', '.join(changed)}: changed while the tables were read, so nobody knows what "
                "was read of which version; nothing is published: run this again once all files "
                "are written, or give a copy that nothing writes to"
            )


def _stamps_now(path: str) -> list[Stamp]:
    try:
        return _stamps(find_sources(path))
    except DataError:
        return []


def _stamps(sources: list[Source]) -> list[Stamp]:
    return [(source.path, source.size_bytes, source.modified_ns) for source in sources]


def find_sources(path: str) -> list[Source]:
    """List the files that a configured path means, sorted by path.

    A directory means the Parquet files in it and below; files and folders whose name begins with a
    dot or an underscore are left out, as Spark's and Hive's markers are.

    Args:
        path: a file, a directory, a glob, or a URI of any of these.

    Raises:
        DataError: there is none, or the place cannot be reached.
    """
    try:
        filesystem, inner = _filesystem(path)
        infos = _list_files(filesystem, inner)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: cannot be reached ({error}); check the path and access"
        ) from error
    if not infos:
        raise DataError(f"{path}: {_none_there(path)}; check the path")
    return [
        Source(info.path, filesystem, info.size, info.mtime_ns or 0)
        for info in sorted(infos, key=lambda info: info.path)
    ]


def load_npy(source: Source) -> np.ndarray:
    """Read an .npy file; a local one is memory-mapped.

    Raises:
        ValueError: it is not a plain .npy file.
    """
    if source.is_local:
        return map_array(Path(source.path))
    with source.filesystem.open_input_file(source.path) as file:
        return read_array(file)


def look_at_inputs(config: DataConfig) -> Inputs:
    """Describe every input file, so that changed input gives a stage a new fingerprint.

    A file of up to 256 MiB is described by the SHA-256 of all of it; a larger one by its time of
    change and, if Parquet, the SHA-256 of its footer (row groups, sizes, column statistics).

    Raises:
        DataError: files are missing; all of them are named.
    """
    found_at = time.time()
    sources, missing = {}, []
    for path in _configured_paths(config):
        try:
            sources[path] = find_sources(path)
        except DataError as error:
            missing.append(str(error))
    if missing:
        raise DataError("input files are missing\n  - " + "\n  - ".join(missing))
    facts = {path: [_facts(source) for source in found] for path, found in sources.items()}
    stamps = {path: _stamps(found) for path, found in sources.items()}
    return Inputs(facts, stamps, found_at)


def _configured_paths(config: DataConfig) -> Iterator[str]:
    yield config.items.path
    yield from (group.npy for group in config.items.features if group.npy is not None)
    yield from (edges.path for edges in config.edges)
    if config.pairs is not None:
        yield config.pairs.path


def _facts(source: Source) -> dict[str, Any]:
    facts: dict[str, Any] = {"path": source.path, "size_bytes": source.size_bytes}
    with source.filesystem.open_input_file(source.path) as file:
        if source.size_bytes <= _WHOLE_DIGEST_BYTES:
            return facts | {"sha256": hashlib.sha256(file.read()).hexdigest()}
        facts["modified_ns"] = source.modified_ns
        if not source.path.endswith(".npy"):
            facts["footer_sha256"] = _footer_digest(file, source)
    return facts


def _footer_digest(file: Any, source: Source) -> str:
    """Digest what stands between the last row group and the end of the file."""
    file.seek(source.size_bytes - 8)
    footer_bytes = int.from_bytes(file.read(4), "little") + 8
    file.seek(max(source.size_bytes - footer_bytes, 0))
    return hashlib.sha256(file.read()).hexdigest()


def _filesystem(path: str) -> tuple[Any, str]:
    if "://" not in path:
        return pa_fs.LocalFileSystem(), Path(path).expanduser().as_posix()
    # A wildcard is not allowed in a URI, so it is kept away from the parser.
    address, query = _split_at_query(path)
    head, tail = _split_at_wildcard(address)
    filesystem, inner = pa_fs.FileSystem.from_uri(head + query)
    return filesystem, f"{inner.rstrip('/')}/{tail}" if tail else inner


def _list_files(filesystem: Any, path: str) -> list[Any]:
    found = filesystem.get_file_info(path)
    head, tail = _split_at_wildcard(path)
    # What is there is meant by its name, brackets and all.
    if tail and found.type == pa_fs.FileType.NotFound:
        deep = "/" in tail or "**" in tail
        listed = filesystem.get_file_info(
            pa_fs.FileSelector(head or ".", recursive=deep, allow_not_found=True)
        )
        pattern = f"{head or '.'}/{tail}".split("/")
        return [
            info for info in listed if _is_file(info) and _matches(info.path.split("/"), pattern)
        ]
    if found.type == pa_fs.FileType.Directory:
        listed = filesystem.get_file_info(pa_fs.FileSelector(path, recursive=True))
        return [
            info
            for info in listed
            if _is_file(info)
            and info.path.endswith(".parquet")
            and not _is_marker(info.path.removeprefix(path))
        ]
    return [found] if _is_file(found) else []


def _split_at_query(address: str) -> tuple[str, str]:
    """Split off an address's options, such as `?region=eu-west-1`; a wildcard is none."""
    found = _QUERY.search(address)
    return (address[: found.start()], found.group()) if found else (address, "")


def _split_at_wildcard(path: str) -> tuple[str, str]:
    """Split off the last folder before the first wildcard."""
    first = min((path.find(sign) for sign in _WILDCARDS if sign in path), default=-1)
    if first < 0:
        return path, ""
    slash = path.rfind("/", 0, first)
    return path[: max(slash, 0)], path[slash + 1 :]


def _matches(parts: list[str], patterns: list[str]) -> bool:
    """Compare part by part: a `*` does not cross folders, nor mean names that begin with a dot.

    A part that is `**` stands for any number of folders.
    """
    if not patterns:
        return not parts
    if patterns[0] == "**":
        is_open = bool(parts) and not parts[0].startswith(".")
        return _matches(parts, patterns[1:]) or (is_open and _matches(parts[1:], patterns))
    return bool(parts) and _is_meant(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


def _is_meant(part: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(part, pattern) and part.startswith(".") <= pattern.startswith(".")


def _is_file(info: Any) -> bool:
    return bool(info.type == pa_fs.FileType.File)


def _is_marker(inner_path: str) -> bool:
    return any(part.startswith((".", "_")) for part in inner_path.split("/") if part)


def _none_there(path: str) -> str:
    """Say what is where local files were looked for."""
    inner = Path(path).expanduser()
    is_folder = "://" not in path and inner.is_dir()
    what = "no file in this folder is called *.parquet" if is_folder else "no such file"
    folder = inner if is_folder else inner.parent
    if "://" in path:
        return what
    if not folder.is_dir():
        # Paths begin where the command was run, not beside the recipe.
        here = "" if inner.is_absolute() else f" from {Path.cwd()}"
        return f"{what}, nor the folder {folder}{here}"
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    more = ", ..." if len(names) > 5 else ""
    return f"{what} ({folder} has: {', '.join(names[:5]) or 'nothing'}{more})"

"""API keys: a file of their hashes, and `python -m serve.keys` to add, list and remove them.

A key is 256 random bits, so one SHA-256 of it is as safe at rest as a slow password hash, and it
costs a request a microsecond instead of a tenth of a second.
"""

import argparse
import hashlib
import hmac
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError

from pinsage.base.errors import ConfigError
from pinsage.base.interrupts import hear_ctrl_c

_PREFIX = "pinsage"
_ID_BYTES = 4
_SECRET_BYTES = 32
_CLOSED = 0o037
"""Access that a key file gives to nobody. Its group may read it: on Kubernetes, a secret is root's,
and only its group tells whose pod it is for."""


class Role(IntEnum):
    """What a key may do; each role may do what those before it may."""

    READ = 1
    """Ask for items and recommendations."""
    WRITE = 2
    """Put and delete items."""
    ADMIN = 3
    """Switch what is served."""


class KeyRecord(BaseModel):
    """One key as the file keeps it: everything but the key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """The first part of the key; it may be shown."""
    sha256: str
    """Hex digest of the whole key."""
    role: Literal["read", "write", "admin"]
    note: str = ""
    """Whose it is."""
    created: str = ""
    requests_per_s: PositiveFloat | None = None
    """The key's own rate; None takes the server's."""
    burst: PositiveInt | None = None

    @property
    def rank(self) -> Role:
        """The role, in order."""
        return Role[self.role.upper()]


class _KeyFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    format_version: Literal[1] = 1
    keys: list[KeyRecord] = []


class KeyRing:
    """The keys of one file, in memory."""

    def __init__(self, records: Sequence[KeyRecord]) -> None:
        """Hold the records."""
        self._records = {record.id: record for record in records}

    @classmethod
    def open(cls, path: Path) -> "KeyRing":
        """Read a key file.

        Raises:
            ConfigError: it is missing or damaged, its group may change it, or others may open it.
        """
        return cls(_read(path).keys)

    def __len__(self) -> int:
        return len(self._records)

    def find(self, key: str) -> KeyRecord | None:
        """Find what a presented key may do; None if it isn't one of ours.

        The time this takes tells nothing of how much of a secret was right.
        """
        record = self._records.get(_id_of(key))
        wanted = record.sha256 if record else _digest("")
        matches = hmac.compare_digest(_digest(key), wanted)
        return record if record and matches else None


def add_key(
    path: Path,
    role: Role,
    *,
    note: str = "",
    requests_per_s: float | None = None,
    burst: int | None = None,
) -> str:
    """Make a key, add its hash to the file, and give the key: nobody can read it again.

    Raises:
        ConfigError: the file exists, but is damaged.
    """
    known = _read(path) if path.exists() else _KeyFile()
    key_id = secrets.token_hex(_ID_BYTES)
    key = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    record = KeyRecord(
        id=key_id,
        sha256=_digest(key),
        role=role.name.lower(),
        note=note,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        requests_per_s=requests_per_s,
        burst=burst,
    )
    known.keys.append(record)
    _write(path, known)
    return key


def remove_key(path: Path, key_id: str) -> None:
    """Remove a key by its id; servers refuse it within seconds.

    Raises:
        ConfigError: there is no such file or key.
    """
    known = _read(path)
    kept = [record for record in known.keys if record.id != key_id]
    if len(kept) == len(known.keys):
        raise ConfigError(f"{path}: no key has the id {key_id!r}; `list` shows those there are")
    known.keys = kept
    _write(path, known)


def _read(path: Path) -> _KeyFile:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: the key file cannot be read ({error.strerror}); make one with "
            "`python -m serve.keys add`"
        ) from error
    if mode & _CLOSED:
        raise ConfigError(
            f"{path}: other users can read or change the key file (mode {mode & 0o777:o}); "
            f"chmod 600 {path}"
        )
    try:
        return _KeyFile.model_validate_json(content)
    except ValidationError as error:
        raise ConfigError(
            f"{path}: not a key file ({error.error_count()} findings, first: "
            f"{error.errors()[0]['msg']}); restore it, or make a new one"
        ) from error


def _write(path: Path, content: _KeyFile) -> None:
    """Replace the file at once, so that a server never reads half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes files that only their owner can read.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(json.dumps(content.model_dump(exclude_none=True), indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)


def _id_of(key: str) -> str:
    parts = key.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == _PREFIX else ""


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", errors="surrogateescape")).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Change or show a key file; returns the exit status."""
    hear_ctrl_c()
    parser = argparse.ArgumentParser(prog="python -m serve.keys", description=__doc__)
    parser.add_argument("--file", type=Path, default=Path("keys.json"), help="the key file")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="make a key and print it, this once")
    add.add_argument("--role", choices=[role.name.lower() for role in Role], default="read")
    add.add_argument("--note", default="", help="whose it is")
    add.add_argument("--requests-per-s", type=float, help="its own rate")
    add.add_argument("--burst", type=int, help="requests it may make at once")
    commands.add_parser("list", help="show ids, roles and notes")
    commands.add_parser("remove", help="remove a key").add_argument("id")
    options = parser.parse_args(arguments)
    try:
        if options.command == "add":
            print(
                add_key(
                    options.file,
                    Role[options.role.upper()],
                    note=options.note,
                    requests_per_s=options.requests_per_s,
                    burst=options.burst,
                )
            )
        elif options.command == "list":
            for record in _read(options.file).keys:
                print(f"{record.id}  {record.role:5}  {record.created}  {record.note}".rstrip())
        else:
            remove_key(options.file, options.id)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ValidationError as error:
        print(f"error: {error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

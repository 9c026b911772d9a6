"""`<output>/serving.json`: which generation all servers of a run's folder are to serve."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pinsage.base.addresses import place_of
from pinsage.base.errors import ArtifactError
from pinsage.base.shared import read_shared, write_shared
from pinsage.cluster.generations import SERVING

POINTER = SERVING

_VERSION = 1
_LOCK = ".serving.lock"
_DIGEST = r"^[0-9a-f]{12}$"


class Pointer(BaseModel):
    """What was decided last; without any decision there is no file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = Field(default=_VERSION, ge=_VERSION, le=_VERSION)
    generation: str = Field(pattern=_DIGEST)
    """The generation to serve."""
    previous: str | None = Field(default=None, pattern=_DIGEST)
    """The one that was served before, which a rollback goes to."""
    newest: str | None = Field(default=None, pattern=_DIGEST)
    """The newest one when this was decided: with `serve.follow: newest`, only one that is newer
    still changes what is served."""
    at: str
    """When, in UTC (ISO 8601)."""


def read_pointer(output: Path) -> Pointer | None:
    """Read what was decided; None if nothing was.

    Args:
        output: the run's folder.

    Raises:
        ArtifactError: the file is damaged or cannot be read.
    """
    path = output / POINTER
    try:
        content = read_shared(path)
        return None if content is None else Pointer.model_validate_json(content)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror}); make it readable to the server"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ArtifactError(
            f"{path}: damaged, so nobody knows what is to be served ({where}: {first['msg']}); "
            "write it anew with `python -m serve.switch --to DIGEST`, or delete it to serve the "
            "newest generation"
        ) from error


def write_pointer(output: Path, pointer: Pointer) -> None:
    """Put a decision down, durably and in one step; the caller holds `deciding`.

    Raises:
        OSError: the folder cannot be written; nothing is changed then.
    """
    write_shared(output / POINTER, (pointer.model_dump_json(indent=2) + "\n").encode())


@contextmanager
def deciding(output: Path) -> Iterator[None]:
    """Keep every other process from deciding meanwhile; of a bucket, those of this machine alone.

    Raises:
        OSError: the folder cannot be written.
    """
    if place_of(output) is not None:
        output.mkdir(parents=True, exist_ok=True)
    handle = os.open(output / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

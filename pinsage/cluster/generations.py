"""The files that say which published directories a server serves together."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pinsage.base.shared import is_stored, read_shared, write_shared

GENERATION = "generation.json"
"""The file that names the directories of the newest generation."""

GENERATIONS = "generations"
"""The folder with the same file of every generation, each named by its digest and never changed."""

SERVING = "serving.json"
"""The file that says which generation servers were last told to serve; see `serve/pointer.py`."""

GENERATION_VERSION = 1

_DIGEST_DIGITS = 12


def digest_of(content: bytes) -> str:
    """Name a generation by what its file holds.

    >>> digest_of(b"{}")
    '44136fa355b3'
    """
    return hashlib.sha256(content).hexdigest()[:_DIGEST_DIGITS]


def publish_generation(output: Path, directories: Mapping[str, Path]) -> Path:
    """Name the directories that a server serves together, each file in one step.

    Args:
        output: the run's folder; the directories stand in it.
        directories: stage to directory.

    Returns:
        `<output>/generation.json`, which is the newest generation now.
    """
    names = {name: path.relative_to(output).as_posix() for name, path in directories.items()}
    content = {"format_version": GENERATION_VERSION} | names
    newest = output / GENERATION
    before = read_shared(newest)
    if before is not None:
        # Written before every generation had a file of its own, it would be lost here.
        _keep(output, before)
    text = (json.dumps(content, indent=2) + "\n").encode()
    _keep(output, text)
    write_shared(newest, text)
    return newest


def _keep(output: Path, content: bytes) -> None:
    path = output / GENERATIONS / f"{digest_of(content)}.json"
    if not is_stored(path):
        write_shared(path, content)

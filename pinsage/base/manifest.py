"""`Manifest`: what a published directory holds, and where that came from."""

import hashlib
import json
from typing import Any

from pinsage.base.config import Config

FORMAT_VERSION = 1
"""Raised when a stage's files change their meaning; older directories are then not found."""

MANIFEST = "manifest.json"


class FileEntry(Config):
    """One file of a published directory."""

    size_bytes: int
    sha256: str


class Manifest(Config):
    """What makes a directory whole: what it holds, and where that came from."""

    format_version: int
    stage: str
    fingerprint: str
    """Function of the settings and the parents' fingerprints; names the directory."""
    config: dict[str, Any]
    """The stage's own settings, resolved."""
    parents: dict[str, str]
    """Stage name to the digest of that parent's manifest."""
    counts: dict[str, Any]
    """What the stage wants known of the content: rows, edges, measured recall ..."""
    files: dict[str, FileEntry]

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, hence of every file it lists and of all that came before."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


def canonical(value: object) -> bytes:
    """Write a value as JSON in the one way that digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

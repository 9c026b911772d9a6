"""The generations of a run's folder: found by digest, listed, and which one is to be served."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pinsage.base.addresses import shown
from pinsage.base.artifacts import is_published, open_manifest
from pinsage.base.errors import ArtifactError
from pinsage.base.shared import list_shared, read_shared, written_at
from pinsage.cluster.generations import GENERATION, GENERATIONS, digest_of
from pinsage.graph.schema import GraphCounts
from serve.generation import Parts, output_of, quality_of, read_parts
from serve.pointer import POINTER, Pointer, read_pointer, write_pointer

Follow = Literal["pointer", "newest"]

_DIGEST = re.compile(r"[0-9a-f]{12}")


class UnknownGenerationError(LookupError):
    """No generation of that digest is published."""

    def __init__(self, output: Path, digest: str) -> None:
        super().__init__(output, digest)
        self.output = output
        self.digest = digest

    def __str__(self) -> str:
        known = ", ".join(sorted(_digests(self.output))) or "none"
        return f"no generation {self.digest} is published in {shown(self.output)}; found {known}"


@dataclass(frozen=True)
class Listed:
    """One published generation, as far as that can be told without opening it.

    Attributes:
        digest: names it.
        at: when it was published, in UTC.
        counts: items, contexts and edges; empty if damaged.
        quality: method to metric to value, from its report; empty without one.
        damage: why it cannot be served; None if nothing is known against it.
    """

    digest: str
    at: datetime
    counts: dict[str, int]
    quality: dict[str, dict[str, float]]
    damage: str | None = None


def find(output: Path, digest: str) -> Parts:
    """Find a generation by its digest.

    Args:
        output: the run's folder.
        digest: is compared with what is there, and never made into a path.

    Raises:
        UnknownGenerationError: no such generation is published.
        ArtifactError: its file or a directory it names is damaged.
    """
    path = _digests(output).get(digest)
    if path is None:
        raise UnknownGenerationError(output, digest)
    return read_parts(path)


def newest_digest(output: Path) -> str | None:
    """Give the digest of the newest generation; None if there is none."""
    content = read_shared(output / GENERATION)
    return None if content is None else digest_of(content)


def wanted_digest(
    pointer: Pointer | None, newest: str | None, *, first: str | None, follow: Follow
) -> str | None:
    """Say which generation is to be served.

    Args:
        pointer: what was decided last, if anything.
        newest: the newest generation.
        first: what a running server began with; None while it begins.
        follow: `pointer`: what was decided last counts, however old; `newest`: one that was
            published since then goes live by itself.

    Returns:
        Its digest; None if there is nothing to serve.
    """
    if pointer is None:
        # A lone newer one changes nothing that runs, so that a lost replica comes back as it was.
        return newest if first is None or (follow == "newest" and newest) else first
    is_newer = newest is not None and newest != pointer.newest
    return newest if follow == "newest" and is_newer else pointer.generation


def first_parts(path: Path, *, first: str | None = None, follow: Follow = "pointer") -> Parts:
    """Find what a server that starts is to serve.

    Args:
        path: the file of the generation to serve if nothing was decided.
        first: the generation that the server as a whole began with, for one part of it that is
            started again.
        follow: see `wanted_digest`.

    Raises:
        ArtifactError: it is not there or damaged, or the decision cannot be read.
    """
    output = output_of(path)
    pointer = read_pointer(output)
    if pointer is None and first is None:
        return read_parts(path)
    digest = wanted_digest(pointer, newest_digest(output), first=first, follow=follow)
    try:
        return find(output, str(digest))
    except UnknownGenerationError as error:
        told = f"{shown(output / POINTER)} asks for it" if pointer else "the server began with it"
        raise ArtifactError(
            f"{error}, but {told}; publish it again, or decide anew with "
            "`python -m serve.switch --config RECIPE --to DIGEST`"
        ) from error


def decide(output: Path, digest: str, *, previous: str | None) -> None:
    """Write down which generation is to be served; the caller holds `deciding`.

    Args:
        output: the run's folder.
        digest: names the generation.
        previous: the one that a rollback goes to.

    Raises:
        OSError: the folder cannot be written; nothing is changed then.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    newest = newest_digest(output)
    write_pointer(output, Pointer(generation=digest, previous=previous, newest=newest, at=at))


def listed(output: Path) -> list[Listed]:
    """List what is published, the newest first."""
    found = [_listed(digest, path) for digest, path in _digests(output).items()]
    return sorted(found, key=lambda one: (one.at, one.digest), reverse=True)


def _digests(output: Path) -> dict[str, Path]:
    """Find the file of every generation."""
    return dict(_files(output))


def _files(output: Path) -> Iterator[tuple[str, Path]]:
    newest = newest_digest(output)
    if newest is not None:
        # If published before every generation had a file of its own, it has only this one.
        yield newest, output / GENERATION
    for name in list_shared(output / GENERATIONS):
        digest, _, kind = name.partition(".")
        if kind == "json" and _DIGEST.fullmatch(digest):
            yield digest, output / GENERATIONS / name


def _listed(digest: str, path: Path) -> Listed:
    at = datetime.fromtimestamp(written_at(path), UTC)
    try:
        parts = read_parts(path)
        manifest = open_manifest(parts.directory("graph"), stage="graph")
        counts = GraphCounts.model_validate(manifest.counts)
        gone = [stage for stage in parts.names if not is_published(parts.directory(stage))]
        if gone:
            return Listed(digest, at, {}, {}, f"what was published of {', '.join(gone)} is gone")
        sizes = {"items": counts.items, "contexts": counts.contexts, "edges": counts.edges}
        return Listed(digest, at, sizes, quality_of(parts))
    # Counts that are none are a ValueError.
    except (ArtifactError, OSError, ValueError) as error:
        return Listed(digest, at, {}, {}, str(error))

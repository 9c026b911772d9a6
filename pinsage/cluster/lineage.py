"""What an output folder holds, what each piece was made from, and down to which input files."""

import fcntl
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from pinsage.base.addresses import place_of
from pinsage.base.artifacts import FORMAT_VERSION, MANIFEST, Manifest
from pinsage.base.errors import ArtifactError
from pinsage.base.shared import list_shared, read_shared
from pinsage.base.storage import Stored
from pinsage.cluster.generations import GENERATION, GENERATIONS, SERVING, digest_of

ORDER = ("graph", "neighborhoods", "model", "embeddings", "index", "factors", "report")
"""Stages in the order they are made; others come after them, by name."""


class InputState(Enum):
    """What became of an input file since it was read."""

    SAME = "as it was read"
    CHANGED = "changed since"
    GONE = "not there now"
    REMOTE = "on an object store, not looked at"


@dataclass(frozen=True)
class InputFile:
    """One file of the caller's that a stage read.

    Attributes:
        path: as its filesystem writes it.
        size_bytes: when it was read.
        sha256: of all of it, or of its Parquet footer if it is large; empty where neither is known.
        state: what is there today; sizes and times tell, contents are not read.
    """

    path: str
    size_bytes: int
    sha256: str
    state: InputState


@dataclass(frozen=True)
class Piece:
    """One published directory.

    Attributes:
        stage: the stage that made it.
        fingerprint: its directory's name.
        path: where it is.
        digest: of its manifest, hence of all it holds and came from.
        published_s: when, in seconds since 1970.
        size_bytes: of its files together.
        num_files: how many those are.
        counts: what the stage wants known of the content.
        config: the settings it depends on.
        parents: stage to fingerprint of what it was made from; None where that is gone.
        inputs: the caller's files that it read itself.
        problem: what is wrong with it, or empty.
        served: the newest generation names it, or one that `serving.json` does.
    """

    stage: str
    fingerprint: str
    path: Path
    digest: str
    published_s: float
    size_bytes: int
    num_files: int
    counts: dict[str, Any]
    config: dict[str, Any]
    parents: dict[str, str | None]
    inputs: tuple[InputFile, ...]
    problem: str
    served: bool


@dataclass(frozen=True)
class Unfinished:
    """A directory that a stage has not published.

    Attributes:
        stage: the stage.
        fingerprint: what its directory will be called.
        size_bytes: what is written so far.
        written_s: when last, in seconds since 1970.
        is_running: a process is writing it now.
    """

    stage: str
    fingerprint: str
    size_bytes: int
    written_s: float
    is_running: bool


@dataclass(frozen=True)
class Output:
    """All that an output folder holds.

    Attributes:
        path: the folder.
        pieces: what is published, in the order of the stages, older first.
        unfinished: what is not published yet.
        checkpoints: fingerprint of a model in training to how many states are kept of it.
        generation_s: when the generation was last pointed at something; None if there is none.
        decided: generations that `serving.json` names, the served one first, then the one that a
            rollback goes to; empty if nothing was decided.
        lost: those of them whose files are gone, so that nobody knows their directories.
    """

    path: Path
    pieces: tuple[Piece, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    checkpoints: dict[str, int] = field(default_factory=dict)
    generation_s: float | None = None
    decided: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def find(self, stage: str, fingerprint: str) -> Piece | None:
        """Look up a published directory."""
        wanted = (stage, fingerprint)
        return next((one for one in self.pieces if (one.stage, one.fingerprint) == wanted), None)

    def named(self, fingerprint: str) -> Piece:
        """Look up by the beginning of a fingerprint.

        Raises:
            ArtifactError: none or several begin so.
        """
        found = [one for one in self.pieces if one.fingerprint.startswith(fingerprint)]
        if len(found) != 1:
            known = ", ".join(f"{one.stage}/{one.fingerprint}" for one in found or self.pieces)
            raise ArtifactError(
                f"{self.path}: {len(found)} published directories begin with {fingerprint!r}, "
                f"wanted one; there are {known or 'none'}"
            )
        return found[0]


def read_output(folder: Path) -> Output:
    """Read every manifest in an output folder; sizes of files are compared, not their digests.

    Raises:
        ArtifactError: there is no such folder, or a file that says what is served is damaged.
    """
    files = _Files(folder)
    newest, decided = read_shared(folder / GENERATION), _decided(folder)
    named = {digest: _generation(folder, digest, newest) for digest in decided}
    served = set() if newest is None else _names(folder / GENERATION, newest)
    served = served.union(*(names for names in named.values() if names is not None))
    read = {path.parent: _read(path) for path in files.manifests()}
    by_digest = {
        manifest.digest: place.name
        for place, manifest in read.items()
        if isinstance(manifest, Manifest)
    }
    pieces = [_piece(place, manifest, by_digest, served, files) for place, manifest in read.items()]
    generation = files.find(folder / GENERATION)
    return Output(
        path=folder,
        pieces=tuple(sorted(pieces, key=lambda one: (_place(one.stage), one.published_s))),
        unfinished=tuple(_unfinished(folder)),
        checkpoints=files.checkpoints(),
        generation_s=generation.written_s if generation else None,
        decided=decided,
        lost=tuple(digest for digest, names in named.items() if names is None),
    )


class _Files:
    """The files of an output, on this machine or in a bucket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._in_bucket: dict[Path, Stored] | None = None
        if place_of(folder) is not None:
            listed = list_shared(folder)
            self._in_bucket = {folder / name: stored for name, stored in listed.items()}
        elif not folder.is_dir():
            raise ArtifactError(
                f"{folder}: no such folder; check --output, or `output` in the recipe"
            )

    def manifests(self) -> list[Path]:
        """List the manifests of published directories, sorted."""
        if self._in_bucket is None:
            return sorted(self._folder.glob(f"*/[!.]*/{MANIFEST}"))
        inner = (path.relative_to(self._folder).parts for path in self._in_bucket)
        return sorted(
            self._folder.joinpath(*parts)
            for parts in inner
            if len(parts) == 3 and parts[2] == MANIFEST and not parts[1].startswith(".")
        )

    def find(self, path: Path) -> Stored | None:
        """Tell what is known of a file; None if there is none."""
        if self._in_bucket is not None:
            return self._in_bucket.get(path)
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        return Stored(stat.st_size, stat.st_mtime)

    def written_s(self, path: Path) -> float:
        """Tell when a file that is there was written, in seconds since 1970."""
        found = self.find(path)
        return found.written_s if found else 0.0

    def checkpoints(self) -> dict[str, int]:
        """Count the states of every training under way."""
        if self._in_bucket is None:
            places = [path.parent.name for path in self._folder.glob("checkpoints/*/step-*")]
        else:
            inner = [path.relative_to(self._folder).parts for path in self._in_bucket]
            places = [
                parts[1]
                for parts in inner
                if parts[0] == "checkpoints" and parts[2].startswith("step-")
                if parts[3:] == (MANIFEST,)
            ]
        return dict(sorted(Counter(places).items()))


def _decided(folder: Path) -> tuple[str, ...]:
    """Which generations were decided on last: the served one, and the one before."""
    path = folder / SERVING
    written = read_shared(path)
    if written is None:
        return ()
    cure = "`python -m serve.switch --config RECIPE --to DIGEST` writes it anew"
    content = _object(path, written, cure)
    named = (content.get("generation"), content.get("previous"))
    if not isinstance(named[0], str) or not isinstance(named[1], str | None):
        raise ArtifactError(f"{path}: damaged (it names no generation); {cure}")
    return tuple(dict.fromkeys(digest for digest in named if digest is not None))


def _generation(folder: Path, digest: str, newest: bytes | None) -> set[str] | None:
    """Which directories a generation names; None if its file is gone."""
    if newest is not None and digest_of(newest) == digest:
        return _names(folder / GENERATION, newest)
    path = folder / GENERATIONS / f"{digest}.json"
    written = read_shared(path)
    return None if written is None else _names(path, written)


def _names(path: Path, written: bytes) -> set[str]:
    """Which directories the file of a generation names."""
    content = _object(path, written, "run `python -m ray_jobs.pipeline` to write it anew")
    return {value for value in content.values() if isinstance(value, str)}


def _object(path: Path, written: bytes, cure: str) -> dict[str, Any]:
    try:
        content = json.loads(written)
        if not isinstance(content, dict):
            raise ValueError(f"wanted an object, found {type(content).__name__}")
    except ValueError as error:
        raise ArtifactError(f"{path}: damaged ({error}); {cure}") from error
    return content


def _read(path: Path) -> Manifest | str:
    """Read a manifest, or say what is wrong with it."""
    try:
        manifest = Manifest.model_validate_json(read_shared(path) or b"")
    except ValueError as error:
        return f"its {MANIFEST} is damaged ({str(error).splitlines()[0]})"
    if manifest.format_version != FORMAT_VERSION:
        return f"made in format {manifest.format_version}, this is {FORMAT_VERSION}"
    return manifest


def _piece(
    place: Path,
    manifest: Manifest | str,
    by_digest: dict[str, str],
    served: set[str],
    files: "_Files",
) -> Piece:
    stage = place.parent.name
    known = manifest if isinstance(manifest, Manifest) else None
    return Piece(
        stage=stage,
        fingerprint=place.name,
        path=place,
        digest=known.digest if known else "",
        published_s=files.written_s(place / MANIFEST),
        size_bytes=sum(entry.size_bytes for entry in known.files.values()) if known else 0,
        num_files=len(known.files) if known else 0,
        counts=known.counts if known else {},
        config=known.config if known else {},
        parents={name: by_digest.get(digest) for name, digest in known.parents.items()}
        if known
        else {},
        inputs=tuple(_inputs(known.config)) if known else (),
        problem=_problem(place, manifest, files),
        served=f"{stage}/{place.name}" in served,
    )


def _problem(place: Path, manifest: Manifest | str, files: "_Files") -> str:
    if isinstance(manifest, str):
        return manifest
    for name, entry in manifest.files.items():
        found = files.find(place / name)
        if found is None:
            return f"{name} is missing"
        if found.size_bytes != entry.size_bytes:
            return f"{name} has {found.size_bytes:,} bytes, not {entry.size_bytes:,}"
    return ""


def _inputs(config: dict[str, Any]) -> Iterator[InputFile]:
    for path, files in config.get("inputs", {}).items():
        for facts in files:
            yield InputFile(
                path=facts["path"],
                size_bytes=facts["size_bytes"],
                sha256=facts.get("sha256") or facts.get("footer_sha256", ""),
                state=_state(path, facts),
            )


def _state(path: str, facts: dict[str, Any]) -> InputState:
    if "://" in path:
        return InputState.REMOTE
    try:
        found = Path(facts["path"]).stat()
    except OSError:
        return InputState.GONE
    is_same = found.st_size == facts["size_bytes"]
    is_same &= found.st_mtime_ns == facts.get("modified_ns", found.st_mtime_ns)
    return InputState.SAME if is_same else InputState.CHANGED


def _unfinished(folder: Path) -> Iterator[Unfinished]:
    for draft in sorted(folder.glob("*/.*.partial")):
        # Files come and go while one is written, and the draft itself when it is published.
        sizes, times = [], []
        with suppress(FileNotFoundError):
            times.append(draft.stat().st_mtime)
            for path in draft.rglob("*"):
                with suppress(FileNotFoundError):
                    if path.is_file():
                        sizes.append(path.stat().st_size)
                        times.append(path.stat().st_mtime)
        if not draft.exists():
            continue
        yield Unfinished(
            stage=draft.parent.name,
            fingerprint=draft.name.removeprefix(".").removesuffix(".partial"),
            size_bytes=sum(sizes),
            written_s=max(times[1:] or times),
            is_running=_is_locked(draft.with_suffix(".lock")),
        )


def _is_locked(path: Path) -> bool:
    """Tell whether a process holds the lock of a draft."""
    if not path.exists():
        return False
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _place(stage: str) -> tuple[int, str]:
    return (ORDER.index(stage) if stage in ORDER else len(ORDER), stage)

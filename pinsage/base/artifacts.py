"""Published directories: written under a temporary name, whole or not there at all.

A stage publishes `<output>/<stage>/<fingerprint>/`. The fingerprint is a function of the stage's
settings and of its parents' fingerprints, so an unchanged stage is found again, a changed one gets
a directory of its own, and nothing published is ever overwritten.

While it is being written, the directory is called `.<fingerprint>.partial`. A stage that dies
leaves it behind; the next run goes on with the whole files it finds there, unless a parent is
another one now. `manifest.json` is written last, then the directory is renamed. A directory without
a manifest is never read.

In a bucket nothing is renamed: the files of a whole draft are sent to where they belong, its
manifest last, and only a directory whose manifest is in the bucket is published. See `copies`.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinsage.base import copies, shared
from pinsage.base.addresses import place_of, shown
from pinsage.base.drafts import PARENTS, Draft, begin_draft, draft_of, drop_draft, sole_writer
from pinsage.base.errors import ArtifactError, NotFiniteError, PinsageError
from pinsage.base.files import remove_folder, sync_directory
from pinsage.base.machine import available_cpus
from pinsage.base.manifest import FORMAT_VERSION, MANIFEST, FileEntry, Manifest, canonical

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "Artifact",
    "Draft",
    "FileEntry",
    "Manifest",
    "check_digests",
    "fingerprint",
    "finish",
    "is_published",
    "list_published",
    "open_artifact",
    "open_manifest",
    "publish",
    "sole_writer",
    "whole_parents",
]


@dataclass(frozen=True)
class Artifact:
    """A published directory, opened."""

    path: Path
    manifest: Manifest


def fingerprint(stage: str, config: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """Name a stage's result by what it is made from: 12 hex digits.

    Args:
        stage: the stage's name.
        config: every setting, and every fact of an input file, that can change the result.
        parents: stage name to fingerprint.
    """
    parts = [FORMAT_VERSION, stage, dict(config), dict(sorted(parents.items()))]
    return hashlib.sha256(canonical(parts)).hexdigest()[:12]


@contextmanager
def publish(
    directory: Path, *, stage: str, config: Mapping[str, Any], parents: Mapping[str, Artifact]
) -> Iterator[Draft]:
    """Write a directory and publish it whole when the block ends without an error.

    Args:
        directory: where it is to stand, `<output>/<stage>/<fingerprint>`.
        stage: the stage's name.
        config: the stage's settings, for the manifest.
        parents: stage name to the opened artefact this one is made from.

    Raises:
        ArtifactError: it is published already, another process is writing it, or something that is
            not published stands in its place.
    """
    draft_path = draft_of(directory)
    digests = {name: parent.manifest.digest for name, parent in sorted(parents.items())}
    with sole_writer(directory):
        if is_published(directory):
            raise ArtifactError(f"{shown(directory)} is published already; nothing overwrites it")
        copies.forget(directory)
        _require_free(directory)
        begin_draft(draft_path, digests)
        # Of a run that was killed between its last two steps, and is written anew.
        (draft_path / MANIFEST).unlink(missing_ok=True)
        draft = Draft(draft_path)
        yield draft
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            stage=stage,
            fingerprint=directory.name,
            config=dict(config),
            parents=digests,
            counts=draft.counts,
            files=_entries(draft_path),
        )
        draft.write_json(MANIFEST, manifest.model_dump(mode="json"))
        _make_visible(draft_path, directory, manifest)


def finish(directory: Path) -> bool:
    """Publish what a killed run had written whole, and tidy up after one that had published.

    Returns:
        Whether the directory is published now.

    Raises:
        ArtifactError: another process is writing it, or something that is not published stands in
            its place.
        StorageError: it could not be sent to its bucket.
    """
    draft_path = draft_of(directory)
    if not draft_path.exists():
        return is_published(directory)
    with sole_writer(directory):
        if is_published(directory):
            shutil.rmtree(draft_path)
            copies.settle(draft_path, directory)
            return True
        if not (draft_path / MANIFEST).exists():
            return False
        manifest = _manifest_if_whole(draft_path)
        if manifest is None:
            # A copy that was taken while it was published: nobody knows what else it lacks.
            drop_draft(draft_path)
            return False
        copies.forget(directory)
        _require_free(directory)
        _make_visible(draft_path, directory, manifest)
    return True


def is_published(directory: Path) -> bool:
    """Tell whether a directory has its manifest, in its bucket if it belongs into one."""
    return shared.is_stored(directory / MANIFEST)


def list_published(folder: Path) -> list[Path]:
    """List the published directories in a folder, sorted by name."""
    if place_of(folder) is None:
        return sorted(path.parent for path in folder.glob(f"[!.]*/{MANIFEST}"))
    names = (name.split("/") for name in shared.list_shared(folder))
    return sorted(folder / parts[0] for parts in names if parts[1:] == [MANIFEST])


def open_artifact(directory: Path, *, stage: str, check_digests: bool = False) -> Artifact:
    """Open a published directory; one in a bucket is fetched, and checked, if it is not here.

    Args:
        directory: the published directory.
        stage: the stage it must come from.
        check_digests: read every file and compare its SHA-256; sizes are always compared.

    Raises:
        ArtifactError: there is no manifest, it is of another stage or format, or a file is
            missing or not what the manifest says.
        StorageError: it could not be fetched.
    """
    copies.hold(directory)
    path = directory / MANIFEST
    manifest = _checked_manifest(path, path.read_bytes() if path.exists() else None, stage)
    for name, entry in manifest.files.items():
        _check_file(directory / name, entry, check_digest=check_digests)
    return Artifact(directory, manifest)


def open_manifest(directory: Path, *, stage: str) -> Manifest:
    """Read what a published directory says of itself; nothing else is fetched from a bucket.

    Raises:
        ArtifactError: as `open_artifact`, though files in a bucket are not looked at.
        StorageError: it could not be read.
    """
    if place_of(directory) is None:
        return open_artifact(directory, stage=stage).manifest
    path = directory / MANIFEST
    return _checked_manifest(path, shared.read_shared(path), stage)


def _checked_manifest(path: Path, content: bytes | None, stage: str) -> Manifest:
    directory = shown(path.parent)
    if content is None:
        raise ArtifactError(
            f"{directory}: no {MANIFEST}, so the {stage} stage has not finished; run it first"
        )
    try:
        manifest = Manifest.model_validate_json(content)
    except ValueError as error:
        raise ArtifactError(
            f"{shown(path)}: damaged, no manifest can be read from its {len(content)} bytes; "
            f"delete {directory} and rerun the {stage} stage"
        ) from error
    if manifest.stage != stage or manifest.format_version != FORMAT_VERSION:
        raise ArtifactError(
            f"{shown(path)}: wanted stage {stage} in format {FORMAT_VERSION}, found "
            f"{manifest.stage} in format {manifest.format_version}; give a directory of that "
            "stage, or run it again with this version"
        )
    return manifest


def check_digests(artifact: Artifact, folder: str | None = None) -> None:
    """Read the files of a published directory, and compare their SHA-256.

    Args:
        artifact: the published directory.
        folder: a folder in it, such as a shard's; None for all files.

    Raises:
        ArtifactError: a file is missing, or not what the manifest says.
    """
    for name, entry in artifact.manifest.files.items():
        if folder is None or name.startswith(f"{folder}/"):
            _check_file(artifact.path / name, entry, check_digest=True)


@contextmanager
def whole_parents(draft: Draft, parents: Mapping[str, Artifact]) -> Iterator[None]:
    """Where work fails as it does on damaged input, find out whether its parents were changed.

    Args:
        draft: what is written; dropped if a parent was changed, for it may be made from that.
        parents: all that the work reads. Their sizes were compared when they were opened; their
            bytes are read only now, since they may be many.

    Raises:
        ArtifactError: a file of a parent is not what its manifest says.
    """
    try:
        yield
    except Exception as error:
        if not _may_come_of_damage(error):
            raise
        for parent in parents.values():
            try:
                check_digests(parent)
            except ArtifactError as found:
                drop_draft(draft.path)
                raise found from error
        raise


def _may_come_of_damage(error: Exception) -> bool:
    if isinstance(error, PinsageError):
        return isinstance(error, NotFiniteError)
    return not isinstance(error, OSError) or error.errno is None


def _require_free(directory: Path) -> None:
    """Stop before the work if what it makes could not be moved to its place."""
    if directory.exists() and any(directory.iterdir()):
        raise ArtifactError(
            f"{directory}: wanted nothing there, or a published directory, found one without "
            f"{MANIFEST}, as an interrupted copy or removal leaves it; delete it or move it away, "
            "and run this again"
        )


def _manifest_if_whole(draft_path: Path) -> Manifest | None:
    """Read a draft's manifest; None if it, or a file that it lists, is not whole."""
    try:
        manifest = Manifest.model_validate_json((draft_path / MANIFEST).read_bytes())
        for name, entry in manifest.files.items():
            _check_file(draft_path / name, entry, check_digest=False)
    except (ValueError, ArtifactError):
        return None
    return manifest


def _make_visible(draft_path: Path, directory: Path, manifest: Manifest) -> None:
    """Do the last steps of publishing; whoever is killed between them goes on by `finish`."""
    copies.send(draft_path, directory, manifest.files)
    (draft_path / PARENTS).unlink(missing_ok=True)
    sync_directory(draft_path)
    draft_path.rename(directory)
    sync_directory(directory.parent)
    copies.settle(draft_path, directory)


def _entries(directory: Path) -> dict[str, FileEntry]:
    """Digest what the stage wrote; drop its scratch and what a killed run left half-written."""
    remove_folder(directory / ".scratch")
    files = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            files.append(path)
        elif path.is_file() and path.name != PARENTS:
            path.unlink()
    with ThreadPoolExecutor(available_cpus(), thread_name_prefix="digest") as pool:
        entries = pool.map(_entry, files)
        names = (path.relative_to(directory).as_posix() for path in files)
        return dict(zip(names, entries, strict=True))


def _entry(path: Path) -> FileEntry:
    return FileEntry(size_bytes=path.stat().st_size, sha256=_sha256(path))


def _check_file(path: Path, entry: FileEntry, *, check_digest: bool) -> None:
    if not path.is_file():
        raise ArtifactError(
            f"{path}: listed in the manifest but missing; delete its directory and rerun"
        )
    size = path.stat().st_size
    if size != entry.size_bytes:
        raise ArtifactError(
            f"{path}: wanted {entry.size_bytes} bytes, found {size}; delete its directory and rerun"
        )
    if check_digest and _sha256(path) != entry.sha256:
        raise ArtifactError(
            f"{path}: its SHA-256 is not the manifest's, so it was changed after it was published; "
            "delete its directory and rerun"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

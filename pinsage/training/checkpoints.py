"""Where checkpoints are published, which one a run goes on from, and the thread that writes them.

A folder holds `step-000000200/` and so on, each published whole. Training goes on while one is
written: the state is copied first, and at most one copy is on its way to the disk.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pinsage.base import copies, shared
from pinsage.base.artifacts import Draft, is_published, list_published, open_artifact, publish
from pinsage.base.errors import DISK_FULL, ArtifactError, StorageError, TrainingError
from pinsage.training.scalars import LOG
from pinsage.training.state import Snapshot, TrainingState
from pinsage.training.validation import best_of

BEST = "best.json"
"""The file that names the checkpoint with the best validation."""

_STAGE = "checkpoint"

_RETRY_S = 1.0


@dataclass(frozen=True)
class Found:
    """Where a run goes on.

    Attributes:
        path: the newest whole checkpoint; None means from the start.
        skipped: what is wrong with each newer one.
    """

    path: Path | None
    skipped: list[str]


@dataclass(frozen=True)
class Checkpoints:
    """One training's folder of checkpoints.

    Attributes:
        folder: where they are published.
        keep: how many of the newest are kept.
        settings: all that a state depends on; a checkpoint of other settings is refused.
    """

    folder: Path
    keep: int
    settings: Mapping[str, Any]

    def path(self, step: int) -> Path:
        """Name the checkpoint of a step."""
        return self.folder / f"step-{step:09d}"

    def published(self) -> list[Path]:
        """List them, the oldest first."""
        return [path for path in list_published(self.folder) if path.name.startswith("step-")]

    def find(self) -> Found:
        """Find the newest whole checkpoint, reading every byte of it.

        Raises:
            ArtifactError: it belongs to other settings, or there are some and none is whole.
            StorageError: their bucket cannot be read.
        """
        skipped: list[str] = []
        for path in reversed(self.published()):
            try:
                artifact = open_artifact(path, stage=_STAGE, check_digests=True)
            except StorageError:
                # It may be whole: to go on from an older one would lose what it holds.
                raise
            except ArtifactError as error:
                skipped.append(str(error))
                continue
            self._check_settings(path, artifact.manifest.config)
            return Found(path, skipped)
        if skipped:
            raise ArtifactError(
                f"{self.folder}: none of its {len(skipped)} checkpoints is whole "
                f"({'; '.join(skipped)}); delete the folder to start anew"
            )
        return Found(None, [])

    def require(self, step: int) -> Path:
        """Give the checkpoint of a step that must be there, whole.

        Raises:
            ArtifactError: it is not.
        """
        try:
            return open_artifact(self.path(step), stage=_STAGE, check_digests=True).path
        except ArtifactError as error:
            raise ArtifactError(
                f"the model is the state after step {step}, but {error}; delete {self.folder} to "
                "train anew"
            ) from error

    def wait_for(self, step: int, *, worker: int, timeout_s: float) -> Path:
        """Give the checkpoint that worker 0 goes on from; a shared folder may show it late.

        Args:
            step: whose state it is.
            worker: who wants it.
            timeout_s: how long it may take to be seen.

        Raises:
            ArtifactError: it is not there in time, or not whole.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return open_artifact(self.path(step), stage=_STAGE, check_digests=True).path
            except ArtifactError as error:
                if time.monotonic() >= deadline:
                    raise self._not_seen(step, worker, error) from error
            time.sleep(_RETRY_S)

    def _not_seen(self, step: int, worker: int, error: ArtifactError) -> ArtifactError:
        published = self.published()
        newest = published[-1].name if published else "none"
        return ArtifactError(
            f"{self.folder}: worker 0 goes on from {self.path(step).name}, but worker {worker} "
            f"cannot read that one ({error}); the newest it sees is {newest}. All nodes must see "
            "the same folder: look at its mount, and run the same command again"
        )

    def save(
        self, step: int, write: Callable[[Draft], None], *, best_step: int | None = None
    ) -> None:
        """Publish one, then drop the oldest beyond the number kept, but never the best.

        A full disk is given a second chance once older checkpoints have made room.

        Raises:
            TrainingError: it cannot be written; the newest of the others is whole still.
        """
        try:
            self._publish(step, write)
        except (OSError, SafetensorError) as error:
            if _error_number(error) not in DISK_FULL or not self._drop(step, best_step, 1):
                raise self._failed(step, error) from error
            try:
                self._publish(step, write)
            except (OSError, SafetensorError) as again:
                raise self._failed(step, again) from again
        if best_step is not None:
            content = json.dumps({"step": best_step}) + "\n"
            shared.write_shared(self.folder / BEST, content.encode())
        self._drop(step, best_step, self.keep)

    def _publish(self, step: int, write: Callable[[Draft], None]) -> None:
        directory = self.path(step)
        for left in _partials(self.folder):
            shutil.rmtree(left)
        if directory.exists() or is_published(directory):
            # Training came by here before: this one was damaged, or says the same.
            copies.remove(directory)
        # Before the state: whoever goes on from it finds the log up to it.
        shared.push(self.folder / LOG)
        try:
            with publish(directory, stage=_STAGE, config=self.settings, parents={}) as draft:
                write(draft)
                draft.counts["step"] = step
        except (OSError, SafetensorError):
            for left in _partials(self.folder):
                shutil.rmtree(left, ignore_errors=True)
            raise

    def _drop(self, step: int, best_step: int | None, keep: int) -> bool:
        """Remove all but the newest and the best; tell whether there was anything to remove.

        What is of later steps than `step` was damaged, or training would be there; it stays, and
        counts for nothing, until training comes by.
        """
        reached = [path for path in self.published() if path <= self.path(step)]
        old = [path for path in reached[:-keep] if path != self._best_path(best_step)]
        for path in old:
            copies.remove(path)
            (self.folder / f".{path.name}.lock").unlink(missing_ok=True)
        return bool(old)

    def _best_path(self, best_step: int | None) -> Path | None:
        return None if best_step is None else self.path(best_step)

    def _check_settings(self, path: Path, found: Mapping[str, Any]) -> None:
        differing = differences(found, self.settings)
        if differing:
            raise ArtifactError(
                f"{path}: a checkpoint of other settings: {'; '.join(differing)}; restore them, or "
                f"delete {self.folder} to start anew"
            )

    def _failed(self, step: int, error: Exception) -> TrainingError:
        published = self.published()
        last = f"{published[-1].name} is whole" if published else "there is no earlier one"
        return TrainingError(
            f"{self.path(step)}: the checkpoint cannot be written ({_reason(error)}); {last}. Make "
            "room or mend the disk, and run the same command again to go on"
        )


class BackgroundSaver:
    """Writes checkpoints on a thread of its own, at most one at a time."""

    def __init__(self, checkpoints: Checkpoints, snapshot: Snapshot, *, resumed_at: int) -> None:
        """Start the thread.

        Args:
            checkpoints: where to.
            snapshot: what copies the state.
            resumed_at: the step whose checkpoint is there already.
        """
        self._checkpoints = checkpoints
        self._snapshot = snapshot
        self._last_step = resumed_at
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None

    def save(self, state: TrainingState) -> None:
        """Copy the state and have it written; wait first for the one under way.

        Raises:
            TrainingError: the one before it cannot be written.
        """
        if state.step == self._last_step:
            return
        self.finish()
        self._snapshot.take(state)
        best = best_of(state.validations)
        self._last_step = state.step
        self._under_way = self._thread.submit(
            self._checkpoints.save,
            state.step,
            self._snapshot.write,
            best_step=None if best is None else best.step,
        )

    def check(self) -> None:
        """Raise what went wrong in the background, without waiting."""
        if self._under_way is not None and self._under_way.done():
            self.finish()

    def finish(self) -> None:
        """Wait for the one under way.

        Raises:
            TrainingError: it cannot be written.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Say in which settings two trees differ.

    >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
    ['a.b was 1, is 3 now']
    """
    before, now = dict(_leaves(found)), dict(_leaves(wanted))
    return [
        f"{name} was {before.get(name, 'not there')}, is {now.get(name, 'not there')} now"
        for name in sorted(before.keys() | now.keys())
        if name not in before or name not in now or before[name] != now[name]
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _partials(folder: Path) -> list[Path]:
    """List what writers that were killed have left behind."""
    return list(folder.glob(".step-*.partial"))


def _error_number(error: Exception) -> int | None:
    """Find the system's error number; safetensors gives it in its text alone."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)", str(error))
    return int(found.group(1)) if found else None


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)

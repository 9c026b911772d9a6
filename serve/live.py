"""Items written while serving: kept in a log, put in force at once, followed by every replica."""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pinsage.base.errors import ArtifactError
from serve.answers import Answers
from serve.current import Current
from serve.embedding import ModelError, needs_model, overflow
from serve.live_counting import made_items
from serve.live_items import LiveItem
from serve.log import Place, Record, WriteLog, last_by_key
from serve.problems import Code, ProblemError
from serve.schemas_items import DeleteReply, PutReply, PutRequest
from serve.telling import neighbors_told

logger = logging.getLogger("pinsage.serve")

_LOOK_S = 0.05
"""How often a replica looks whether others have written."""

_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 5.0
"""How long it waits after something went wrong: twice as long every time."""

_COMPACTED_FROM = 1000
"""Shorter logs aren't worth rewriting."""


@dataclass(frozen=True)
class _Write:
    """The last write to a key.

    Attributes:
        number: its place among all writes, counted from 1.
        record: as the log has it.
    """

    number: int
    record: Record


class Writes:
    """The writes of one folder, and the answers that follow them.

    Every write is a line in the log before it is in force, and in force before it is answered. What
    is in force is the last write to each key:

    - A deleted item stays hidden, in later generations too, until its key is put again.
    - A put item stays until a generation is served whose graph has the key and of whose tables one
      was written after the put: the batch run has taken it in. On older generations it counts too,
      and one that no batch run knows stays for ever, embedded anew by every generation's model.
    """

    def __init__(self, folder: Path, current: Current, *, read_only: bool = False) -> None:
        """Name the folder; nothing is read before `catch_up`.

        Args:
            folder: where the log is, the same for all replicas.
            current: holds the answers that writes change.
            read_only: refuse writes here; those of others are followed.
        """
        self._log = WriteLog(folder)
        self._folder = folder
        self._current = current
        self._read_only = read_only
        self._lock = threading.Lock()
        self._reading = threading.Lock()  # Within `Current.replace`, never around it.
        self._last: dict[str, _Write] = {}
        self._number = 0
        self._known: Place | None = None
        self._is_stuck = False
        self._opened = ""
        self._bug: Exception | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, key: str, request: PutRequest) -> tuple[PutReply, Answers]:
        """Keep an item, and put it in force.

        Returns:
            What is told, and the answers that have it.

        Raises:
            ProblemError: this server takes no writes, the item doesn't fit the generation, or it
                could not be kept; then nothing has changed.
        """
        told: list[PutReply] = []

        def make(answers: Answers) -> Answers:
            with needs_model():
                answers.maker.check(key, request)
                made = answers.maker.make({key: request})
            if not made:
                raise overflow()
            content = request.model_dump(exclude_defaults=True)
            before, after = self._kept(answers, {"op": "put", "key": key, "item": content}, made)
            live = made[key]
            told.append(
                PutReply(
                    item=live.item,
                    is_new=before.items.id_of(key) is None,
                    neighbors=neighbors_told(after.items, live.neighbor_ids, live.neighbor_weights),
                    unknown_contexts=live.unknown_contexts,
                    missing_features=answers.embedder.missing(request.features),
                )
            )
            return after

        with self._writing():
            answers = self._current.replace(make)
        return told[0], answers

    def delete(self, key: str) -> tuple[DeleteReply, Answers]:
        """Forget an item, and take it out of all answers.

        Returns:
            What is told, and the answers without it.

        Raises:
            ProblemError: this server takes no writes, or it could not be kept; then nothing has
                changed.
        """
        told: list[DeleteReply] = []

        def make(answers: Answers) -> Answers:
            self._read()
            before = self._applied(answers)
            was_there = before.items.id_of(key) is not None
            told.append(DeleteReply(key=key, was_there=was_there))
            # What doesn't fit this generation may fit another one.
            if not was_there and not self._is_put(key):
                return before
            return self._kept(before, {"op": "delete", "key": key}, {})[1]

        with self._writing():
            answers = self._current.replace(make)
        return told[0], answers

    def applied(self, answers: Answers) -> Answers:
        """Give answers with all writes in force that this process knows of.

        Costs next to nothing if they are already. A new generation is best brought up to date
        before it is put in force, which may take a while, and once more while it is.

        Raises:
            ModelError: items can't be embedded.
        """
        return self._applied(answers, strict=True)

    def catch_up(self) -> None:
        """Read what others have written, and put it in force.

        Where items can't be embedded, all else is in force, and the thread tries them again.

        Raises:
            ArtifactError: the log is damaged.
            OSError: it cannot be read.
        """

        def make(answers: Answers) -> Answers:
            self._read()
            return self._applied(answers)

        self._current.replace(make)

    def lacks(self, answers: Answers, keys: Iterable[str]) -> bool:
        """Tell whether answers may lack a write to some keys; costs one `stat`.

        None is said to be lacking where writes can't be followed: answers go on without them.
        """
        if self._is_stuck:
            return False
        try:
            found = self._log.found()
        except OSError:
            # The thread that follows meets it too, and tells.
            return False
        if found is not None and found != self._known:
            return True
        return answers.num_writes < self._number and self._has_due(answers, keys)

    def seen(self, answers: Answers, keys: Sequence[str]) -> Answers:
        """Give answers with every write to some keys that anybody was answered for before this.

        Writes to other keys are left to the thread that follows, and nobody waits for them.
        """
        if not self.lacks(answers, keys):
            return answers

        try:
            self._read()
            for known in (answers, self._current.now):
                if not self._has_due(known, keys):
                    return known
            self.catch_up()
        except Exception:
            logger.exception("%s: writes can't be followed", self._folder)
            self._is_stuck = True
            return answers
        now = self._current.now
        # What can't be embedded now is left to the thread.
        self._is_stuck = self._has_due(now, keys)
        return now

    def compact(self) -> None:
        """Shorten a log of which most was overwritten.

        Raises:
            ArtifactError: the log is damaged.
            OSError: it cannot be written.
        """
        if self._read_only or self._log.num_records < max(2 * len(self._last), _COMPACTED_FROM):
            return

        def make(answers: Answers) -> Answers:
            with self._reading:
                self._log.compact(last_by_key)
            return answers

        # Nobody here writes meanwhile.
        self._current.replace(make)

    def start(self) -> None:
        """Follow the log in a thread of its own, which opens the model first."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._follow, name="writes", daemon=True)
            self._thread.start()

    def check(self) -> None:
        """Make sure that others' writes are followed, as far as what is published and kept allows.

        Raises:
            RuntimeError: they are not, and a new process may do better.
        """
        if self._bug is not None:
            raise RuntimeError("the log of writes isn't followed; the server's log says why") from (
                self._bug
            )

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _follow(self) -> None:
        pause_s = _LOOK_S
        while not self._stopping.wait(pause_s):
            is_well = self._look()
            self._is_stuck = not is_well
            pause_s = _LOOK_S if is_well else min(max(2 * pause_s, _PAUSE_S), _LONGEST_PAUSE_S)

    def _look(self) -> bool:
        """Do all that is due; tells whether nothing is left."""
        try:
            if self._log.has_changed or self._is_behind:
                self.catch_up()
            answers = self._current.now
            if answers.digest != self._opened and not self._read_only:
                answers.open_model()
                self._opened = answers.digest
            self.compact()
        except Exception as error:
            # Whoever writes meets it too, and is told.
            logger.exception("%s: writes can't be followed", self._folder)
            self._bug = None if isinstance(error, ArtifactError | OSError) else error
            self._current.metrics.writes_behind(is_behind=True)
            return False
        self._bug = None
        self._current.metrics.writes_behind(is_behind=self._is_behind)
        return not self._is_behind

    @property
    def _is_behind(self) -> bool:
        """Whether writes that are known are not in force."""
        return self._current.now.num_writes < self._number

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Refuse writes where there are none, and answer with a problem where they fail."""
        if self._read_only:
            raise ProblemError(Code.READ_ONLY, "This server takes no writes (serve.read_only).")
        try:
            yield
        except (ArtifactError, OSError) as error:
            logger.exception("%s: a write could not be kept", self._folder)
            reason = error.strerror if isinstance(error, OSError) else "the log is damaged"
            raise ProblemError(
                Code.WRITES_UNAVAILABLE,
                f"Writes can't be kept now ({reason}); the server's log says more. Its "
                "`serve.writes` folder must be writable.",
            ) from error

    def _kept(
        self, answers: Answers, record: Mapping[str, object], made: Mapping[str, LiveItem]
    ) -> tuple[Answers, Answers]:
        """Write a record down, and give the answers just before it and just after.

        Others may have written to the same key since, and only the last write to a key is known:
        theirs are in force first.
        """
        whole = {
            **record,
            "at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "generation": answers.digest,
            "graph": answers.graph_digest,
        }
        with self._reading:
            self._take(self._log.append(whole))
            try:
                before = self._applied(answers)
            finally:
                # It is in the log, and not read from there again: whatever fails, it is followed.
                self._take([whole])
                self._known = self._log.place
        return before, self._applied(before, made)

    def _read(self) -> None:
        """Number what others have written since the last time."""
        with self._reading:
            self._take(self._log.read())
            # Only now: who finds this place looks for writes among the numbered ones alone.
            self._known = self._log.place

    def _take(self, records: Sequence[Record]) -> None:
        """Number records in the order of the log; those known already change nothing."""
        with self._lock:
            for record in records:
                key = record["key"]
                known = self._last.get(key)
                if known is None or known.record != record:
                    # To the end of the dictionary: it is in the order of the numbers.
                    self._last.pop(key, None)
                    self._number += 1
                    self._last[key] = _Write(self._number, record)

    def _applied(
        self,
        answers: Answers,
        made: Mapping[str, LiveItem] | None = None,
        *,
        strict: bool = False,
    ) -> Answers:
        """Bring answers up to date.

        Args:
            answers: any generation's.
            made: items of this generation that need no embedding any more.
            strict: where items can't be embedded, raise, instead of leaving them for later.

        Raises:
            ModelError: items can't be embedded.
        """
        due = self._due(answers.num_writes)
        if not due:
            return answers
        deleted = [key for key, write in due.items() if write.record["op"] == "delete"]
        puts = {key: write.record for key, write in due.items() if write.record["op"] != "delete"}
        try:
            items = made_items(answers, puts, made or {})
        except ModelError as error:
            if strict:
                raise
            logger.error("%d items put are left out for now: %s", len(puts), error)
            # So many writes are in force as before: these are still due.
            return answers.written(made or {}, deleted, num_writes=answers.num_writes)
        if any(answers.items.is_written(key) for key in puts.keys() - items.keys()):
            # The last write to a key counts no more, and the one before it is in force.
            return self._applied(answers.as_published, made, strict=strict)
        last = max(write.number for write in due.values())
        return answers.written(items, deleted, num_writes=last)

    def _is_put(self, key: str) -> bool:
        """Tell whether the last write to a key has put it."""
        with self._lock:
            known = self._last.get(key)
        return known is not None and known.record["op"] == "put"

    def _has_due(self, answers: Answers, keys: Iterable[str]) -> bool:
        """Tell whether a write to one of some keys is newer than what answers have."""
        with self._lock:
            found = [self._last[key].number for key in keys if key in self._last]
        return max(found, default=0) > answers.num_writes

    def _due(self, num_writes: int) -> dict[str, _Write]:
        """The last writes to their keys that are newer than what answers have."""
        with self._lock:
            due = {}
            for key, write in reversed(self._last.items()):
                if write.number <= num_writes:
                    break
                due[key] = write
        return dict(reversed(due.items()))

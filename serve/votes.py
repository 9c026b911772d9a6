"""Votes on disk: one JSON line each, appended whole and synced before anybody is thanked.

Any number of processes may share the file: a lock on it orders writers, and everyone reads what
others have added before deciding whether a vote is new.
"""

import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from pinsage.base.files import sync_directory
from pinsage.evaluation.head_to_head import Choice

_FILE = "votes.jsonl"
_SECRET = "secret"
_SECRET_BYTES = 32


@dataclass(frozen=True)
class Vote:
    """What one person chose."""

    duel: str
    """Names the question; each is answered once."""
    generation: str
    query: str
    """Key of the item asked about."""
    left: str
    """The method that was shown on the left."""
    right: str
    num_items: int
    """How many answers of each method were shown."""
    choice: Choice
    voter: str
    """Whatever the page calls the person; empty if it doesn't."""
    at: str
    """When, in UTC."""

    @property
    def question(self) -> tuple[object, ...]:
        """What one voter is asked once, whichever method is shown on the left."""
        pair = tuple(sorted((self.left, self.right)))
        return self.voter, self.generation, self.query, pair, self.num_items


_VOTE = TypeAdapter(Vote)


class DuplicateVoteError(Exception):
    """The question was answered before, and differently or by the same person."""


class VoteLog:
    """The votes of one run, and the secret that its questions are signed with."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made with the first vote or question.

        Args:
            folder: shared by all replicas.
        """
        self._folder = folder
        self._lock = threading.Lock()
        self._votes: dict[str, Vote] = {}
        self._questions: set[tuple[object, ...]] = set()
        self._inode = 0
        self._read_bytes = 0
        self._damaged = 0

    def secret(self) -> bytes:
        """Give the secret, the same for all replicas; made when first asked for.

        Raises:
            OSError: the folder cannot be written, or the secret there is not whole.
        """
        path = self._folder / _SECRET
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh = self._folder / f".{_SECRET}-{secrets.token_hex(8)}"
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(_SECRET_BYTES))
                file.flush()
                os.fsync(file.fileno())
            try:
                # Unlike a rename, a link doesn't replace what another replica made meanwhile.
                path.hardlink_to(fresh)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        secret = path.read_bytes()
        if len(secret) != _SECRET_BYTES:
            # With an empty one, anybody could sign a question.
            raise OSError(
                errno.EIO,
                f"{path} has {len(secret)} bytes instead of {_SECRET_BYTES}; delete it, and "
                "questions asked before can't be answered any more",
            )
        return secret

    def cast(self, vote: Vote) -> bool:
        """Keep a vote for good; tells whether it was new.

        The same vote again, as after an answer that got lost, changes nothing.

        Raises:
            DuplicateVoteError: the duel has another choice, or the voter answered this question.
            OSError: the vote could not be written; then it doesn't count.
        """
        with self._lock, self._opened() as handle:
            self._catch_up(handle)
            before = self._votes.get(vote.duel)
            if before is not None:
                if (before.choice, before.voter) != (vote.choice, vote.voter):
                    raise DuplicateVoteError("this question was answered before, with another vote")
                return False
            if vote.voter and vote.question in self._questions:
                raise DuplicateVoteError("you have compared these methods for this item before")
            self._append(handle, orjson.dumps(asdict(vote)) + b"\n")
            self._catch_up(handle)
            return True

    def read(self) -> tuple[list[Vote], int]:
        """Give all votes so far, and how many lines could not be read."""
        with self._lock:
            if (self._folder / _FILE).exists():
                with self._opened(write=False) as handle:
                    self._catch_up(handle)
            return list(self._votes.values()), self._damaged

    @contextmanager
    def _opened(self, *, write: bool = True) -> Iterator[int]:
        """Open the file and lock it against other processes."""
        path = self._folder / _FILE
        is_new = write and not path.exists()
        if is_new:
            self._folder.mkdir(parents=True, exist_ok=True)
        mode = os.O_RDWR | os.O_APPEND | os.O_CREAT if write else os.O_RDONLY
        handle = os.open(path, mode, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
            yield handle
            if is_new:
                sync_directory(self._folder)
        finally:
            os.close(handle)

    def _append(self, handle: int, line: bytes) -> None:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            # Somebody was killed half way; their line ends here, unread.
            line = b"\n" + line
        try:
            if os.write(handle, line) < len(line):
                raise OSError("the disk is full")
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise

    def _catch_up(self, handle: int) -> None:
        """Read the whole lines that were added since."""
        found = os.fstat(handle)
        if found.st_ino != self._inode or found.st_size < self._read_bytes:
            # Somebody has begun anew: what stood in the file before counts no more.
            self._inode, self._read_bytes, self._damaged = found.st_ino, 0, 0
            self._votes, self._questions = {}, set()
        added = os.pread(handle, found.st_size - self._read_bytes, self._read_bytes)
        whole = added[: added.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            try:
                vote = _VOTE.validate_json(line)
            except ValidationError:
                self._damaged += 1
                continue
            self._votes.setdefault(vote.duel, vote)
            self._questions.add(vote.question)

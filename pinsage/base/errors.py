"""Every error this project raises on purpose.

A message says what was wanted, what was found, where, and what to try. The constructor's arguments
are the exception's `args`, so each of them pickles and crosses processes whole.
"""

import errno
import re

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the system's errors where there is no room."""


class PinsageError(Exception):
    """The base of all errors that a user can act on; jobs print it without a traceback."""


class ConfigError(PinsageError):
    """A configuration file or override that does not describe a run."""


class DataError(PinsageError):
    """Input tables that cannot be ingested; the message lists every finding."""


class ArtifactError(PinsageError):
    """A published directory that is missing, unfinished, damaged or of another kind."""


class ResourceError(PinsageError):
    """A machine or cluster that cannot give what the configuration asks for."""


class TrainingError(PinsageError):
    """A training run that cannot start or go on."""


class NotFiniteError(PinsageError):
    """Numbers that came out as NaN or infinite: what they are made of is too large, or damaged."""


class WorkerTimeoutError(PinsageError):
    """A remote part gave no answer in the time it was given."""


class ShardUnavailableError(PinsageError):
    """A shard's store that gave no answer, or was lost again and again."""

    def __init__(self, shard: int, timeout_s: float) -> None:
        """Name the shard.

        Args:
            shard: its number.
            timeout_s: how long it was waited for.
        """
        super().__init__(shard, timeout_s)

    def __str__(self) -> str:
        shard, timeout_s = self.args
        return (
            f"shard {shard} gave no answer within {timeout_s:g} s; look for a lost node in "
            "`ray status`, or raise stores.request_timeout_s"
        )


class WalkLostError(PinsageError):
    """A store that knows nothing of a walk, because it was lost and started again."""


class StorageError(ArtifactError):
    """A bucket that cannot be read or written, after all attempts."""


def what_failed(error: OSError) -> str:
    """Say what the system refused, and of which file if it is known."""
    # One that Ray brought from another process is told with that one's traceback.
    error = getattr(error, "cause", error)
    # What NumPy says where a disk is full.
    if re.fullmatch(r"\d+ requested and \d+ written", str(error)):
        return f"a file could not be written whole ({error})"
    told = error.strerror or str(error)
    return f"{told}: {error.filename}" if error.filename else told

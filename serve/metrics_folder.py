"""The folders where processes of `--direct` share their metrics, each its supervisor's."""

import fcntl
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path

logger = logging.getLogger("pinsage.serve")

_NAME = re.compile(r"pinsage-metrics-([0-9]{1,9})-\w+")
_LOCK = "supervisor.lock"


class MetricsFolder:
    """A new folder, kept from others' tidying by its name and by a lock, and removed at the end."""

    def __init__(self) -> None:
        """Remove what supervisors that were killed have left, and make a folder."""
        _tidy(Path(tempfile.gettempdir()))
        self._made = tempfile.TemporaryDirectory(prefix=f"pinsage-metrics-{os.getpid()}-")
        self.name = self._made.name
        # Not inherited by the workers, so it ends with this process, however that ends.
        self._lock = os.open(Path(self.name) / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove it; again changes nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self._made.cleanup()


def _tidy(parent: Path) -> None:
    """Remove this user's folders of supervisors that are gone."""
    for folder in parent.glob("pinsage-metrics-*"):
        try:
            if _is_left(folder):
                shutil.rmtree(folder)
        except OSError as error:
            logger.debug("%s is left where it is: %s", folder, error)


def _is_left(folder: Path) -> bool:
    named = _NAME.fullmatch(folder.name)
    if named is None or folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        return False
    # Other containers may share the folder, and there this number means another process, or none.
    return not _is_alive(int(named[1])) and not _is_locked(folder / _LOCK)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False

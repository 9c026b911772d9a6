"""Ctrl-C while a command is still being imported, which takes seconds."""

import os
import signal
import sys
from types import FrameType


def leave_at_ctrl_c() -> None:
    """End a `python -m` at once at Ctrl-C, until `hear_ctrl_c`.

    For a package's `__init__`, which runs while Python looks for the command. Else Ctrl-C would end
    in a traceback of somebody's import, or in nothing.
    """
    if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def hear_ctrl_c() -> None:
    """Let Ctrl-C be an exception from here on, for a command that can tell what it means."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at once: nothing runs yet, and an exception might be lost in an import."""
    os.write(2, b"\nstopped before anything was done\n")
    os._exit(130)

"""Layer 7: one command a stage, and the pipeline that runs them all."""

import os
import signal
import sys
from types import FrameType


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at once: nothing runs yet, and an exception might be lost in somebody's import."""
    os.write(2, b"\nstopped before anything was done\n")
    os._exit(130)


def hear_ctrl_c() -> None:
    """Let Ctrl-C be an exception from here on, for a command that can tell what it means."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# So it is while Python looks for the command of `python -m ray_jobs.<command>`. Imports take
# seconds, and until they are done, Ctrl-C would end in one of their tracebacks, or in nothing.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)

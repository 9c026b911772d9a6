"""What an error means for whoever called: one line, and an exit code."""

import os
import select
import sys
from collections.abc import Callable

from pinsage.base.errors import ConfigError, PinsageError, what_failed
from pinsage.base.interrupts import hear_ctrl_c


def exit_code(work: Callable[[], int]) -> int:
    """Do the work; print an error that the user can mend as one line instead of a traceback.

    Returns:
        What `work` returns; or 1 after an error that the user can mend, 2 after one in the
        configuration, 130 after Ctrl-C.
    """
    hear_ctrl_c()
    try:
        code = work()
        sys.stdout.flush()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except PinsageError as error:
        # One that Ray brought from another process holds the one that was raised there.
        print(f"error: {getattr(error, 'cause', error)}", file=sys.stderr)
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 1
        print(
            f"error: {what_failed(error)}; look at `output`, its permissions and the space left "
            "on its disk",
            file=sys.stderr,
        )
        return 1
    except (KeyboardInterrupt, SystemError) as error:
        # Compiled code that was interrupted ends in a SystemError, and says of what.
        if not _is_interrupted(error):
            raise
        print("\nstopped; what is published stays, and the same command goes on", file=sys.stderr)
        return 130
    return code


def _nobody_reads() -> bool:
    """Tell whether whoever read standard output has read enough, as `head` does; then be quiet."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    is_gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if is_gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return is_gone


def _is_interrupted(error: BaseException) -> bool:
    if isinstance(error, KeyboardInterrupt):
        return True
    return error.__cause__ is not None and _is_interrupted(error.__cause__)

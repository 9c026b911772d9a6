"""Long work beside requests that are being answered."""

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SHARE_S = 0.0005

_one = threading.Lock()


@contextmanager
def beside_requests() -> Iterator[None]:
    """Do long work in a thread without holding up those that answer.

    Two things of Python's do hold them up. A thread that computes hands over only every 5 ms, and a
    request waits for that several times: ten times as often costs the work a few percent. And the
    collector of cycles stops everyone while it looks at every object there is, some tenths of a
    second with a large catalog: it rests meanwhile, and never looks again at what the work has made
    (`gc.freeze`), so what is to be released must hold no cycles.
    """
    with _one:
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SHARE_S)
        gc.disable()
        try:
            yield
        finally:
            gc.freeze()
            gc.enable()
            sys.setswitchinterval(before)


def settle() -> None:
    """Let the collector of cycles pass over everything there is by now, for good."""
    gc.collect()
    gc.freeze()

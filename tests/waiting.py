"""Waiting for what other processes do, and ports for them to listen on."""

import socket
import time
from collections.abc import Callable

PATIENCE_S = 240
"""After so long without what is waited for, a test fails; much more than any machine takes."""


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Callable[[], bool], what: str = "what is waited for") -> None:
    """Look again and again until something holds."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"{what} did not come within {PATIENCE_S} s"
        time.sleep(0.05)

"""The access log: one JSON line a request."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

access_logger = logging.getLogger("pinsage.serve.access")


def log_accesses() -> None:
    """Write access lines to standard error as they are, without any prefix."""
    if access_logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    access_logger.addHandler(handler)
    access_logger.setLevel(logging.INFO)
    access_logger.propagate = False


def tell_access(told: Mapping[str, object]) -> None:
    """Write a line about a request that was just answered, with the time and this process's id."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "INFO",
        "logger": access_logger.name,
        "process": os.getpid(),
        **told,
    }
    access_logger.info(json.dumps(line))

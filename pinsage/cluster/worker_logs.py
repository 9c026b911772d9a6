"""The run's way of logging, taken along by every worker process that Ray starts for it."""

import os
from typing import Any

from pinsage.base.logs import LogConfig, set_up_logging, writes_json

_VARIABLE = "PINSAGE_LOGS"
_HOOK = "pinsage.cluster.worker_logs.set_up_worker"


def set_up_logs(config: LogConfig) -> None:
    """Log as a recipe says, in this process and in processes and Ray sessions begun after it."""
    resolved = set_up_logging(config)
    os.environ.pop(_VARIABLE, None)
    if writes_json():
        os.environ[_VARIABLE] = resolved.model_dump_json()


def worker_environment() -> dict[str, Any] | None:
    """Say what Ray gives to every worker; None as long as the log is plain text.

    Ray keeps what workers write in its session's log files.
    """
    told = os.environ.get(_VARIABLE)
    if told is None:
        return None
    return {"env_vars": {_VARIABLE: told}, "worker_process_setup_hook": _HOOK}


def set_up_worker() -> None:
    """Log in a process as the one that has started it does."""
    told = os.environ.get(_VARIABLE)
    set_up_logging(None if told is None else LogConfig.model_validate_json(told))

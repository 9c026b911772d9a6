"""What a command and all that it started hold in memory, at most."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import descendants

_SAMPLED_EVERY_S = 0.1


@dataclass(frozen=True)
class Held:
    """What one command took.

    Attributes:
        own_bytes: most memory its processes had for themselves together, Ray's included.
        shared_bytes: most shared memory: Ray's object store.
        seconds: how long it ran.
        returncode: its exit code.
        errors: the end of its standard error.
    """

    own_bytes: int
    shared_bytes: int
    seconds: float
    returncode: int
    errors: str


def watch(arguments: list[str], *, log: Path) -> Held:
    """Run `python -m ...` to its end, looking at its processes ten times a second."""
    started = time.monotonic()
    own = shared = 0
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=out, stderr=out)
        while process.poll() is None:
            sizes = [_sizes(pid) for pid in (process.pid, *descendants(process.pid))]
            own = max(own, sum(size for size, _ in sizes))
            shared = max(shared, sum(size for _, size in sizes))
            time.sleep(_SAMPLED_EVERY_S)
    return Held(
        own, shared, time.monotonic() - started, process.returncode, log.read_text()[-2000:]
    )


def _sizes(pid: int) -> tuple[int, int]:
    """Private and shared memory of a process in bytes; what files were mapped is left out."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        # It ended while we looked.
        return 0, 0
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return kib["Pss_Anon"] * 1024, kib["Pss_Shmem"] * 1024

"""The server under load while parts of it are killed: what failed, and for how long.

Run: `python -m benchmarks.chaos_serve [--json] [--items N] [--seconds S]`.

Eight connections ask without a pause; a third into the time, one process is killed with SIGKILL:

- `direct, a worker`: one of two workers of `python -m serve --direct`;
- `proxy, a replica`: one of two replicas behind Ray Serve's proxy;
- `proxy, the proxy`: Ray Serve's only proxy on the node.

A request has failed if it got no answer, or another than 200; the client retries nothing. `failed`
counts them and `failing_s` is the time from the first to the last of them, by what was killed.
`requests` is what was answered in all, and `back_s` how long after the kill there were as many such
processes as before.
"""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks._load import Load, get, load
from benchmarks._served import Served, write_served
from benchmarks._timing import parser, report
from benchmarks.processes import descendants
from benchmarks.serve import K, running

CONNECTIONS = 8
REPLICAS = 2
_QUESTIONS = 2000
_LOOK_S = 0.05
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Fault:
    """What is killed.

    Attributes:
        name: what the report calls it.
        mode: how the server runs.
        title: what the process to kill is called.
    """

    name: str
    mode: str
    title: str


FAULTS = (
    Fault("direct, a worker", "direct", "spawn_main"),
    Fault("proxy, a replica", "proxy", "ServeReplica"),
    Fault("proxy, the proxy", "proxy", "ProxyActor"),
)


@dataclass(frozen=True)
class Outcome:
    """What one fault did.

    Attributes:
        load: what the clients met.
        back_s: seconds until there were as many such processes as before.
    """

    load: Load
    back_s: float

    @property
    def failing_s(self) -> float:
        """From the first failure to the last."""
        times = self.load.failed_at_s
        return max(times) - min(times) if times else 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    flags = parser(__doc__)
    flags.add_argument("--items", type=int, default=20_000)
    flags.add_argument("--width", type=int, default=128)
    flags.add_argument("--seconds", type=float, default=45.0, help="of load a fault")
    options = flags.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pinsage-chaos-") as folder:
        served = write_served(Path(folder), num_items=options.items, width=options.width)
        outcomes = {fault.name: suffer(served, fault, options.seconds) for fault in FAULTS}
    rows = [
        [name, str(len(one.load.latencies_s)), str(one.load.failed), f"{one.failing_s:.2f} s",
         f"{one.back_s:.1f} s", f"{1000 * one.load.percentile_s(0.99):.0f} ms"]
        for name, one in outcomes.items()
    ]  # fmt: skip
    heading = ["killed", "answered", "failed", "failing for", "back after", "p99"]
    figures = {
        "requests": {name: len(one.load.latencies_s) for name, one in outcomes.items()},
        "failed": {name: one.load.failed for name, one in outcomes.items()},
        "failing_s": {name: one.failing_s for name, one in outcomes.items()},
        "back_s": {name: one.back_s for name, one in outcomes.items()},
    }
    title = f"{CONNECTIONS} connections, {REPLICAS} processes that answer, one kill each"
    report(title, [heading, *rows], figures, as_json=options.json)


def suffer(served: Served, fault: Fault, seconds: float) -> Outcome:
    """Put load on a server, kill a part of it, and see.

    Args:
        served: what the server answers from.
        fault: what to kill.
        seconds: how long the load lasts.
    """
    ids = np.random.default_rng(1).integers(0, served.num_items, _QUESTIONS)
    questions = [get(f"/v1/items/{served.key(int(i))}/similar?k={K}") for i in ids]
    with running(fault.mode, served, replicas=REPLICAS) as server:
        found = _eventually(lambda: _called(server.process.pid, fault.title), "to kill")
        back: list[float] = []
        killer = threading.Timer(seconds / 3, _kill, (server.process.pid, fault, found, back))
        killer.start()
        met = load(server.port, questions, connections=CONNECTIONS, seconds=seconds)
        killer.join(_PATIENCE_S)
    if not back:
        raise RuntimeError(f"{fault.name}: nothing took the place of what was killed")
    return Outcome(met, back[0])


def _kill(root: int, fault: Fault, found: Sequence[int], back: list[float]) -> None:
    os.kill(found[0], signal.SIGKILL)
    killed_at = time.perf_counter()

    def restored() -> bool:
        now = _called(root, fault.title)
        return found[0] not in now and len(now) >= len(found)

    _eventually(restored, "in the place of what was killed")
    back.append(time.perf_counter() - killed_at)


def _called(root: int, title: str) -> list[int]:
    """Find the server's processes whose command line holds a title."""
    return sorted(pid for pid, found in descendants(root).items() if title in found)


def _eventually(found: Callable[[], object], what: str) -> Sequence[int]:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if result := found():
            return result if isinstance(result, list) else []
        time.sleep(_LOOK_S)
    raise RuntimeError(f"waited {_PATIENCE_S:g} s for a process {what}")


if __name__ == "__main__":
    main()

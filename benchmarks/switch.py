"""Switching what is served under load: how long it takes, and what the clients notice.

Run: `python -m benchmarks.switch [--json] [--items N ...] [--switches N] [--mode direct|proxy]`.

Three made-up generations (clustered vectors, 128 wide, under HNSW) of 20,000 and of 200,000 items
are served by two processes, and eight connections ask `GET /v1/items/{key}/similar?k=10` without a
pause: first while nothing is switched, for as long again while it is. Each switch goes to the
generation that isn't open, so it has to be opened beside the other two; then back and forth again.

- `switch_s`: from `POST /v1/generation` to its answer, when the new one is in force where it was
  asked; median and longest.
- `everywhere_s`: until neither process serves another one any more, by their metrics.
- `rollback_s`: the same POST with `{"previous": true}` (wanted: < 2).
- `failed`: requests that got no answer, or another than 200, in both stretches (wanted: 0).
- `p50_ms`, `p99_ms`: of the requests, `before` and `during` the switches.

The client, both servers and the opening share the machine's cores: on two of them the opening takes
its time from the answers.
"""

import http.client
import json
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks._load import Load, get, load
from benchmarks._served import Served, write_served
from benchmarks._timing import parser, report
from benchmarks.serve import K, running
from pinsage.cluster.generations import digest_of, publish_generation

CONNECTIONS = 8
REPLICAS = 2
_QUESTIONS = 5000
_LOOKS = 16
_PATIENCE_S = 300.0
_PAUSE_S = 0.05
_BETWEEN_S = 1.0
_SERVED = re.compile(r'pinsage_generation_info{generation="(\w+)"} 1\.0')


@dataclass
class Switches:
    """Seconds of every switch, and what clients met without and with them."""

    switch_s: list[float] = field(default_factory=list)
    everywhere_s: list[float] = field(default_factory=list)
    rollback_s: list[float] = field(default_factory=list)
    before: Load = field(default_factory=Load)
    during: list[Load] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Requests without a 200."""
        return self.before.failed + sum(one.failed for one in self.during)

    def percentile_s(self, share: float) -> float:
        """Give the latency that a share of the requests during switches stayed under."""
        together = Load(latencies_s=[one for part in self.during for one in part.latencies_s])
        return together.percentile_s(share)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    flags = parser(__doc__)
    flags.add_argument("--items", type=int, nargs="+", default=[20_000, 200_000])
    flags.add_argument("--width", type=int, default=128)
    flags.add_argument("--switches", type=int, default=10)
    flags.add_argument("--seconds", type=float, default=10.0, help="of load before the switches")
    flags.add_argument("--mode", default="direct", choices=["direct", "proxy"])
    options = flags.parse_args(arguments)
    found: dict[int, Switches] = {}
    for num_items in options.items:
        with tempfile.TemporaryDirectory(prefix="pinsage-switch-") as folder:
            served, digests = write_three(Path(folder), num_items, options.width)
            found[num_items] = measure(
                served, digests, options.mode, switches=options.switches, seconds=options.seconds
            )
    _tell(found, options.mode, as_json=options.json)


def write_three(output: Path, num_items: int, width: int) -> tuple[Served, list[str]]:
    """Publish three generations; gives the one served first, and the digests of all.

    The third has the graph of the first and the index of the second: it is opened like any other.
    """
    first = write_served(output, num_items=num_items, width=width)
    digests = [digest_of(first.generation.read_bytes())]
    second = write_served(output, num_items=num_items, width=width, seed=1, name="second")
    digests.append(digest_of(second.generation.read_bytes()))
    parts = {stage: output / stage / "made-up" for stage in ("graph", "neighborhoods")}
    third = publish_generation(output, {**parts, "index": second.index})
    digests.append(digest_of(third.read_bytes()))
    return first, digests


def measure(
    served: Served, digests: Sequence[str], mode: str, *, switches: int, seconds: float
) -> Switches:
    """Switch under load.

    Args:
        served: the items to ask for.
        digests: the generations, of which the last is served first: it is the newest.
        mode: how the server runs.
        switches: how often a generation is opened.
        seconds: how long nothing is switched.
    """
    ids = np.random.default_rng(1).integers(0, served.num_items, _QUESTIONS)
    questions = [get(f"/v1/items/{served.key(int(i))}/similar?k={K}") for i in ids]
    found = Switches()
    with running(mode, served, replicas=REPLICAS) as server:
        found.before = load(server.port, questions, connections=CONNECTIONS, seconds=seconds)
        stopping = threading.Event()

        def ask() -> None:
            while not stopping.is_set():
                met = load(server.port, questions, connections=CONNECTIONS, seconds=seconds)
                found.during.append(met)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            for turn in range(switches):
                time.sleep(_BETWEEN_S)
                _switch_and_back(server.port, digests[turn % len(digests)], found)
        finally:
            stopping.set()
            asking.join()
    return found


def _switch_and_back(port: int, digest: str, found: Switches) -> None:
    began = time.perf_counter()
    _post(port, {"generation": digest})
    found.switch_s.append(time.perf_counter() - began)
    _wait_everywhere(port, digest)
    found.everywhere_s.append(time.perf_counter() - began)
    for _ in range(2):
        began = time.perf_counter()
        there = _post(port, {"previous": True})
        found.rollback_s.append(time.perf_counter() - began)
        _wait_everywhere(port, there)


def _post(port: int, body: Mapping[str, object]) -> str:
    """Switch, and wait until it is done where it was asked; gives the digest."""
    answer = _exchange(port, "POST", "/v1/generation", json.dumps(body))
    if answer["state"] == "opening":
        _wait_everywhere(port, answer["generation"])
    return str(answer["generation"])


def _wait_everywhere(port: int, digest: str) -> None:
    """Wait until nobody serves anything else.

    Metrics of plain processes are everybody's; a proxy sends each question to either replica.
    """
    deadline = time.monotonic() + _PATIENCE_S
    met = 0
    while met < _LOOKS:
        served = _SERVED.findall(_text(port, "GET", "/metrics"))
        met = met + 1 if served == [digest] else 0
        if time.monotonic() > deadline:
            raise RuntimeError(f"{served} are still served, {_PATIENCE_S:g} s after {digest}")
        time.sleep(0 if met else _PAUSE_S)


def _exchange(port: int, method: str, path: str, body: str) -> dict[str, str]:
    answer: dict[str, str] = json.loads(_text(port, method, path, body))
    return answer


def _text(port: int, method: str, path: str, body: str | None = None) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        reply = connection.getresponse()
        content = reply.read().decode()
    finally:
        connection.close()
    if reply.status not in {200, 202}:
        raise RuntimeError(f"{method} {path}: {reply.status} {content}")
    return content


def _tell(found: Mapping[int, Switches], mode: str, *, as_json: bool) -> None:
    heading = [
        "items", "switch", "longest", "everywhere", "rollback", "longest", "failed",
        "p50 before", "during", "p99 before", "during",
    ]  # fmt: skip
    rows = [
        [
            f"{num_items:,}",
            *(f"{one:.2f} s" for one in (statistics.median(met.switch_s), max(met.switch_s))),
            f"{statistics.median(met.everywhere_s):.2f} s",
            *(f"{one:.3f} s" for one in (statistics.median(met.rollback_s), max(met.rollback_s))),
            str(met.failed),
            *(
                f"{1000 * one:.1f} ms"
                for share in (0.5, 0.99)
                for one in (met.before.percentile_s(share), met.percentile_s(share))
            ),
        ]
        for num_items, met in found.items()
    ]
    figures = {
        num_items: {
            "requests": len(met.before.latencies_s) + sum(len(m.latencies_s) for m in met.during),
            "switch_s": {"median": statistics.median(met.switch_s), "longest": max(met.switch_s)},
            "everywhere_s": statistics.median(met.everywhere_s),
            "rollback_s": {
                "median": statistics.median(met.rollback_s), "longest": max(met.rollback_s)
            },
            "failed": met.failed,
            "p50_ms": {
                "before": 1000 * met.before.percentile_s(0.5),
                "during": 1000 * met.percentile_s(0.5),
            },
            "p99_ms": {
                "before": 1000 * met.before.percentile_s(0.99),
                "during": 1000 * met.percentile_s(0.99),
            },
        }
        for num_items, met in found.items()
    }  # fmt: skip
    title = f"{CONNECTIONS} connections, {REPLICAS} processes ({mode})"
    report(title, [heading, *rows], {"mode": mode, "by_items": figures}, as_json=as_json)


if __name__ == "__main__":
    main()

"""How fast the server answers, beside a server with nothing to it.

Run: `python -m benchmarks.serve [--json] [--items N] [--seconds S] [--rounds R]`.

Made-up clustered vectors (200,000 x 128) under HNSW; `GET /v1/items/{key}/similar?k=10` for random
items, over 1, 8 and 64 connections that each wait for their answer before they ask again. The
candidates take turns in every round, each preceded by a short warm-up that is not counted:

- `bare`: uvicorn, faiss and a dictionary, written for the purpose, with the same answers;
- `direct`: `python -m serve --direct`, one process;
- `proxy`: `python -m serve`, one replica behind Ray Serve's proxy (`--modes` adds or leaves out);
- `haproxy`: the same with Ray's HAProxy in place of its proxy. It listens on all addresses whatever
  it is told, so it isn't run unless asked for.

`ratio_bare`: requests a second of `direct` over those of `bare`, 8 connections, median of the
rounds (wanted: >= 0.85). `p99_ratio`: its 99th percentile over bare's (wanted: < 2). All figures
stand under `requests_per_s` and `p99_ms`, by candidate and connections. The client has a process of
its own; on two cores it takes one of them, so that only one is left for a server.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks._load import Load, get, load
from benchmarks._served import Served, write_served
from benchmarks._timing import parser, report

CONNECTIONS = (1, 8, 64)
K = 10
_START_S = 300.0
_QUESTIONS = 5000
_WARM_UP_S = 1.0
_RECIPE = "ray_jobs/recipes/smoke.yaml"


@dataclass
class Candidate:
    """One server that runs, and what was measured of it."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    loads: dict[int, list[Load]] = field(default_factory=dict)

    def median(self, connections: int) -> float:
        """Requests a second, median of the rounds."""
        return statistics.median(one.requests_per_s for one in self.loads[connections])

    def p99_ms(self, connections: int) -> float:
        """The 99th percentile, median of the rounds."""
        return 1000 * statistics.median(one.percentile_s(0.99) for one in self.loads[connections])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    flags = parser(__doc__)
    flags.add_argument("--items", type=int, default=200_000)
    flags.add_argument("--width", type=int, default=128)
    flags.add_argument("--seconds", type=float, default=5.0, help="of every measurement")
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument(
        "--modes", nargs="+", default=["direct", "proxy"], choices=["direct", "proxy", "haproxy"]
    )
    options = flags.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pinsage-serve-") as folder:
        _say(f"building an index of {options.items:,} items: minutes")
        served = write_served(Path(folder), num_items=options.items, width=options.width)
        found: dict[str, Candidate] = {}
        for mode in options.modes:
            # One of ours runs at a time: an idle Ray would slow the bare server down.
            pair = compare(served, mode, seconds=options.seconds, rounds=options.rounds)
            found |= {f"bare, beside {mode}" if one.name == "bare" else mode: one for one in pair}
    _tell(found, options.modes, options.items, as_json=options.json)


def compare(served: Served, mode: str, *, seconds: float, rounds: int) -> list[Candidate]:
    """Let the bare server and one of ours take turns.

    Args:
        served: what both answer from.
        mode: how ours runs.
        seconds: how long each is measured each time.
        rounds: how often.
    """
    rng = np.random.default_rng(1)
    ids = rng.integers(0, served.num_items, _QUESTIONS)
    questions = [get(f"/v1/items/{served.key(int(i))}/similar?k={K}") for i in ids]
    with running("bare", served) as bare, running(mode, served) as ours:
        check_same(bare.port, ours.port, served)
        for _ in range(rounds):
            for connections in CONNECTIONS:
                for one in (bare, ours):
                    load(one.port, questions, connections=connections, seconds=_WARM_UP_S)
                    met = load(one.port, questions, connections=connections, seconds=seconds)
                    if met.failed:
                        raise RuntimeError(f"{one.name}: {met.failed} requests failed")
                    one.loads.setdefault(connections, []).append(met)
                    rate = f"{met.requests_per_s:.0f} requests a second"
                    _say(f"{one.name}, {connections} connections: {rate}")
        return [bare, ours]


def _say(text: str) -> None:
    """Tell on standard error how it goes: all takes a quarter of an hour, or more."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def running(mode: str, served: Served, *settings: str, replicas: int = 1) -> Iterator[Candidate]:
    """Start a server, wait until it answers, and stop it in the end.

    Args:
        mode: `bare`, `direct`, `proxy` or `haproxy`.
        served: what it answers from.
        settings: further `a.b=value` of ours.
        replicas: how many processes of ours answer.
    """
    port = free_port()
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    if mode == "bare":
        items = served.generation.parent / "graph" / "made-up" / "items.parquet"
        command = ["benchmarks._bare_server", str(served.index), str(items), str(port)]
    else:
        wanted = [
            f"output={served.generation.parent}", f"serve.port={port}",
            f"serve.num_replicas={replicas}", "ray.address=local", *settings,
        ]  # fmt: skip
        command = ["serve", "--config", _RECIPE, *(f for one in wanted for f in ("--set", one))]
        command += ["--direct"] if mode == "direct" else []
        if mode == "haproxy":
            environment["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
            command += ["--set", "serve.boundary.open_to_network=true"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(port, served, process)
        yield Candidate(mode, port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def check_same(bare_port: int, our_port: int, served: Served) -> None:
    """Refuse to compare servers that answer differently."""
    for item_id in range(0, served.num_items, max(served.num_items // 20, 1)):
        path = f"/v1/items/{served.key(item_id)}/similar?k={K}"
        bare, ours = (json.loads(_read(port, path)) for port in (bare_port, our_port))
        keys = [{item["key"] for item in answer["items"]} for answer in (bare, ours)]
        if len(keys[0] & keys[1]) < K - 1 or set(bare["query"]) != set(ours["query"]):
            raise RuntimeError(f"{path} is answered differently: {bare} and {ours}")


def free_port() -> int:
    """Find a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, served: Served, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}; see above")
        try:
            _read(port, f"/v1/items/{served.key(0)}/similar?k={K}")
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"no answer within {_START_S:g} s")


def _read(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
        content: bytes = reply.read()
        return content


def _tell(
    found: dict[str, Candidate], modes: Sequence[str], num_items: int, *, as_json: bool
) -> None:
    heading = ["server", *(f"{c} conn." for c in CONNECTIONS), *(f"p99, {c}" for c in CONNECTIONS)]
    rows = [
        [
            name,
            *(f"{one.median(c):.0f}/s" for c in CONNECTIONS),
            *(f"{one.p99_ms(c):.1f} ms" for c in CONNECTIONS),
        ]
        for name, one in found.items()
    ]
    figures: dict[str, object] = {
        "items": num_items,
        "requests_per_s": {n: {c: o.median(c) for c in CONNECTIONS} for n, o in found.items()},
        "p99_ms": {n: {c: o.p99_ms(c) for c in CONNECTIONS} for n, o in found.items()},
    }
    for mode in modes:
        bare, ours = found[f"bare, beside {mode}"], found[mode]
        suffix = "" if mode == "direct" else f"_{mode}"
        figures[f"ratio_bare{suffix}"] = _median_ratio(ours, bare, "requests_per_s")
        figures[f"p99_ratio{suffix}"] = ours.p99_ms(8) / bare.p99_ms(8)
    report("Requests a second, and the 99th percentile", [heading, *rows], figures, as_json=as_json)


def _median_ratio(ours: Candidate, bare: Candidate, name: str) -> float:
    pairs = zip(ours.loads[8], bare.loads[8], strict=True)
    return statistics.median(getattr(a, name) / getattr(b, name) for a, b in pairs)


if __name__ == "__main__":
    main()

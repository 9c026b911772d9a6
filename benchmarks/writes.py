"""Items written while serving: when they are found, and how well they are embedded.

Run: `python -m benchmarks.writes [--json] [--generation FILE] [--items N]`, after
`python -m ray_jobs.pipeline --config ray_jobs/recipes/goodbooks.yaml`.

Two processes serve the generation, writes of both in a folder of the benchmark's own. Published
items are drawn, and each is put again under a new key, with the features and contexts it was
published with; in the end all of them are deleted.

- `put_ms`: from PUT to its answer: walked, embedded, logged and in force where it was written.
- `everywhere_ms`: from PUT to the last answer of either process that did not know the item yet;
  each look is a connection of its own, 40 of them after the last miss (wanted: < 1000).
- `delete_ms`: from DELETE to its answer.
- `cosine`: between the embedding made in the request and the one that the batch run published for
  the same features and contexts (wanted: >= 0.99). The walks are other ones, and structural
  features are folded in, not factorized.
- `similar_ratio`: median time of `similar` on one connection, with all items written to without.
"""

import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._timing import parser, report
from benchmarks.serve import free_port
from pinsage.cluster.run_config import ServeSection
from pinsage.graph.schema import LOG_DEGREE, STRUCTURE
from serve.direct import Workers
from serve.generation import Generation

_PATIENCE_S = 30.0
_LOOKS = 40
_ASKED = 400


@dataclass
class Writes:
    """Milliseconds of every write, cosines, and `similar` without and with them."""

    put_ms: list[float] = field(default_factory=list)
    everywhere_ms: list[float] = field(default_factory=list)
    cosine: list[float] = field(default_factory=list)
    delete_ms: list[float] = field(default_factory=list)
    similar_ms: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    flags = parser(__doc__)
    flags.add_argument("--generation", type=Path, default=Path("runs/goodbooks/generation.json"))
    flags.add_argument("--items", type=int, default=100)
    options = flags.parse_args(arguments)
    generation = Generation.open(options.generation.absolute())
    with tempfile.TemporaryDirectory(prefix="pinsage-writes-") as folder:
        section = ServeSection(
            port=free_port(), num_replicas=2, writes=Path(folder), max_ongoing_requests=64
        )
        workers = Workers(options.generation.absolute(), section)
        workers.start()
        try:
            found = measure(generation, section.port, options.items)
        finally:
            workers.stop()
    _tell(found, as_json=options.json)


def measure(generation: Generation, port: int, num_items: int) -> Writes:
    """Put published items under new keys, look for them, and delete them again."""
    graph, keys = generation.graph, generation.catalog.keys
    degrees = graph.adjacency().item_degrees
    chosen = np.random.default_rng(0).choice(np.flatnonzero(degrees > 0), num_items, replace=False)
    found = Writes()
    first = str(keys[int(chosen[0])])
    # The model is opened by the first one.
    _ask(port, "POST", "/v1/embed", described(generation, int(chosen[0])))
    before = _similar_ms(port, first)
    for item_id in map(int, chosen):
        body = described(generation, item_id)
        started = time.perf_counter()
        status, _ = _ask(port, "PUT", f"/v1/items/copy-{item_id}", body)
        assert status == 200, status
        found.put_ms.append(1000 * (time.perf_counter() - started))
        found.everywhere_ms.append(_last_miss_ms(port, f"/v1/items/copy-{item_id}", started))
        _, reply = _ask(port, "POST", "/v1/embed", body)
        published = np.asarray(generation.index.vectors[item_id], np.float64)
        made = np.asarray(reply["embedding"])
        found.cosine.append(float(made @ published / np.linalg.norm(published)))
    found.similar_ms = [before, _similar_ms(port, first)]
    for item_id in map(int, chosen):
        started = time.perf_counter()
        _ask(port, "DELETE", f"/v1/items/copy-{item_id}")
        found.delete_ms.append(1000 * (time.perf_counter() - started))
    return found


def described(generation: Generation, item_id: int) -> dict[str, Any]:
    """Describe a published item as a caller would."""
    graph = generation.graph
    adjacency = graph.adjacency()
    place = slice(*adjacency.item_starts[item_id : item_id + 2])
    contexts = graph.context_keys().take(adjacency.item_contexts[place]).to_pylist()
    row = graph.features().gather(np.asarray([item_id]))[0]
    return {
        "contexts": contexts,
        "features": {
            name: row[columns].astype(float).tolist()
            for name, columns in graph.feature_columns.items()
            if name not in {LOG_DEGREE, STRUCTURE}
        },
    }


def _last_miss_ms(port: int, path: str, started: float) -> float:
    """Look until the item was there many times in a row, whichever process was asked."""
    last_miss, in_a_row = started, 0
    while in_a_row < _LOOKS:
        assert time.perf_counter() - started < _PATIENCE_S, path
        status, _ = _ask(port, "GET", path)
        in_a_row = in_a_row + 1 if status == 200 else 0
        if status != 200:
            last_miss = time.perf_counter()
    return 1000 * (last_miss - started)


def _similar_ms(port: int, key: str) -> float:
    times = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    for _ in range(_ASKED):
        started = time.perf_counter()
        connection.request("GET", f"/v1/items/{key}/similar?k=10")
        connection.getresponse().read()
        times.append(1000 * (time.perf_counter() - started))
    connection.close()
    return statistics.median(times)


def _ask(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"content-type": "application/json"})
    reply = connection.getresponse()
    answer = json.loads(reply.read() or b"null")
    connection.close()
    return reply.status, answer


def _tell(found: Writes, *, as_json: bool) -> None:
    rows: list[Sequence[object]] = [["what", "lowest", "median", "highest"]]
    figures: dict[str, float] = {}
    for name in ("put_ms", "everywhere_ms", "delete_ms", "cosine"):
        values = getattr(found, name)
        low, middle, high = min(values), statistics.median(values), max(values)
        digits = 4 if name == "cosine" else 1
        rows.append([name, *(f"{value:.{digits}f}" for value in (low, middle, high))])
        figures |= {f"{name}_lowest": low, f"{name}_median": middle, f"{name}_highest": high}
    ratio = found.similar_ms[1] / found.similar_ms[0]
    rows.append(["similar_ratio", "", f"{ratio:.2f}", ""])
    figures["similar_ratio"] = ratio
    title = f"{len(found.put_ms)} items written to two processes"
    report(title, rows, figures, as_json=as_json)


if __name__ == "__main__":
    main()

"""How much do indexes find, and how fast? Ours beside bare faiss and hnswlib.

Two catalogs: the books (the embeddings of `--run DIR`, an output folder of the pipeline; without
it, structural features computed here), and made-up clustered vectors (`--items`, `--width`).
Queries are items moved a little. Every index takes its turn at every setting, one batch of all
queries and no filter; queries per CPU second, so that threads change nothing. Printed and drawn
(`--chart`, an SVG a catalog):

- curves of recall@10 over queries a second: bare HNSW of faiss, the same graph through our
  interface, bare and our IVF, hnswlib if it is installed, and LSH with Weak AND;
- `ratio_bare`: how many times as long our default index takes as the bare faiss structure with the
  same recall, in one batch, and `ratio_bare_one`, query by query;
- recall@10 of filtered searches from 0.1% to 100% of the items allowed, and the strategies used.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np

from benchmarks._plot import write_chart
from benchmarks._timing import median_ratio, parser, report, take_turns
from pinsage.base.artifacts import Draft
from pinsage.evaluation.plots import Series
from pinsage.graph.adjacency import AdjacencyShard, BipartiteAdjacency
from pinsage.graph.structure import Structure, StructureConfig
from pinsage.inference.export import read_embeddings
from pinsage.kernels import build_csr, transpose
from pinsage.retrieval.approximate import FaissConfig, FaissIndex
from pinsage.retrieval.exact import ExactIndex
from pinsage.retrieval.index import Built, IndexConfig, build_index
from pinsage.retrieval.lsh import LshConfig, LshIndex

BOOKS = Path(__file__).parent.parent / "data" / "goodbooks" / "shelves.parquet"
K = 10
WIDTHS = (16, 32, 64, 128, 256, 512)
CELLS = (1, 4, 16, 64)
CANDIDATES = (50, 200, 500, 1_000, 4_000)
SHARES = (0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 0.99, 1.0)

Search = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Catalog:
    """What is searched, and for what."""

    name: str
    vectors: np.ndarray
    queries: np.ndarray
    truth: np.ndarray

    def recall(self, ids: np.ndarray) -> float:
        """Share of the true nearest that are among some answers."""
        hits = sum(np.isin(a, b).sum() for a, b in zip(self.truth, ids, strict=True))
        return float(hits / self.truth.size)


def main() -> None:
    """Measure both catalogs, print tables, draw charts."""
    flags = parser(__doc__)
    flags.add_argument("--items", type=int, default=200_000, help="clustered vectors")
    flags.add_argument("--width", type=int, default=128, help="their width")
    flags.add_argument("--queries", type=int, default=500)
    flags.add_argument("--rounds", type=int, default=5, help="how often each takes its turn")
    flags.add_argument("--run", type=Path, help="an output folder with embeddings of the books")
    flags.add_argument("--chart", type=Path, help="a folder for one SVG a catalog")
    arguments = flags.parse_args()
    if importlib.util.find_spec("hnswlib") is None:
        print("hnswlib is not installed (pip install hnswlib): its curve is left out\n")
    rng = np.random.default_rng(0)
    figures: dict[str, object] = {"hnswlib": importlib.util.find_spec("hnswlib") is not None}
    for name, vectors in (
        ("books", books(arguments.run)),
        (f"clustered {arguments.items}", clustered(arguments.items, arguments.width, rng)),
    ):
        catalog = catalog_of(name, vectors, arguments.queries, rng)
        # Our default takes the exact search for catalogs this small; both are shown.
        figures[name] = study(catalog, arguments.rounds, arguments.chart)
    rows: list[tuple[object, ...]] = [("catalog", "figure", "value")]
    for name, found in figures.items():
        if isinstance(found, dict):
            rows += [(name, key, value) for key, value in found.items() if isinstance(value, float)]
    report("Ours beside bare faiss", rows, figures, as_json=arguments.json)


def study(catalog: Catalog, rounds: int, chart: Path | None) -> dict[str, object]:
    """Measure one catalog."""
    config = FaissConfig(build_threads=0)
    hnsw = FaissIndex.build("hnsw", catalog.vectors, config)
    default = build_index(catalog.vectors, IndexConfig(faiss=config))
    curves = all_curves(catalog, hnsw, config, rounds)
    rows: list[tuple[object, ...]] = [("index", "setting", "recall@10", "queries/CPU s")]
    for name, points in curves.items():
        rows += [(name, setting, f"{r:.3f}", f"{qps:.0f}") for setting, r, qps in points]
    report(f"{catalog.name}: {catalog.vectors.shape}", rows, {}, as_json=False)
    if chart is not None:
        chart.mkdir(parents=True, exist_ok=True)
        lines = [
            Series(name, place, [p[2] for p in points], [p[1] for p in points])
            for place, (name, points) in enumerate(curves.items())
        ]
        path = chart / f"retrieval-{catalog.name.split()[0]}.svg"
        write_chart(path, lines, names=("queries a CPU second", "recall@10"), crowded=True)
    found: dict[str, object] = {
        "default": default.about(),
        **compare(catalog, default, rounds, ""),
        # Above `exact_limit` the default is this one.
        **compare(catalog, hnsw, rounds, "hnsw_"),
        "filters": filtered(catalog, hnsw),
        "curves": {
            name: [[s, round(r, 4), round(q)] for s, r, q in p] for name, p in curves.items()
        },
    }
    return found


def all_curves(
    catalog: Catalog, hnsw: FaissIndex, config: FaissConfig, rounds: int
) -> dict[str, list[tuple[int, float, float]]]:
    """Give (setting, recall, queries a CPU second) of every index at every setting."""
    ivf = FaissIndex.build("ivf", catalog.vectors, config)
    lsh = LshIndex.build(catalog.vectors, LshConfig(), seed=0)
    print(f"{catalog.name}: {lsh.lists.bytes_per_posting:.2f} bytes a posting\n")
    cells = [count for count in CELLS if count <= ivf.structure.nlist]
    searches: dict[str, dict[int, Search]] = {
        "ours, HNSW": {width: ours(replace(hnsw, width=width)) for width in WIDTHS},
        "faiss HNSW": {width: bare(hnsw, width) for width in WIDTHS},
        "ours, IVF": {count: ours(replace(ivf, width=count)) for count in cells},
        "faiss IVF": {count: bare(ivf, count) for count in cells},
        "ours, LSH + Weak AND": {n: ours(replace(lsh, candidates=n)) for n in CANDIDATES},
    }
    if importlib.util.find_spec("hnswlib") is not None:
        searches["hnswlib"] = hnswlib_searches(catalog.vectors, config)
    curves = {}
    for name, settings in searches.items():
        points = []
        for setting, search in settings.items():
            recall = catalog.recall(search(catalog.queries))
            seconds = take_turns({"it": lambda s=search: s(catalog.queries)}, rounds=rounds)  # type: ignore[misc]
            points.append((setting, recall, len(catalog.queries) / min(seconds["it"])))
        curves[name] = points
    return curves


def ours(index: Built) -> Search:
    """Search through our interface."""
    return lambda queries: index.search(queries, K)[0]


def bare(index: FaissIndex, width: int) -> Search:
    """Search the very same structure by faiss alone."""
    api: Any = faiss
    if index.kind == "hnsw":
        parameters = api.SearchParametersHNSW(efSearch=width)
    else:
        parameters = api.SearchParametersIVF(nprobe=width)
    return lambda queries: index.structure.search(queries, K, params=parameters)[1]


def hnswlib_searches(vectors: np.ndarray, config: FaissConfig) -> dict[int, Search]:
    """Build hnswlib's graph of the same size."""
    import hnswlib

    graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
    graph.init_index(len(vectors), M=config.links, ef_construction=config.build_width)
    graph.add_items(vectors)

    def search_with(width: int) -> Search:
        def search(queries: np.ndarray) -> np.ndarray:
            graph.set_ef(width)
            return graph.knn_query(queries, k=K)[0]

        return search

    return {width: search_with(width) for width in WIDTHS}


def compare(catalog: Catalog, index: Built, rounds: int, prefix: str) -> dict[str, float]:
    """Compare one of our indexes with the bare structure of faiss that has the same recall."""
    if isinstance(index, FaissIndex):
        plain = bare(index, index.width)
    else:
        flat: Any = faiss.IndexFlatIP(catalog.vectors.shape[1])
        flat.add(catalog.vectors)

        def plain(queries: np.ndarray) -> np.ndarray:
            return flat.search(queries, K)[1]

    single = [catalog.queries[row : row + 1] for row in range(min(200, len(catalog.queries)))]
    mine = ours(index)
    batch = take_turns(
        {"ours": lambda: mine(catalog.queries), "bare": lambda: plain(catalog.queries)},
        rounds=rounds,
    )
    one = take_turns(
        {
            "ours": lambda: [mine(query) for query in single],
            "bare": lambda: [plain(query) for query in single],
        },
        rounds=rounds,
    )
    return {
        f"{prefix}recall": round(catalog.recall(mine(catalog.queries)), 4),
        f"{prefix}recall_bare": round(catalog.recall(plain(catalog.queries)), 4),
        f"{prefix}ratio_bare": round(median_ratio(batch["ours"], batch["bare"]), 3),
        f"{prefix}ratio_bare_one": round(median_ratio(one["ours"], one["bare"]), 3),
    }


def filtered(catalog: Catalog, index: FaissIndex) -> dict[str, object]:
    """Measure recall with random filters of every share, and which strategies answered."""
    exact = ExactIndex(catalog.vectors)
    found: dict[str, object] = {}
    order = np.random.default_rng(1).permutation(len(catalog.vectors))
    rows: list[tuple[object, ...]] = [("allowed", "recall@10", "strategies")]
    for share in SHARES:
        allowed = order < share * len(order)
        fresh = replace(index, counts=type(index.counts)())
        truth, _ = exact.search(catalog.queries, K, None, allowed)
        ids, _ = fresh.search(catalog.queries, K, None, allowed)
        recall = replace(catalog, truth=truth).recall(ids)
        found[f"{share:g}"] = {"recall": round(recall, 4)} | fresh.counts.snapshot()
        rows.append((f"{share:.1%}", f"{recall:.3f}", fresh.counts.snapshot()))
    report(f"{catalog.name}: filtered HNSW", rows, {}, as_json=False)
    return found


def catalog_of(
    name: str, vectors: np.ndarray, num_queries: int, rng: np.random.Generator
) -> Catalog:
    """Draw queries near items, and find what is true of them."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    picks = rng.choice(len(vectors), min(num_queries, len(vectors)), replace=False)
    noise = 0.2 / np.sqrt(vectors.shape[1]) * rng.standard_normal((len(picks), vectors.shape[1]))
    queries = unit(vectors[picks] + noise)
    return Catalog(name, vectors, queries, ExactIndex(vectors).search(queries, K)[0])


def books(run: Path | None) -> np.ndarray:
    """Give the embeddings of a run, or structural features of the books."""
    if run is not None:
        newest = max(
            (run / "embeddings").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime
        )
        return read_embeddings(newest.parent)
    import pyarrow.parquet as pq

    table = pq.read_table(BOOKS)
    items = np.unique(table["item_id"].to_numpy(), return_inverse=True)[1]
    contexts = np.unique(table["context_id"].to_numpy(), return_inverse=True)[1]
    starts, ids = build_csr(items.astype(np.int32), contexts.astype(np.int32), int(items.max()) + 1)
    sides = (starts, ids, *transpose(starts, ids, int(contexts.max()) + 1))
    graph = BipartiteAdjacency(*sides)
    with TemporaryDirectory() as folder:
        AdjacencyShard.cut(graph, 0, 1).write(Draft(Path(folder)))
        made = Structure(
            directory=Path(folder),
            folder=Path(folder) / "structure",
            num_shards=1,
            num_items=graph.num_items,
            num_contexts=graph.num_contexts,
            config=StructureConfig(),
            seed=0,
        )
        made.make(_in_turn)
        return np.array(made.items())


def _in_turn(step: Callable[[int], None], numbers: Sequence[int], name: str) -> None:
    del name
    for number in numbers:
        step(number)


def clustered(num_items: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw unit vectors around a center for each 200 of them, most of it in 32 dimensions."""
    centers = rng.standard_normal((max(num_items // 200, 1), 32)).astype(np.float32)
    rows = centers[rng.integers(len(centers), size=num_items)]
    rows += 0.6 * rng.standard_normal(rows.shape, dtype=np.float32)
    spread = rng.standard_normal((32, width)).astype(np.float32) / np.sqrt(np.float32(32))
    out = rows @ spread
    out += 0.2 * rng.standard_normal(out.shape, dtype=np.float32)
    return unit(out)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale to unit length."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    main()

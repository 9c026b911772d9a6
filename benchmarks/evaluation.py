"""How long exact evaluation takes, and how much memory, at two sizes of catalog.

Run: `python -m benchmarks.evaluation [--json]`.

- books: 50,000 pairs of 10,000 items; 256-d embeddings by chunks, the same by whole rows of scores
  that are then sorted, popularity, item-item cosine and walks on a graph of a million edges, and
  `evaluate` of them all, with its intervals and p values;
- large: 10,000 pairs of 2,000 queries among 1,000,000 items, 128-d embeddings, streamed; all of the
  scores would take 8 GB.

Every size has a process of its own, warmed up on a small case. Peak memory is all of the process's,
the embeddings (1M: 512 MB) and the interpreter with Torch (some 400 MB) included.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks._timing import parser, report
from pinsage.evaluation import (
    EmbeddingCosine,
    EvaluationConfig,
    ItemCosine,
    ItemFacts,
    Popularity,
    evaluate,
)
from pinsage.evaluation.baselines import Pixie, PixieConfig
from pinsage.evaluation.ranking import Scorer, VectorScorer, rank_and_recommend
from pinsage.graph import Pairs
from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.graph.choice import ChoiceConfig
from pinsage.graph.powerlaw import PowerLaw
from pinsage.kernels.csr import build_csr, transpose
from pinsage.sampling.neighborhood import pack_graph

_SORTED_QUERIES = 256

Figures = dict[str, float]


def main() -> None:
    """Measure every size in a process of its own, and print the table."""
    flags = parser(__doc__)
    flags.add_argument("--case", choices=sorted(CASES), help=argparse.SUPPRESS)
    flags.add_argument("--scale", type=float, default=1.0, help="share of every size, for a trial")
    arguments = flags.parse_args()
    if arguments.case:
        figures = CASES[arguments.case](arguments.scale)
        figures["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({name: round(value, 2) for name, value in figures.items()}))
        return
    found = {case: _in_a_process(case, arguments.scale) for case in CASES}
    rows: list[tuple[object, ...]] = [("what", "seconds")]
    for case, figures in found.items():
        rows += [
            (f"{case}, {name.removesuffix('_s').replace('_', ' ')}", f"{value:.2f}")
            for name, value in figures.items()
            if name.endswith("_s")
        ]
        rows.append((f"{case}, peak memory", f"{figures['peak_mib']:,.0f} MiB"))
    report("Exact evaluation", rows, found, as_json=arguments.json)


def books(scale: float) -> Figures:
    """Rank by every kind of method, then evaluate them together."""
    num_items, num_pairs = int(10_000 * scale), int(50_000 * scale)
    shape = PowerLaw(
        num_items=num_items,
        num_contexts=int(46_000 * scale),
        num_edges=int(1_000_000 * scale),
        num_communities=50,
        exponent=0.5,
    )
    methods = _methods(shape)
    queries, positives = _pairs(num_items, num_items, num_pairs)
    for scorer in methods.values():
        rank_and_recommend(scorer, queries[:300], positives[:300], k=10)
    figures = {
        f"{name}_s": _seconds(lambda scorer=scorer: _rank(scorer, queries, positives))  # type: ignore[misc]
        for name, scorer in methods.items()
    }
    embeddings = methods["embeddings"]
    assert isinstance(embeddings, EmbeddingCosine)
    figures["whole_rows_sorted_s"] = _seconds(lambda: _sort(embeddings, queries, positives))
    items = ItemFacts(
        titles=[str(item) for item in range(num_items)],
        images=[None] * num_items,
        degrees=np.arange(num_items),
        content=embeddings.vectors.__getitem__,
    )
    methods = {"pinsage": embeddings, **methods}
    figures["evaluate_all_s"] = _seconds(
        lambda: evaluate(
            methods,
            pairs=Pairs(queries, positives),
            items=items,
            data="made up",
            config=EvaluationConfig(),
            seed=0,
        )
    )
    return figures


def large(scale: float) -> Figures:
    """Stream a catalog whose scores would not fit."""
    num_items = int(1_000_000 * scale)
    scorer = EmbeddingCosine(_unit_vectors(num_items, 128))
    small = EmbeddingCosine(scorer.vectors[:5_000])
    queries, positives = _pairs(num_items, 2_000, 10_000)
    _rank(small, np.arange(300), np.arange(300) + 1)
    return {"embeddings_s": _seconds(lambda: _rank(scorer, queries, positives))}


CASES: dict[str, Callable[[float], Figures]] = {"books": books, "large": large}


def _in_a_process(case: str, scale: float) -> Figures:
    command = [sys.executable, "-m", "benchmarks.evaluation", "--case", case, "--scale", str(scale)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _methods(shape: PowerLaw) -> dict[str, Scorer | VectorScorer]:
    items, contexts = shape.edges_of_part(0, 1)
    by_item = build_csr(items.astype(np.int32), contexts.astype(np.int32), shape.num_items)
    adjacency = BipartiteAdjacency(*by_item, *transpose(*by_item, shape.num_contexts))
    return {
        "embeddings": EmbeddingCosine(_unit_vectors(shape.num_items, 256)),
        "popularity": Popularity(adjacency.item_degrees),
        "item_cosine": ItemCosine(adjacency),
        "walk": Pixie(pack_graph(adjacency, ChoiceConfig()), PixieConfig(), seed=0),
    }


def _unit_vectors(num_items: int, width: int) -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((num_items, width), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _pairs(num_items: int, num_queries: int, num_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    asked = rng.permutation(num_items)[:num_queries]
    queries = asked[rng.integers(num_queries, size=num_pairs)]
    return queries, (queries + rng.integers(1, num_items, num_pairs)) % num_items


def _rank(scorer: Scorer | VectorScorer, queries: np.ndarray, positives: np.ndarray) -> None:
    rank_and_recommend(scorer, queries, positives, k=10, device=EvaluationConfig().torch_device())


def _sort(scorer: EmbeddingCosine, queries: np.ndarray, positives: np.ndarray) -> int:
    """Do it the plain way: sort all scores of some queries, and look each positive up."""
    order = np.argsort(queries, kind="stable")
    queries, positives = queries[order], positives[order]
    distinct = np.unique(queries)
    found = 0
    for start in range(0, len(distinct), _SORTED_QUERIES):
        asked = distinct[start : start + _SORTED_QUERIES]
        best_first = np.argsort(-scorer.scores(asked), axis=1)
        places = np.empty_like(best_first)
        np.put_along_axis(places, best_first, np.arange(best_first.shape[1])[None], axis=1)
        first, last = np.searchsorted(queries, [asked[0], asked[-1] + 1])
        rows = np.searchsorted(asked, queries[first:last])
        found += int(np.count_nonzero(places[rows, positives[first:last]] <= 10))
    return found


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

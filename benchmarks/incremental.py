"""Embedding again after 1% new edges: how many convolutions an update computes.

The catalog is large and sparse: items in communities of 100, 2 contexts an item, 10 items a
context, 2% of the edges from anywhere in the catalog; T = 20 neighbors, two convolutions; features
are random numbers and log degree. The update starts from the embeddings of the graph without the
new edges. A new edge changes the walks of all items that may step on its context, and so on layer
by layer; what is computed is exactly what changes, so how the new edges come decides how much:

- `communities`: in 2% of the communities, half of the edges are new, as where things happen now;
- `contexts`: 1% of the contexts are new, with all their edges, anywhere;
- `anywhere`: every edge is new with a chance of 1%.

`share`, `max_difference`: convolutions of the update to those of all items, and the largest
difference of any number from embedding everything, for `communities`. The others have their names
in theirs.
"""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from benchmarks._catalog import (
    Published,
    publish_graph,
    publish_model,
    publish_neighborhoods,
    random_features,
)
from benchmarks._timing import parser, report
from pinsage.base.seeding import Stream, stream
from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.inference.export import read_embeddings
from pinsage.inference.layerwise import EmbedConfig
from pinsage.kernels.csr import build_csr, transpose
from pinsage.model.encoder import ModelConfig
from pinsage.sampling.neighborhood import WalkConfig

NEW = 0.01
COMMUNITY, ITEMS_OF_CONTEXT, CONTEXTS_OF_ITEM, STRAY = 100, 10, 2, 0.02
FEATURES = 32
MODEL = ModelConfig(num_layers=2, projected_width=256, embedding_width=128)
WALK = WalkConfig(num_walks=100, num_neighbors=20)
ARRIVALS = ("communities", "contexts", "anywhere")

Ids = Int64[np.ndarray, " edges"]


class Edges:
    """The edges of the whole catalog, each once."""

    def __init__(self, num_items: int) -> None:
        draw = stream(0, Stream.SYNTHETIC, 0)
        self.num_items = num_items
        self.num_communities = num_items // COMMUNITY
        self.num_contexts = num_items * CONTEXTS_OF_ITEM // ITEMS_OF_CONTEXT
        self.communities = draw.integers(0, self.num_communities, self.num_contexts)
        contexts = np.repeat(np.arange(self.num_contexts), ITEMS_OF_CONTEXT)
        own = self.communities[contexts] * COMMUNITY
        items = own + draw.integers(0, COMMUNITY, len(contexts))
        strays = draw.random(len(contexts)) < STRAY
        items[strays] = draw.integers(0, num_items, int(strays.sum()))
        distinct = np.unique(items * self.num_contexts + contexts)
        self.items, self.contexts = distinct // self.num_contexts, distinct % self.num_contexts

    def are_new(self, arrival: str) -> Bool[np.ndarray, " edges"]:
        """Choose which edges are new."""
        draw = stream(0, Stream.SYNTHETIC, 1)
        if arrival == "anywhere":
            return draw.random(len(self.items)) < NEW
        if arrival == "contexts":
            return (draw.random(self.num_contexts) < NEW)[self.contexts]
        busy = draw.permutation(self.num_communities) < 2 * NEW * self.num_communities
        return busy[self.communities[self.contexts]] & (draw.random(len(self.items)) < 0.5)

    def graph(self, chosen: Bool[np.ndarray, " edges"]) -> BipartiteAdjacency:
        """Build the graph of some edges."""
        starts, cols = build_csr(self.items[chosen], self.contexts[chosen], self.num_items)
        return BipartiteAdjacency(starts, cols, *transpose(starts, cols, self.num_contexts))


def main() -> None:
    """Update after every kind of arrival, and compare with embedding everything."""
    flags = parser(__doc__)
    flags.add_argument("--items", type=int, default=1_000_000, help="items of the catalog")
    flags.add_argument("--arrivals", nargs="+", choices=ARRIVALS, default=list(ARRIVALS))
    arguments = flags.parse_args()
    edges = Edges(arguments.items)
    with tempfile.TemporaryDirectory(prefix="pinsage-incremental-") as name:
        folder = Path(name)
        model = publish_model(folder / "model", MODEL, FEATURES + 1)
        now = _publish(folder / "now", edges, np.ones(len(edges.items), bool), model)
        started = time.perf_counter()
        now.embed(folder / "everything", EmbedConfig())
        whole_s = time.perf_counter() - started
        everything = read_embeddings(folder / "everything")
        rows: list[tuple[object, ...]] = [
            ("new edges", "of all", "convolutions", "of all", "seconds", "of all", "difference")
        ]
        figures: dict[str, object] = {"items": arguments.items, "seconds_all": round(whole_s, 2)}
        for arrival in arguments.arrivals:
            found = _update(folder, edges, arrival, now, everything)
            tail = "" if arrival == "communities" else f"_{arrival}"
            figures |= {f"{name}{tail}": value for name, value in found.items()}
            rows.append((
                arrival,
                f"{found['new_edges']:.2%}",
                f"{found['convolutions']:,}",
                f"{found['share']:.1%}",
                f"{found['seconds']:.1f}",
                f"{found['seconds'] / whole_s:.0%}",
                f"{found['max_difference']:.0e}",
            ))
    title = f"{arguments.items:,} items, {len(edges.items):,} edges: an update after 1% new edges"
    report(title, rows, figures, as_json=arguments.json)


def _publish(
    folder: Path, edges: Edges, chosen: Bool[np.ndarray, " edges"], model: Path
) -> Published:
    graph = edges.graph(chosen)
    log_degree = np.log1p(graph.item_degrees).astype(np.float32)[:, None]
    features = np.concatenate([random_features(edges.num_items, FEATURES), log_degree], axis=1)
    return Published(
        publish_graph(folder / "graph", graph, features, None),
        publish_neighborhoods(folder / "neighborhoods", graph, WALK),
        model,
    )


def _update(
    folder: Path, edges: Edges, arrival: str, now: Published, everything: np.ndarray
) -> dict[str, float]:
    """Embed the graph without the new edges, then update."""
    new = edges.are_new(arrival)
    before = _publish(folder / "before", edges, ~new, now.model)
    before.embed(folder / "old", EmbedConfig(keep_rows=True))
    started = time.perf_counter()
    counts = now.embed(folder / "new", EmbedConfig(), previous=folder / "old")
    seconds = time.perf_counter() - started
    difference = np.abs(read_embeddings(folder / "new") - everything).max()
    for part in ("before", "old", "new"):
        shutil.rmtree(folder / part)
    convolutions = counts["convolutions"]
    assert isinstance(convolutions, int)
    return {
        "share": round(convolutions / (edges.num_items * MODEL.num_layers), 4),
        "max_difference": float(difference),
        "new_edges": round(float(new.mean()), 4),
        "convolutions": convolutions,
        "seconds": round(seconds, 2),
    }


if __name__ == "__main__":
    main()

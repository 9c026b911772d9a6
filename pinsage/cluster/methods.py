"""The methods that a report compares, and what those that are trained publish."""

from typing import get_args

import numpy as np

from pinsage.base.arrays import read_array
from pinsage.base.artifacts import Draft, fingerprint
from pinsage.base.logs import Progress
from pinsage.cluster.run import Run, Stage
from pinsage.evaluation.baselines import (
    EmbeddingCosine,
    FeatureCosine,
    ItemCosine,
    Pixie,
    Popularity,
    Transitions,
)
from pinsage.evaluation.baselines.factors import (
    Factorization,
    Settings,
    grid,
    item_factors,
    said,
    tuned,
)
from pinsage.evaluation.ranking import Scorer
from pinsage.graph import Graph
from pinsage.graph.schema import LOG_DEGREE
from pinsage.inference.export import read_embeddings
from pinsage.kernels.unit_rows import unit_rows
from pinsage.sampling.neighborhood import pack_graph

FACTORS = "factors"

_ITEMS_PER_CHUNK = 16_384
"""Items whose features are scaled together: what is needed beside the vectors themselves."""


def factorizations(run: Run) -> list[Factorization]:
    """Name the factorizations that the report is to compare with."""
    return [kind for kind in get_args(Factorization) if kind in run.config.evaluate.baselines]


def factors_stage(run: Run, kind: Factorization) -> Stage:
    """Where the item factors of ALS or BPR are published, made from the graph alone."""
    dumped = getattr(run.config.evaluate, kind).model_dump(mode="json", exclude={"num_threads"})
    settings = {"kind": kind, "grid": dumped, "seed": run.config.seed}
    directory = (
        run.output
        / FACTORS
        / fingerprint(FACTORS, settings, {run.graph.name: run.graph.directory.name})
    )
    return Stage(FACTORS, directory, settings, (run.graph,))


def fit_factors(run: Run, kind: Factorization, draft: Draft) -> None:
    """Try the grid on valid pairs, and write the factors of its best point."""
    config = getattr(run.config.evaluate, kind)
    graph = Graph.open(run.graph.directory)
    adjacency = graph.adjacency()
    points = grid(config)
    with Progress(f"fit {kind}", len(points), "settings") as progress:

        def tell(number: int, point: Settings) -> None:
            progress.set(number, said(point))

        factors, tried = tuned(
            lambda point: item_factors(
                kind,
                adjacency,
                point,
                num_threads=getattr(config, "num_threads", 1),
                seed=run.config.seed,
            ),
            points,
            graph.pairs("valid"),
            tell,
        )
        progress.set(len(points))
    draft.write_array("item_factors.npy", factors)
    draft.counts |= {"kind": kind, "items": len(factors), "tried": tried}


def methods_of(run: Run, graph: Graph) -> dict[str, Scorer]:
    """Open ours first, then what it is compared with, in the order of `evaluate.baselines`.

    Items made cold come with their edges, for every method as for ours, but for the factorizations,
    which would have to be fitted again.
    """
    methods: dict[str, Scorer] = {
        "pinsage": EmbeddingCosine(read_embeddings(run.embeddings.directory))
    }
    for name in run.config.evaluate.baselines:
        if name == "features":
            methods |= feature_methods(graph)
        else:
            methods[name] = _baseline(name, run, graph)
    return methods


def feature_methods(graph: Graph, only: str | None = None) -> dict[str, EmbeddingCosine]:
    """One cosine a feature group: the paper's Visual and Annotation.

    Args:
        graph: whose features.
        only: the one group that is wanted; None wants all but the degree.
    """
    groups = {
        group: columns
        for group, columns in graph.feature_columns.items()
        if group == only or (only is None and group != LOG_DEGREE)
    }
    features = graph.features_at_inference()
    vectors = {
        group: np.empty((graph.num_items, columns.stop - columns.start), np.float32)
        for group, columns in groups.items()
    }
    for start in range(0, graph.num_items, _ITEMS_PER_CHUNK):
        item_ids = np.arange(start, min(start + _ITEMS_PER_CHUNK, graph.num_items))
        rows = features.gather(item_ids)
        for group, columns in groups.items():
            vectors[group][item_ids] = unit_rows(rows[:, columns])
    return {group: EmbeddingCosine(vectors[group]) for group in groups}


def _baseline(name: str, run: Run, graph: Graph) -> Scorer:
    config = run.config
    if name == "popularity":
        return Popularity(graph.adjacency_at_inference().item_degrees)
    if name == "item_cosine":
        return ItemCosine(graph.adjacency_at_inference())
    if name == "transitions":
        return Transitions(graph.pairs("train"), graph.num_items)
    if name == "walk":
        packed = pack_graph(graph.adjacency_at_inference(), config.walk.choice)
        return Pixie(packed, config.evaluate.pixie, seed=config.seed)
    if name == "combined":
        return EmbeddingCosine(read_embeddings(run.combined.embeddings.directory))
    stage = factors_stage(run, "als" if name == "als" else "bpr")
    path = stage.open().path / "item_factors.npy"
    return FeatureCosine(read_array(path))

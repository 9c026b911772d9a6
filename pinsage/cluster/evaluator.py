"""The report of a run."""

from functools import partial

import numpy as np
from jaxtyping import Bool

from pinsage.base.artifacts import Draft
from pinsage.base.logs import Progress
from pinsage.cluster.methods import methods_of
from pinsage.cluster.run import Run
from pinsage.evaluation.baselines import FeatureCosine
from pinsage.evaluation.item_facts import Content, ItemFacts
from pinsage.evaluation.report import evaluate, write_report
from pinsage.graph import Graph
from pinsage.graph.schema import LOG_DEGREE, STRUCTURE


def evaluate_all(run: Run, draft: Draft) -> None:
    """Rank the held-out pairs by every method, and write the report."""
    graph = Graph.open(run.graph.directory)
    catalog = graph.catalog()
    methods = methods_of(run, graph)
    split = run.config.evaluate.split
    pairs = graph.pairs(split)
    total = len(methods) * len(np.unique(pairs.queries))
    with Progress("evaluate", total, "queries") as progress:
        report = evaluate(
            methods,
            pairs=pairs,
            items=ItemFacts(
                titles=catalog.titles,
                images=[catalog.image(item_id) for item_id in range(graph.num_items)],
                degrees=graph.adjacency_at_inference().item_degrees,
                content=_content(graph),
                cold=_cold(graph),
            ),
            data=run.config.name,
            config=run.config.evaluate,
            seed=run.config.seed,
            train=None if split == "train" else graph.pairs("train"),
            on_progress=partial(_show, progress),
        )
    write_report(report, draft)
    protocol = report["protocol"]
    draft.counts |= {name: protocol[name] for name in ("pairs", "queries", "candidates")}


def _show(progress: Progress, done: int, total: int, method: str) -> None:
    progress.total = total
    progress.set(done, method)


def _content(graph: Graph) -> Content | None:
    """Give items' groups of content features side by side, each scaled to unit length."""
    groups = [
        columns
        for name, columns in graph.feature_columns.items()
        if name not in {LOG_DEGREE, STRUCTURE}
    ]
    if not groups:
        return None
    features = graph.features()

    def of(item_ids: np.ndarray) -> np.ndarray:
        rows = features.gather(item_ids)
        return np.concatenate([FeatureCosine(rows[:, group]).vectors for group in groups], axis=1)

    return of


def _cold(graph: Graph) -> Bool[np.ndarray, " items"] | None:
    """Mark the items that training did not see."""
    made_cold = graph.cold_items()
    if made_cold is None:
        return None
    return np.isin(np.arange(graph.num_items), made_cold.ids)

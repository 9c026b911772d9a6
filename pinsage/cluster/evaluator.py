"""The report of a run."""

from functools import partial

import numpy as np

from pinsage.base.artifacts import Draft
from pinsage.base.logs import Progress
from pinsage.cluster.methods import methods_of
from pinsage.cluster.run import Run
from pinsage.evaluation.report import evaluate, write_report
from pinsage.graph import Graph


def evaluate_all(run: Run, draft: Draft) -> None:
    """Rank the held-out pairs by every method, and write the report."""
    graph = Graph.open(run.graph.directory)
    catalog = graph.catalog()
    methods = methods_of(run, graph)
    pairs = graph.pairs(run.config.evaluate.split)
    total = len(methods) * len(np.unique(pairs.queries))
    with Progress("evaluate", total, "queries") as progress:
        report = evaluate(
            methods,
            pairs=pairs,
            num_items=graph.num_items,
            titles=catalog.titles,
            images=[catalog.image(item_id) for item_id in range(graph.num_items)],
            degrees=graph.adjacency().item_degrees,
            data=run.config.name,
            config=run.config.evaluate,
            seed=run.config.seed,
            on_progress=partial(_show, progress),
        )
    write_report(report, draft)
    protocol = report["protocol"]
    draft.counts |= {name: protocol[name] for name in ("pairs", "queries", "candidates")}


def _show(progress: Progress, done: int, total: int, method: str) -> None:
    progress.total = total
    progress.set(done, method)

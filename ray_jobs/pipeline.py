"""All stages in order; what is published is skipped. Ends with a table of what there is."""

import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from pinsage.base.addresses import shown
from pinsage.base.text_table import text_table
from pinsage.cluster.drivers import JOBS, StageResult, check_evaluation
from pinsage.cluster.run import Run
from pinsage.cluster.session import session
from pinsage.evaluation.reading import damaged_report, read_report
from ray_jobs._cli import run_job

_CONTENT = {
    "graph": ("items", "contexts", "edges"),
    "neighborhoods": ("items", "mean_neighbors"),
    "model": ("pairs", "steps"),
    "embeddings": ("items", "convolutions"),
    "index": ("items", "recall@10"),
    "report": ("pairs", "candidates"),
}


def run_pipeline(run: Run) -> None:
    """Run every job, and point the generation at what they published."""
    started = time.monotonic()
    print(f"{run.config.name}: publishing into {shown(run.output)}", file=sys.stderr)
    run.check_previous()
    results = [JOBS["ingest"](run)]
    done_or_not_wanted = {"ingest"} if run.evaluates else {"ingest", "evaluate"}
    if run.evaluates:
        check_evaluation(run)
    with nullcontext() if all(stage.is_done for stage in run.stages) else session(run.config.ray):
        results += [job(run) for name, job in JOBS.items() if name not in done_or_not_wanted]
    generation = run.publish_generation()
    print(closing_table(results, run.output, seconds=time.monotonic() - started))
    print()
    if run.evaluates:
        print(f"report      {shown(results[-1].directory / 'report.html')}")
    print(f"generation  {shown(generation)}")
    if run.evaluates and any(results[0].counts["left_out_edges"].values()):
        print("\nEdges left out were held out to evaluate with, and are not served.")
        print("To serve from all edges: docs/running.md, `All edges, the same model`.")


def closing_table(results: list[StageResult], output: Path, *, seconds: float) -> str:
    """List what every stage published, how long it took, and how good the result is."""
    rows = [("stage", "time", "published", "content")]
    rows += [
        (
            result.stage,
            "found" if result.was_published else f"{result.seconds:.0f} s",
            str(result.directory.relative_to(output)),
            _content(result),
        )
        for result in results
    ]
    is_evaluated = results[-1].stage == "report"
    quality = _quality(results[-1]) if is_evaluated else "nothing is held out to evaluate with"
    stages = text_table(rows, left=4)
    return "\n".join(["", stages, "", f"{seconds:.0f} s in all", "", quality])


def _content(result: StageResult) -> str:
    """Tell the few counts that say most; the manifest has them all."""
    told = [f"{result.counts[name]:,} {name.replace('_', ' ')}" for name in _CONTENT[result.stage]]
    if left_out := sum(result.counts.get("left_out_edges", {}).values()):
        told.append(f"{left_out:,} edges left out")
    return ", ".join(told)


def _quality(report: StageResult) -> str:
    """Tabulate the methods' figures, the best of each column marked.

    Raises:
        ArtifactError: the report is damaged.
    """
    metrics: dict[str, dict[str, float]] = read_report(report.directory)["metrics"]
    try:
        return _figures(metrics)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged_report(report.directory, f"a figure is missing or none: {error}") from error


def _figures(metrics: Mapping[str, Mapping[str, float]]) -> str:
    names = [name for name in next(iter(metrics.values())) if name.startswith("hit_rate")]
    names.append("scaled_mrr")
    found = {name: [values[name] for values in metrics.values()] for name in names}
    # Where all are alike, none is best.
    best = {name: max(values) for name, values in found.items() if min(values) < max(values)}
    rows = [("method", *names)]
    for method, values in metrics.items():
        marks = ["*" if values[name] == best.get(name) else " " for name in names]
        cells = [f"{values[name]:.3f}{mark}" for name, mark in zip(names, marks, strict=True)]
        rows.append((method, *cells))
    return f"{text_table(rows)}\n* best of its column"


if __name__ == "__main__":
    sys.exit(run_job(run_pipeline, description=str(__doc__)))

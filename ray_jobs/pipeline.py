"""All stages in order; what is published is skipped. Ends with a table of what there is."""

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from pinsage.base.addresses import shown
from pinsage.base.shared import read_shared
from pinsage.base.text_table import text_table
from pinsage.cluster.drivers import JOBS, StageResult, check_evaluation
from pinsage.cluster.run import Run
from pinsage.cluster.session import session
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
    results = [JOBS["ingest"](run)]
    check_evaluation(run)
    with nullcontext() if all(stage.is_done for stage in run.stages) else session(run.config.ray):
        results += [job(run) for name, job in JOBS.items() if name != "ingest"]
    generation = run.publish_generation()
    print(closing_table(results, run.output, seconds=time.monotonic() - started))
    print(f"\nreport      {shown(results[-1].directory / 'report.html')}")
    print(f"generation  {shown(generation)}")


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
    stages = text_table(rows, left=4)
    return "\n".join(["", stages, "", f"{seconds:.0f} s in all", "", _quality(results[-1])])


def _content(result: StageResult) -> str:
    """Tell the few counts that say most; the manifest has them all."""
    told = _CONTENT[result.stage]
    return ", ".join(f"{result.counts[name]:,} {name.replace('_', ' ')}" for name in told)


def _quality(report: StageResult) -> str:
    """Tabulate the methods' figures, the best of each column marked."""
    content = json.loads(read_shared(report.directory / "report.json") or b"")
    metrics: dict[str, dict[str, float]] = content["metrics"]
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

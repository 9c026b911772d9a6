"""Settings tried one after the other (`search` in the recipe); ends with the best as a recipe."""

import sys

from pinsage.base.addresses import shown
from pinsage.cluster.run import Run
from pinsage.cluster.search import SearchResult, said, search
from ray_jobs._cli import run_job


def run_search(run: Run) -> None:
    """Search, and print what was tried, best first."""
    result = search(run)
    print(closing_table(result))
    print(f"\nbest   {shown(result.best)}\ntable  {shown(result.table)}")


def closing_table(result: SearchResult) -> str:
    """List the trials, best first."""
    k = "hit-rate"
    lines = ["", f"{k:>8}  {'step':>7}  settings"]
    for trial in result.trials:
        if trial.hit_rate is None:
            lines.append(f"{'failed':>8}  {'':>7}  {said(trial.settings)}: {trial.error}")
        else:
            lines.append(f"{trial.hit_rate:8.4f}  {trial.step:7,}  {said(trial.settings)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_job(run_search, description=str(__doc__)))

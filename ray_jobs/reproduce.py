"""The paper's tables 1, 3 and 4 and figure 4 on one data set; what is done is skipped."""

import json
import sys

from pinsage.base.addresses import shown
from pinsage.base.shared import read_shared
from pinsage.cluster.paper_tables import ReproduceConfig
from pinsage.cluster.reproduce import reproduce
from pinsage.cluster.session import require_lasting
from pinsage.cluster.worker_logs import set_up_logs
from ray_jobs._cli import run_with_config


def run_reproduce(config: ReproduceConfig) -> None:
    """Run all trials, print the tables, and where they are as one JSON line."""
    require_lasting(config.run.output)
    set_up_logs(config.run.logs)
    directory = reproduce(config)
    print((read_shared(directory / "reproduce.md") or b"").decode())
    print(json.dumps({"directory": shown(directory)}))


if __name__ == "__main__":
    sys.exit(run_with_config(ReproduceConfig, run_reproduce, description=str(__doc__)))

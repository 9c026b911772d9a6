"""Made-up tables of any size: power-law degrees, communities, and a recipe that runs on them."""

import json
import sys

from pinsage.cluster.session import require_lasting
from pinsage.graph.powerlaw_tables import RECIPE_FILE, SyntheticConfig, write_power_law
from ray_jobs._cli import run_with_config


def synthesize(config: SyntheticConfig) -> None:
    """Write the tables, and print what there is as one JSON line."""
    require_lasting(config.output)
    counts = write_power_law(config)
    print(json.dumps({"recipe": str(config.output / RECIPE_FILE), **counts}))


if __name__ == "__main__":
    sys.exit(run_with_config(SyntheticConfig, synthesize, description=str(__doc__)))

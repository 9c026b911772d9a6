"""Model to one embedding an item, layer by layer."""

import sys

from ray_jobs._cli import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("embed"))

"""Graph, neighborhoods and pairs to a model."""

import sys

from ray_jobs._cli import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("train"))

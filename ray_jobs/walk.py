"""Graph to importance neighborhoods and hard-negative candidates."""

import sys

from ray_jobs._cli import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("walk"))

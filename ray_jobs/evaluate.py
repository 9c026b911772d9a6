"""Held-out pairs to a report."""

import sys

from ray_jobs._cli import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("evaluate"))

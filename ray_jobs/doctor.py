"""Is this machine, and the cluster a recipe names, ready? Each finding comes with its cure."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from pinsage.base.config import add_recipe_flags, load_config
from pinsage.base.errors import ConfigError
from pinsage.cluster.doctor import (
    Finding,
    Level,
    exit_code_of,
    findings_text,
    machine_findings,
    output_findings,
)
from pinsage.cluster.doctor_cluster import bucket_findings, cluster_findings, wanted_by
from pinsage.cluster.doctor_facts import machine_facts
from pinsage.cluster.run_config import RunConfig
from pinsage.graph.schema import DataConfig, EdgesConfig, ItemsConfig
from ray_jobs._exit import exit_code


def examine(arguments: argparse.Namespace) -> int:
    """Print what was found; 1 if something must be mended first."""
    config = _config(arguments)
    findings: list[Finding] = machine_findings(machine_facts(), wanted_by(config))
    findings += cluster_findings(config)
    in_bucket = bucket_findings(config)
    findings += in_bucket
    readable = all(one.level is Level.OK for one in in_bucket)
    if arguments.config is not None and (readable if in_bucket else _is_there(config.output)):
        findings += output_findings(config.output)
    if arguments.json:
        told = [asdict(one) | {"level": one.level.value} for one in findings]
        print(json.dumps(told, indent=2))
    else:
        print(findings_text(findings))
    return exit_code_of(findings)


def _is_there(output: Path) -> bool:
    """Tell whether there is an output; one that this user may not look at counts."""
    try:
        return output.is_dir()
    except PermissionError:
        return True


def _config(arguments: argparse.Namespace) -> RunConfig:
    """The recipe's settings; without a recipe, the defaults, with the output in `runs`."""
    if arguments.config is not None:
        return load_config(RunConfig, arguments.config, arguments.overrides)
    if arguments.overrides:
        raise ConfigError("--set changes a recipe's settings; say with --config which recipe")
    data = DataConfig(items=ItemsConfig(path=""), edges=(EdgesConfig(path=""),))
    return RunConfig(output=Path("runs"), data=data)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Exit code: 0, or 1 if something must be mended first."
    )
    add_recipe_flags(parser, required=False)
    parser.add_argument("--json", action="store_true", help="the findings as one JSON document")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _parse()
    sys.exit(exit_code(lambda: examine(arguments)))

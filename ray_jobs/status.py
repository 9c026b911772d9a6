"""What an output folder holds: each published piece, its settings, and the files it came from."""

import argparse
import sys
from pathlib import Path

from pinsage.base.addresses import StorageConfig, check_address, folder_of
from pinsage.base.config import add_set_flag, load_config
from pinsage.base.errors import ConfigError
from pinsage.cluster.lineage import read_output
from pinsage.cluster.lineage_text import piece_text, status_json, status_text
from pinsage.cluster.run_config import RunConfig
from ray_jobs._exit import exit_code


def show_status(arguments: argparse.Namespace) -> int:
    """Print what there is; 1 if something published is damaged."""
    output = read_output(_folder(arguments))
    if arguments.json:
        print(status_json(output))
    elif arguments.show:
        print(piece_text(output, output.named(arguments.show)))
    else:
        print(status_text(output))
    return int(any(one.problem for one in output.pieces))


def _folder(arguments: argparse.Namespace) -> Path:
    if arguments.output is not None:
        if arguments.overrides:
            raise ConfigError("--set changes a recipe's settings; give --config, not --output")
        is_address = "://" in arguments.output
        return _standing_for(arguments.output) if is_address else Path(arguments.output)
    return load_config(RunConfig, arguments.config, arguments.overrides).output


def _standing_for(output: str) -> Path:
    try:
        return folder_of(check_address(output), StorageConfig().cache)
    except ValueError as error:
        raise ConfigError(f"--output: {error}") from error


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", metavar="FOLDER", help="an output folder, or its address")
    where.add_argument("--config", type=Path, metavar="FILE", help="a recipe, for its `output`")
    add_set_flag(parser)
    parser.add_argument(
        "--show", metavar="FINGERPRINT", help="all of one piece: its counts, settings and origins"
    )
    parser.add_argument("--json", action="store_true", help="everything, as one JSON document")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _parse()
    sys.exit(exit_code(lambda: show_status(arguments)))

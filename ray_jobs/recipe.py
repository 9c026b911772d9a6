"""A recipe for your tables: their columns found out, its settings by their sizes."""

import argparse
import re
import shlex
import sys
from pathlib import Path

from pinsage.base.errors import ConfigError
from pinsage.cluster.starter import recipe_text, write_recipe
from pinsage.graph.guess import Told, guess_tables
from pinsage.graph.schema import GROUP_NAME, TAKEN_GROUP_NAMES, DataConfig
from ray_jobs._exit import exit_code


def main() -> int:
    """Look at the tables, and print a recipe."""
    arguments = _parse()

    def start() -> int:
        told = Told(
            key=arguments.key,
            item=arguments.item,
            context=arguments.context,
            timestamp=arguments.timestamp,
            pairs_timestamp=arguments.pairs_timestamp,
            npy=_features(arguments.npy),
        )
        guess = guess_tables(arguments.items, arguments.edges, arguments.pairs, told)
        text = recipe_text(arguments.name or _name_of(arguments.to), guess)
        for unused in guess.unused:
            print(f"not used of {unused}", file=sys.stderr)
        if arguments.to is None:
            print(text, end="")
        else:
            write_recipe(arguments.to, text)
            print(_choices(guess.data))
            print(
                f"{arguments.to}: look it over; "
                f"python -m ray_jobs.pipeline --config {shlex.quote(str(arguments.to))}"
            )
        return 0

    return exit_code(start)


def _choices(data: DataConfig) -> str:
    """Say which columns were taken for what."""
    (edges,) = data.edges
    taken = [f"items by {data.items.key!r}", f"edges from {edges.item!r} to {edges.context!r}"]
    taken.append(f"timed by {edges.timestamp!r}" if edges.timestamp else "without times")
    taken.append(f"weighted by {edges.weight!r}" if edges.weight else "without weights")
    return f"took {', '.join(taken)}"


def _name_of(recipe: Path | None) -> str:
    """Name the results as the recipe, so that no two recipes share a folder."""
    if recipe is None:
        return "mine"
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", recipe.stem).strip("-.") or "mine"


def _features(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, path = _name_and_path(text)
        if name in found:
            raise ConfigError(f"--npy: {name!r} is given twice; give every group a name of its own")
        found[name] = path
    return found


def _name_and_path(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"--npy: wanted NAME=PATH, found {text!r}")
    if not re.fullmatch(GROUP_NAME, name) or name in TAKEN_GROUP_NAMES:
        raise ConfigError(
            f"--npy: wanted a name of letters, digits and _, and none of "
            f"{', '.join(sorted(TAKEN_GROUP_NAMES))}; found {name!r}"
        )
    return name, path


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, help="file to write; without it, the recipe is printed")
    parser.add_argument("--name", help="results go to runs/NAME; without it, named as --to")
    parser.add_argument("--items", required=True, help="Parquet: a file, folder, glob or address")
    parser.add_argument("--edges", required=True, help="Parquet: which item was in which context")
    parser.add_argument("--pairs", help="Parquet: who likes the one likes the other")
    parser.add_argument(
        "--npy", action="append", default=[], metavar="NAME=PATH",
        help="content features, row by row as the items; may be repeated",
    )  # fmt: skip
    parser.add_argument("--key", help="column of the items' key")
    parser.add_argument("--item", help="column of the edges' item")
    parser.add_argument("--context", help="column of the edges' context")
    parser.add_argument("--timestamp", help="column of the edges' time; '' if none")
    parser.add_argument("--pairs-timestamp", help="column of the pairs' time; '' if none")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

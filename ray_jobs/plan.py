"""What a run will need: memory, disk, GPU memory, network and time of each stage; which nodes."""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from pinsage.base.config import add_recipe_flags, load_config
from pinsage.base.errors import ConfigError
from pinsage.base.machine import available_cpus, memory_bytes
from pinsage.base.text_table import text_table
from pinsage.cluster.lineage_text import size_text
from pinsage.cluster.plan import peak, plan, total_disk
from pinsage.cluster.plan_facts import GraphSize, Need
from pinsage.cluster.plan_nodes import Placed, place, read_nodes
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig
from pinsage.graph.schema import LOG_DEGREE, STRUCTURE
from ray_jobs._exit import exit_code

_PRICES = Path(__file__).parents[1] / "deploy" / "prices.yaml"
_SIZES = {"items": "items", "contexts": "contexts", "edges": "edges", "pairs": "pairs"}


def show_plan(arguments: argparse.Namespace) -> int:
    """Print the plan; 1 if this machine has too little memory for it, or the cluster no room."""
    config = load_config(RunConfig, arguments.config, arguments.overrides)
    needs = plan(config, _size(config, arguments), cores=available_cpus())
    placed = (
        place(needs, read_nodes(arguments.cluster, arguments.prices)) if arguments.cluster else []
    )
    largest = peak(needs)
    if arguments.json:
        print(json.dumps({"needs": [asdict(one) for one in needs],
                          "placed": [asdict(one) for one in placed]}, indent=2))  # fmt: skip
    else:
        print(_needs_text(needs))
        print(_placed_text(placed) if placed else _here_text(largest))
    return int(any(one.problem for one in placed) if placed else not _fits_here(largest))


def _size(config: RunConfig, arguments: argparse.Namespace) -> GraphSize:
    """Sizes as told; what is not told comes from the published graph."""
    told = {
        name: getattr(arguments, name) for name in _SIZES if getattr(arguments, name) is not None
    }
    if arguments.width is not None:
        told["content_width"] = arguments.width
    if {"items", "contexts", "edges", "content_width"} <= set(told):
        return GraphSize(**{"pairs": told["edges"], **told})
    run = Run(config)
    if not run.graph.is_done:
        raise ConfigError(
            "the graph is not published yet, so say how large it will be: --items, --contexts, "
            "--edges and --width (numbers of features that come with an item)"
        )
    counts = run.graph.open().manifest.counts
    groups = counts["feature_groups"]
    found = GraphSize(
        items=counts["items"],
        contexts=counts["contexts"],
        edges=counts["edges"],
        pairs=sum(counts["pairs"].values()),
        content_width=sum(w for name, w in groups.items() if name not in {LOG_DEGREE, STRUCTURE}),
    )
    return replace(found, **told)


def _needs_text(needs: list[Need]) -> str:
    head = ("stage", "memory", "object store", "files mapped", "published", "scratch", "core time")
    rows: list[tuple[str, ...]] = [head]
    rows += [(one.stage, *_sizes(one), _time(one.core_s)) for one in needs]
    told = f"disk in all, with the largest scratch: {size_text(total_disk(needs))}"
    return f"{text_table(rows)}\n\n{told}"


def _sizes(need: Need) -> list[str]:
    memory = (need.own_bytes, need.shared_bytes, need.mapped_bytes)
    sizes = (*memory, need.disk_bytes, need.scratch_bytes)
    return [size_text(size) if size else "-" for size in sizes]


def _fits_here(need: Need) -> bool:
    return need.own_bytes + need.shared_bytes <= memory_bytes()


def _here_text(largest: Need) -> str:
    wanted = size_text(largest.own_bytes + largest.shared_bytes)
    verdict = "fits here" if _fits_here(largest) else "does NOT fit here"
    return f"most memory: {wanted} ({largest.stage}), {verdict} ({size_text(memory_bytes())})"


def _placed_text(placed: list[Placed]) -> str:
    rows: list[tuple[str, ...]] = [("stage", "nodes", "hours", "dollars", "")]
    rows += [
        (
            one.need.stage,
            f"{one.count} x {one.node.name} ({one.node.instance})",
            f"{one.hours:,.2f}",
            f"{one.dollars:,.2f}",
            one.problem,
        )
        for one in placed
    ]
    dollars = sum(one.dollars for one in placed)
    total = f"{dollars:,.2f} dollars in all at list prices, start-up left out"
    return f"\n{text_table(rows)}\n\n{total}"


def _time(seconds: float) -> str:
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s"


def _count(text: str) -> int:
    """Read a whole number, also one such as 1e6."""
    try:
        count = int(float(text))
    except (ValueError, OverflowError):
        count = -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"wanted a number such as 1000000 or 1e6, found {text!r}")
    return count


def parse_arguments() -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code: 0, or 1 if it does not fit. What it rests on: docs/plan-paper.md",
    )
    add_recipe_flags(parser)
    for name in _SIZES:
        parser.add_argument(f"--{name}", type=_count, help=f"{name}, as in 1e6; else as published")
    parser.add_argument("--width", type=_count, help="numbers of features that come with an item")
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE", help="a cluster.yaml to place it on"
    )
    parser.add_argument(
        "--prices", type=Path, default=_PRICES, help="machines and prices; ours: %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="everything, as one JSON document")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_code(lambda: show_plan(arguments)))

"""Which nodes of a cluster.yaml a plan means: how many of which, how long, for how much."""

import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from pinsage.base.config import Config, load_config
from pinsage.base.errors import ConfigError
from pinsage.cluster.plan_facts import Costs, Need

GIB = 2**30

MEMORY_SHARE = 0.8
"""Of a node's memory, what a stage may take; the rest is the system's and Ray's."""

GPU_SHARE = 1 / 3
"""Of a GPU's operations on its maker's sheet, what is counted on. Assumed, not measured."""

WIRE_SHARE = 0.7
"""Of a node's network, what is counted on."""

_STAGE_KINDS = {"walk": "stores", "embed": "stores", "train": "trainers"}


class NodePrice(Config):
    """One kind of machine."""

    cores: int
    """Virtual CPUs, as the cloud counts them: two a core of the processor."""
    memory_gib: float
    gbit: float
    """Network, gigabits a second."""
    dollars: float
    """An hour, list price."""
    gpus: int = 0
    gpu_gib: float = 0
    """Memory of one GPU."""
    tflops: float = 0
    """All its GPUs together, dense bf16."""


class Prices(Config):
    """Machines and what they cost, at a date."""

    as_of: str | date
    nodes: dict[str, NodePrice]


@dataclass(frozen=True)
class NodeType:
    """One kind of node that a cluster may have.

    Attributes:
        name: in cluster.yaml.
        instance: the cloud's name.
        most: how many there may be.
        price: what it is and costs.
    """

    name: str
    instance: str
    most: int
    price: NodePrice


@dataclass(frozen=True)
class Placed:
    """One stage on nodes.

    Attributes:
        need: what it needs.
        node: on which kind.
        count: on how many.
        hours: how long.
        dollars: for how much.
        problem: why it does not fit, or empty.
    """

    need: Need
    node: NodeType
    count: int
    hours: float
    dollars: float
    problem: str


def read_nodes(cluster: Path, prices: Path) -> list[NodeType]:
    """Read the kinds of nodes of a cluster.yaml, the head first.

    Raises:
        ConfigError: a file is not what it should be, or a machine has no price.
    """
    known = load_config(Prices, prices)
    tree = _read(cluster)
    try:
        types, head = tree["available_node_types"], tree["head_node_type"]
        instances = {name: _machine_of(types[name]["node_config"]) for name in types}
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{cluster}: wanted kinds of nodes as `ray up` takes them on AWS or Google Cloud, such "
            f"as those of cluster.yaml, found no {error}"
        ) from error
    found = []
    for name, instance in sorted(instances.items(), key=lambda kind: (kind[0] != head, kind[0])):
        if instance not in known.nodes:
            raise ConfigError(f"{prices}: no {instance}, which {cluster} uses; add a line for it")
        most = 1 if name == head else types[name].get("max_workers", tree.get("max_workers", 1))
        found.append(NodeType(name, instance, most, known.nodes[instance]))
    return found


def _machine_of(node_config: dict[str, Any]) -> str:
    """Name the kind of machine, as Google Cloud or else AWS calls it."""
    key = "machineType" if "machineType" in node_config else "InstanceType"
    return str(node_config[key])


def place(needs: list[Need], nodes: list[NodeType], costs: Costs | None = None) -> list[Placed]:
    """Put every stage on the kind of node that it is for, on as few as its memory allows.

    Walks and embedding go to nodes named `stores`, training to `trainers`, as in cluster.yaml;
    the other stages run in the head's process.
    """
    by_name = {node.name: node for node in nodes}
    return [
        place_one(one, by_name.get(_STAGE_KINDS.get(one.stage, ""), nodes[0]), costs or Costs())
        for one in needs
    ]


def place_one(need: Need, node: NodeType, costs: Costs, *, count: int | None = None) -> Placed:
    """Put one stage on so many nodes; None takes as few as its memory allows."""
    room = node.price.memory_gib * GIB * MEMORY_SHARE
    wanted = need.own_bytes + need.shared_bytes
    if count is None:
        count = max(math.ceil(wanted / room), 1) if need.sharded else 1
    problem = ""
    if not need.sharded and wanted > room:
        problem = (
            f"wants {wanted / GIB:,.0f} GiB on one machine, {node.instance} has {room / GIB:,.0f}"
        )
    elif count > node.most:
        problem = f"wants {count} nodes, cluster.yaml allows {node.most}"
    elif need.gpu_bytes > node.price.gpu_gib * GIB > 0:
        problem = f"wants {need.gpu_bytes / GIB:,.0f} GiB of GPU memory"
    # A cloud's core is half a core of the processor, and that is what was measured.
    core_s = need.core_s
    if need.sharded and count > 1:
        core_s *= costs.sharded_visit_us / costs.visit_us
    seconds = core_s / (count * node.price.cores / 2)
    if node.price.gpus and need.flops:
        others = max(core_s - need.flops / costs.flops, 0)
        seconds = max(
            need.flops / (count * node.price.tflops * 1e12 * GPU_SHARE),
            others / (count * node.price.cores / 2),
        )
    if count > 1:
        wire = need.wire_bytes * (count - 1) / count
        seconds = max(seconds, wire / (count * node.price.gbit / 8 * 1e9 * WIRE_SHARE))
    hours = seconds / 3600
    return Placed(need, node, count, hours, hours * count * node.price.dollars, problem)


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: wanted a YAML mapping, found {type(tree).__name__}")
    return tree

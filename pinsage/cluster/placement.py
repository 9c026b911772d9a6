"""Where on the cluster actors stand, and whether there is room for them."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from pinsage.base.errors import ResourceError

STORE_CPUS = 0.01
"""CPUs that Ray counts for a store: so few that stores never keep other parts waiting. They do use
cores while they walk, but nothing else runs then."""


Bundle = Mapping[str, float]
"""Resource to how much of it one actor or task is given, all of it on one node."""


def worker_bundle(*, use_gpu: bool) -> Bundle:
    """What one training worker is given."""
    return {"CPU": 1.0, "GPU": 1.0} if use_gpu else {"CPU": 1.0}


def require_room(
    bundles: Sequence[Bundle], *, purpose: str, setting: str, timeout_setting: str, timeout_s: float
) -> None:
    """Stop before Ray would wait for ever; a cluster that grows on demand is given time to.

    Args:
        bundles: what will be asked for at the same time.
        purpose: who wants it.
        setting: what to lower where it cannot be had.
        timeout_setting: where `timeout_s` comes from.
        timeout_s: how long room may take to come.

    Raises:
        ResourceError: what is wanted, and what is there.
    """
    group = placement_group([dict(bundle) for bundle in bundles], strategy="PACK")
    try:
        if group.wait(timeout_s):
            return
    finally:
        remove_placement_group(group)
    wanted: Counter[str] = Counter()
    for bundle in bundles:
        wanted.update(bundle)
    there, free = ray.cluster_resources(), ray.available_resources()
    found = ", ".join(
        f"{there.get(kind, 0):g} {kind} ({free.get(kind, 0):g} free)" for kind in wanted
    )
    raise ResourceError(
        f"{purpose} wants {_told(wanted)} in {len(bundles)} part(s) of {_told(bundles[0])}, but "
        f"found no room within {timeout_s:g} s: the cluster has {found}; lower {setting}, stop "
        f"what holds the rest (`ray status`), add nodes, or raise {timeout_setting} if nodes are "
        "on their way"
    )


def _told(resources: Bundle) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in resources.items())


@contextmanager
def spread(num_bundles: int, *, timeout_s: float) -> Iterator[PlacementGroup]:
    """Reserve a place for each of some stores, over as many nodes as there are.

    A place on a node that is lost comes back on another one.

    Args:
        num_bundles: how many stores there will be.
        timeout_s: how long to wait for the places.

    Raises:
        ResourceError: the cluster has no room in time.
    """
    group = placement_group([{"CPU": STORE_CPUS}] * num_bundles, strategy="SPREAD")
    try:
        if not group.wait(timeout_s):
            raise ResourceError(
                f"{num_bundles} stores want {STORE_CPUS * num_bundles:g} CPUs, but the cluster had "
                f"no room within {timeout_s:g} s; look at `ray status`, add nodes, or raise "
                "stores.request_timeout_s"
            )
        yield group
    finally:
        if ray.is_initialized():
            remove_placement_group(group)


def place_beside_caller() -> NodeAffinitySchedulingStrategy:
    """Put an actor on the caller's node, so that no other node's end takes it away."""
    return place_on(ray.get_runtime_context().get_node_id())


def place_on(node: str) -> NodeAffinitySchedulingStrategy:
    """Put an actor on a node, by its id; it ends with that node."""
    # A soft affinity is only a wish: Ray starts about every other actor elsewhere.
    return NodeAffinitySchedulingStrategy(node, soft=False)


def place_in(group: PlacementGroup, bundle: int) -> PlacementGroupSchedulingStrategy:
    """Put an actor into one place of a group."""
    return PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)


def workers_a_node(num_workers: int, nodes: Sequence[Mapping[str, Any]]) -> int:
    """How many workers share a machine's cores, as Ray spreads them over the nodes it has.

    >>> node = {"Alive": True, "Resources": {"CPU": 16.0}}
    >>> workers_a_node(4, [node, node, node, node | {"Alive": False}])
    2
    """
    num_nodes = sum(node["Alive"] and "CPU" in node["Resources"] for node in nodes)
    return math.ceil(num_workers / max(num_nodes, 1))

"""Where on the cluster actors stand."""

from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pinsage.base.errors import ResourceError

STORE_CPUS = 0.01
"""CPUs that Ray counts for a store: so few that stores never keep other parts waiting. They do use
cores while they walk, but nothing else runs then."""


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


def place_in(group: PlacementGroup, bundle: int) -> PlacementGroupSchedulingStrategy:
    """Put an actor into one place of a group."""
    return PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)

"""What Ray's own autoscaler finds room for."""

from functools import partial
from typing import Any

from ray.autoscaler._private.autoscaler import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import (
    _default_utilization_scorer,
    get_nodes_for,
)

from pinsage.base.config import load_config
from pinsage.cluster.demands import Demand, demands
from pinsage.cluster.run_config import RunConfig
from tests.runs import ROOT

RECIPES = sorted((ROOT / "ray_jobs" / "recipes").glob("*.yaml"))


def without_place(config: dict[str, Any], demand: Demand) -> list[dict[str, float]]:
    """What it finds no node for, with as many nodes as a cluster's file allows."""
    _, left = get_nodes_for(
        config["available_node_types"],
        {},
        config["head_node_type"],
        config["max_workers"],
        [dict(bundle) for bundle in demand.bundles],
        partial(_default_utilization_scorer, node_availability_summary=NodeAvailabilitySummary({})),
    )
    return left


def recipes_without_place(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Name the recipes and stages that a cluster's file has no room for."""
    kinds = config["available_node_types"].values()
    num_gpus = sum(kind["max_workers"] * kind["resources"].get("GPU", 0) for kind in kinds)
    return [
        (recipe.stem, demand.stage)
        for recipe in RECIPES
        for demand in demands(load_config(RunConfig, recipe), num_gpus=num_gpus)
        if without_place(config, demand)
    ]

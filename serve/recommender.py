"""The deployment: `build_api` behind Ray Serve."""

from pathlib import Path

from fastapi import FastAPI
from ray import serve
from ray.serve.schema import LoggingConfig

from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation


class Recommender:
    """One replica: a generation, opened once, that answers over HTTP."""


def recommender(generation: Path, config: ServeConfig) -> serve.Application:
    """Describe the application; nothing is opened before a replica starts.

    Args:
        generation: the `generation.json` to serve, readable on every node with a replica.
        config: limits and wording of the API, and how many replicas answer.
    """

    def open_api() -> FastAPI:
        return build_api(Generation.open(generation), config)

    describe = serve.deployment(
        name="Recommender",
        num_replicas=config.num_replicas,
        max_ongoing_requests=config.max_ongoing_requests,
        # What waits behind the replicas is bounded too; more is refused with a 503.
        max_queued_requests=8 * config.max_ongoing_requests,
        ray_actor_options={"num_cpus": config.cpus_per_replica},
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    return describe(serve.ingress(open_api)(Recommender)).bind()

"""The deployment: `build_api` behind Ray Serve."""

from pathlib import Path

from fastapi import FastAPI
from ray import serve
from ray.serve.schema import LoggingConfig

from serve.api import build_api
from serve.config import ServeConfig
from serve.generation import Generation


class Recommender:
    """One replica: a generation, opened once, that answers over HTTP."""


def recommender(
    generation: Path,
    config: ServeConfig,
    *,
    num_replicas: int,
    max_ongoing_requests: int,
    num_cpus: float,
) -> serve.Application:
    """Describe the application; nothing is opened before a replica starts.

    Args:
        generation: the `generation.json` to serve, readable on every node with a replica.
        config: limits and wording of the API.
        num_replicas: copies of the server.
        max_ongoing_requests: requests one replica works on at a time.
        num_cpus: CPUs that Ray sets aside for a replica.
    """

    def open_api() -> FastAPI:
        return build_api(Generation.open(generation), config)

    describe = serve.deployment(
        name="Recommender",
        num_replicas=num_replicas,
        max_ongoing_requests=max_ongoing_requests,
        # What waits behind the replicas is bounded too; more is refused with a 503.
        max_queued_requests=8 * max_ongoing_requests,
        ray_actor_options={"num_cpus": num_cpus},
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    return describe(serve.ingress(open_api)(Recommender)).bind()

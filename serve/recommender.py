"""The deployment: `build_api` behind Ray Serve."""

from pathlib import Path

from fastapi import FastAPI
from ray import serve
from ray.serve.config import BackpressureConfig
from ray.serve.schema import LoggingConfig

from pinsage.cluster.gpus import GPUS_AS_GIVEN
from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.auth import behind_haproxy
from serve.background import settle
from serve.generation import Generation
from serve.generations import first_parts

_ARRIVING = 4_000
"""Requests of one replica whose body is still on its way, or that are being refused. What comes
slowly holds one of Ray's slots, so that few of them would let a few callers hold up everyone."""
_RETRY_S = 1.0
_DRAIN_LOOK_S = 0.5
_HEALTH_PERIOD_S = 2.0
_HEALTH_TIMEOUT_S = 10.0


class Recommender:
    """One replica: the generation in force, which answers over HTTP."""

    app: FastAPI
    """The API; Serve sets it."""

    def check_health(self) -> None:
        """Answer Serve's question whether to keep this replica, or to start another in its place.

        Raises:
            RuntimeError: it no longer follows which generation is to be served, or what is written.
        """
        self.app.state.switcher.check()
        self.app.state.writes.check()


def recommender(generation: Path, first: str, config: ServeConfig) -> serve.Application:
    """Describe the application; nothing is opened before a replica starts.

    Args:
        generation: the `generation.json` to serve, readable on every node with a replica.
        first: the digest of the generation that replicas begin with while nothing else is decided.
        config: limits and wording of the API, and how many replicas answer.
    """

    def open_api() -> FastAPI:
        is_local = config.boundary.local_callers and not behind_haproxy()
        boundary = config.boundary.model_copy(update={"local_callers": is_local})
        settings = config.model_copy(update={"boundary": boundary})
        # Serve's proxies name requests themselves.
        parts = first_parts(generation, first=first, follow=config.follow)
        api = build_api(Generation.open(parts.path), settings, names_requests=False)
        settle()
        return api

    scaling = config.scaling
    describe = serve.deployment(
        name="Recommender",
        num_replicas=config.num_replicas if scaling is None else "auto",
        autoscaling_config=None if scaling is None else scaling.model_dump(),
        # Many more than the replica takes, of questions and of writes, so that it is the replica
        # that refuses: with a problem, and none whose body isn't in yet.
        max_ongoing_requests=2 * config.max_ongoing_requests + _ARRIVING,
        # What waits behind the replicas is bounded too; more is refused with a 503.
        max_queued_requests=8 * config.max_ongoing_requests,
        backpressure_config=BackpressureConfig(retry_after_s=_RETRY_S),
        graceful_shutdown_wait_loop_s=_DRAIN_LOOK_S,
        graceful_shutdown_timeout_s=config.boundary.request_timeout_s,
        health_check_period_s=_HEALTH_PERIOD_S,
        health_check_timeout_s=_HEALTH_TIMEOUT_S,
        ray_actor_options={
            "num_cpus": config.cpus_per_replica,
            "num_gpus": config.gpus_per_replica,
            "runtime_env": {"env_vars": GPUS_AS_GIVEN},
        },
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    return describe(serve.ingress(open_api)(Recommender)).bind()

"""What `serve deploy` and `python -m serve` both start."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt
from ray import serve

from serve.config import ServeConfig
from serve.generation import read_parts
from serve.recommender import recommender


class AppArgs(ServeConfig):
    """The `args` of the application in a Serve config file."""

    generation: Path
    """The `generation.json` to serve; relative to the working directory."""

    num_replicas: PositiveInt = 1
    """Copies of the server that share the requests."""

    max_ongoing_requests: PositiveInt = 64
    """Requests one replica works on at a time; more wait their turn."""

    num_cpus: Annotated[float, Field(ge=0)] = 0.25
    """CPUs Ray sets aside for a replica; small, so that replicas fit beside running jobs."""


def build_app(args: AppArgs) -> serve.Application:
    """Describe the application that serves one generation.

    Args:
        args: what to serve, and how.

    Raises:
        ArtifactError: there is no such generation, or a part of it isn't published.
    """
    path = args.generation.absolute()
    read_parts(path)
    return recommender(
        path,
        ServeConfig(**{name: getattr(args, name) for name in ServeConfig.model_fields}),
        num_replicas=args.num_replicas,
        max_ongoing_requests=args.max_ongoing_requests,
        num_cpus=args.num_cpus,
    )

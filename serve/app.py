"""What `serve deploy` and `python -m serve` both start."""

from pathlib import Path

from ray import serve

from pinsage.cluster.run_config import ServeConfig
from serve.generation import read_parts
from serve.recommender import recommender


class AppArgs(ServeConfig):
    """The `args` of the application in a Serve config file."""

    generation: Path
    """The `generation.json` to serve; relative to the working directory."""


def build_app(args: AppArgs) -> serve.Application:
    """Describe the application that serves one generation.

    Args:
        args: what to serve, and how.

    Raises:
        ArtifactError: there is no such generation, or a part of it isn't published.
    """
    path = args.generation.absolute()
    read_parts(path)
    return recommender(path, args)

"""What `serve deploy` and `python -m serve` both start."""

from pathlib import Path

from ray import serve

from pinsage.cluster.run_config import ServeConfig
from serve.generations import first_parts
from serve.recommender import recommender


class AppArgs(ServeConfig):
    """The `args` of the application in a Serve config file."""

    generation: Path
    """The `generation.json` of the run to serve; relative to the working directory. A decision by
    `python -m serve.switch` or `POST /v1/generation` goes before it."""


def build_app(args: AppArgs) -> serve.Application:
    """Describe the application that serves the generations of one run's folder.

    Args:
        args: what to serve, and how.

    Raises:
        ArtifactError: there is no such generation, or a part of it isn't published.
    """
    path = args.generation.absolute()
    return recommender(path, first_parts(path, follow=args.follow).digest, args)

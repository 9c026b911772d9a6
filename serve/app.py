"""What `serve deploy` and `python -m serve` both start."""

import re
from pathlib import Path
from typing import Any

from pydantic import model_validator
from ray import serve

from pinsage.base.addresses import StorageConfig, check_address, folder_of
from pinsage.cluster.generations import GENERATIONS
from pinsage.cluster.run_config import ServeConfig
from serve.api import check_folders
from serve.generation import output_of
from serve.generations import first_parts
from serve.recommender import recommender


class AppArgs(ServeConfig):
    """The `args` of the application in a Serve config file."""

    generation: Path
    """The `generation.json` of the run to serve; relative to the working directory, or an address
    in a bucket. A decision by `python -m serve.switch` or `POST /v1/generation` goes before it."""
    storage: StorageConfig = StorageConfig()
    """Copies on a replica's node of what is in a bucket."""

    @model_validator(mode="before")
    @classmethod
    def _generation_stands_here(cls, tree: Any) -> Any:
        """Put the local path that stands for an address in the address's place."""
        address = tree.get("generation") if isinstance(tree, dict) else None
        if not isinstance(address, str) or "://" not in address:
            return tree
        storage = StorageConfig.model_validate(tree.get("storage", {}))
        plain, mark, query = address.partition("?")
        output, *inner = re.split(rf"/(?=(?:{GENERATIONS}/)?[^/]+$)", plain, maxsplit=1)
        folder = folder_of(check_address(output + mark + query), storage.cache)
        return tree | {"generation": folder.joinpath(*inner)}


def build_app(args: AppArgs) -> serve.Application:
    """Describe the application that serves the generations of one run's folder.

    Args:
        args: what to serve, and how.

    Raises:
        ArtifactError: there is no such generation, or a part of it isn't published.
    """
    path = args.generation.absolute()
    check_folders(output_of(path), args)
    return recommender(path, first_parts(path, follow=args.follow).digest, args)

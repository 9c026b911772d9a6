"""The map of a generation's embeddings, from its report."""

import json

import orjson

from pinsage.base.errors import ArtifactError
from pinsage.graph import Catalog
from serve.generation import Parts
from serve.problems import Code, ProblemError


def map_text(parts: Parts, catalog: Catalog) -> bytes:
    """Write the map of a generation's report as the `MapReply` that the page draws.

    Raises:
        ProblemError: there is no report, or no map in it.
        ArtifactError: the report is damaged, or of another catalog.
    """
    path = parts.directory("report") / "report.json" if "report" in parts.names else None
    found = None
    if path is not None and path.exists():
        try:
            found = json.loads(path.read_bytes()).get("map")
        except (ValueError, AttributeError) as error:
            raise ArtifactError(f"{path}: not a report ({error}); rerun evaluate") from error
    if found is None:
        raise ProblemError(
            Code.NO_MAP, "This generation's report has no map; run evaluate with map_items above 0."
        )
    try:
        points = [
            {
                "key": catalog.keys[point["item_id"]],
                **{name: point[name] for name in ("title", "image", "degree", "x", "y", "near")},
            }
            for point in found["points"]
        ]
        return orjson.dumps({"how": found["how"], "points": points})
    except (KeyError, TypeError, IndexError) as error:
        raise ArtifactError(
            f"{path}: its map lacks something, or is of another catalog ({error}); rerun evaluate"
        ) from error

"""The map of a generation's embeddings, from its report."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pinsage.base.artifacts import is_published
from pinsage.base.errors import ArtifactError
from pinsage.evaluation.reading import damaged_report, read_report
from serve.generation import Parts
from serve.live_items import Items
from serve.problems import Code, ProblemError

logger = logging.getLogger("pinsage.serve")


def map_text(parts: Parts, items: Items) -> bytes:
    """Write the map of a generation's report as the `MapReply` that the page draws.

    Deleted items are left out; changed ones stay where the report has them.

    Raises:
        ProblemError: there is no report, or no map in it, or it is damaged or of another catalog.
    """
    if "report" not in parts.names or not is_published(parts.directory("report")):
        raise _no_map("has no report; run evaluate.")
    directory = parts.directory("report")
    try:
        found = read_report(directory).get("map")
        text = None if found is None else _text(found, items, directory)
    except ArtifactError as error:
        logger.warning("%s; until then there is no map", error)
        raise _no_map("has a report that is damaged; the server's log says more.") from error
    if text is None:
        raise _no_map(
            "has a report without a map; run evaluate with map_items of at least 10 (a map wants "
            "as many items whose embeddings differ)."
        )
    return text


def _no_map(why: str) -> ProblemError:
    return ProblemError(Code.NO_MAP, f"This generation {why}")


def _text(found: Mapping[str, Any], items: Items, directory: Path) -> bytes:
    """Write down a map as the report has it.

    Raises:
        ArtifactError: it lacks something, or is of another catalog.
    """
    try:
        points = found["points"]
        ids = items.now(np.array([point["item_id"] for point in points], dtype=np.int64))
        # Points name the points near them by their place in the list.
        places = dict(zip(np.flatnonzero(ids >= 0).tolist(), range(len(points)), strict=False))
        shown = [
            _point(point, items, int(ids[old]), places)
            for old, point in enumerate(points)
            if old in places
        ]
        return orjson.dumps({"how": found["how"], "points": shown})
    except (KeyError, TypeError, ValueError, IndexError) as error:
        reason = f"its map lacks something, or is of another catalog: {error}"
        raise damaged_report(directory, reason) from error


def _point(
    point: Mapping[str, Any], items: Items, item_id: int, places: Mapping[int, int]
) -> dict[str, Any]:
    item = items.item(item_id)
    return {
        "key": item.key,
        "title": item.title,
        "image": item.image,
        **{name: point[name] for name in ("degree", "x", "y")},
        "near": [places[near] for near in point["near"] if near in places],
    }

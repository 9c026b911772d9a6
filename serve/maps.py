"""The map of a generation's embeddings, from its report."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from pinsage.base.errors import ArtifactError
from pinsage.base.shared import read_shared
from serve.generation import Parts
from serve.live_items import Items
from serve.problems import Code, ProblemError


def map_text(parts: Parts, items: Items) -> bytes:
    """Write the map of a generation's report as the `MapReply` that the page draws.

    Deleted items are left out; changed ones stay where the report has them.

    Raises:
        ProblemError: there is no report, or no map in it.
        ArtifactError: the report is damaged, or of another catalog.
    """
    path = parts.directory("report") / "report.json" if "report" in parts.names else None
    content = None if path is None else read_shared(path)
    found = None
    if content is not None:
        try:
            found = json.loads(content).get("map")
        except (ValueError, AttributeError) as error:
            raise ArtifactError(f"{path}: not a report ({error}); rerun evaluate") from error
    if found is None:
        raise ProblemError(
            Code.NO_MAP,
            "This generation's report has no map; run evaluate with map_items of at least 10 (a "
            "map wants as many items whose embeddings differ).",
        )
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
    except (KeyError, TypeError, IndexError) as error:
        raise ArtifactError(
            f"{path}: its map lacks something, or is of another catalog ({error}); rerun evaluate"
        ) from error


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

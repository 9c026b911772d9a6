"""What a neighborhood table lacks: counts for its manifest, and warnings for who reads the log."""

import logging
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pinsage.base.arrays import map_array
from pinsage.graph import Graph

_log = logging.getLogger(__name__)

_COUNTED_ROWS = 65_536
"""How many feature rows are looked at together."""


def neighborhood_counts(directory: Path, graph: Graph) -> dict[str, int | float]:
    """Count what walks have found, and warn of what will give bad recommendations.

    Args:
        directory: holds the table, which need not be published yet.
        graph: the graph that was walked.
    """
    neighbor_ids = map_array(directory / "neighbor_ids.npy")
    unknown = _count_unknown(graph, np.flatnonzero(neighbor_ids[:, 0] < 0))
    if unknown:
        _log.warning(
            "%d of %d items have neither content nor an edge in the graph%s: nothing is known of "
            "them, so nothing is recommended for them, nor they to anyone",
            unknown,
            len(neighbor_ids),
            " (edges held out to evaluate with do not count)" if graph.counts.num_left_out else "",
        )
    candidates = map_array(directory / "hard_negatives.npy")
    filled = (neighbor_ids >= 0).sum(axis=1)
    without = int((~(candidates >= 0).any(axis=1)).sum())
    if candidates.shape[1] and 2 * (filled == 0).sum() > len(filled):
        _log.warning(
            "%d of %d items reach no other item, so they have neither neighbors nor hard negatives",
            (filled == 0).sum(),
            len(filled),
        )
    elif candidates.shape[1] and 2 * without > len(candidates):
        _log.warning(
            "%d of %d items reach too few others to have hard negatives; for a catalog of this "
            "size, lower hard_negatives.first_rank and last_rank",
            without,
            len(candidates),
        )
    return {
        "items": len(neighbor_ids),
        "mean_neighbors": round(float(filled.mean()), 2),
        "items_without_neighbors": int((filled == 0).sum()),
        "items_without_hard_negatives": without,
        "items_without_anything": unknown,
    }


def _count_unknown(graph: Graph, item_ids: Int64[np.ndarray, " alone"]) -> int:
    """Count those of some items whose features are all zero, their degree included."""
    features, unknown = graph.features_at_inference(), 0
    for start in range(0, len(item_ids), _COUNTED_ROWS):
        rows = features.gather(item_ids[start : start + _COUNTED_ROWS])
        unknown += int((~rows.any(axis=1)).sum())
    return unknown

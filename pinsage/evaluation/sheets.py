"""Recommendations of several methods for a few queries, side by side (paper, figure 5)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pinsage.evaluation.item_facts import ItemFacts
from pinsage.evaluation.protocol import HeldOut
from pinsage.evaluation.ranking import Ranking


def side_by_side(
    rankings: Mapping[str, Ranking],
    held_out: HeldOut,
    items: ItemFacts,
    rng: np.random.Generator,
    *,
    num_sheets: int,
) -> list[dict[str, Any]]:
    """Put the methods' lists for a few random queries side by side.

    Args:
        rankings: method to what it recommends.
        held_out: the pairs; their positives are marked.
        items: what is shown of an item.
        rng: draws the queries.
        num_sheets: how many queries.
    """
    distinct = np.unique(held_out.queries)
    chosen = rng.choice(len(distinct), min(num_sheets, len(distinct)), replace=False)
    sheets = []
    for slot in chosen:
        query = int(distinct[slot])
        answers = set(held_out.positives[held_out.queries == query].tolist())
        columns = {
            name: [
                {
                    **items.describe(int(item)),
                    # JSON has no infinity, and a scorer may use it for "always".
                    "score": float(score) if np.isfinite(score) else None,
                    "held_out": int(item) in answers,
                }
                for item, score in zip(ranking.top_ids[slot], ranking.top_scores[slot], strict=True)
                if item >= 0
            ]
            for name, ranking in rankings.items()
        }
        sheets.append({"query": items.describe(query), "columns": columns})
    return sheets

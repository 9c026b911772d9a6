"""Layer 5: how good the recommendations are (paper, section 4.2)."""

from pinsage.evaluation.baselines import (
    EmbeddingCosine,
    FeatureCosine,
    ItemCosine,
    Pixie,
    Popularity,
    Transitions,
)
from pinsage.evaluation.item_facts import ItemFacts
from pinsage.evaluation.protocol import EvaluationConfig
from pinsage.evaluation.ranking import Ranks, Scorer, rank_pairs
from pinsage.evaluation.report import evaluate, write_report

__all__ = [
    "EmbeddingCosine",
    "EvaluationConfig",
    "FeatureCosine",
    "ItemCosine",
    "ItemFacts",
    "Pixie",
    "Popularity",
    "Ranks",
    "Scorer",
    "Transitions",
    "evaluate",
    "rank_pairs",
    "write_report",
]

"""What PinSage is compared with, and PinSage's own embeddings, as scorers (paper, section 4.1)."""

from typing import Literal

from pinsage.evaluation.baselines.content import (
    EmbeddingCosine,
    FeatureCosine,
    Popularity,
)
from pinsage.evaluation.baselines.counts import ItemCosine, Transitions
from pinsage.evaluation.baselines.factors import AlsConfig, BprConfig
from pinsage.evaluation.baselines.walks import Pixie, PixieConfig

Baseline = Literal[
    "popularity", "features", "item_cosine", "transitions", "walk", "als", "bpr", "combined"
]
"""`features` is one cosine a feature group; `walk` is Pixie; `combined` is an MLP on all content
features, trained as PinSage is. The last three take minutes, the others seconds."""

CHEAP: tuple[Baseline, ...] = ("popularity", "features", "item_cosine", "transitions", "walk")

__all__ = [
    "CHEAP",
    "AlsConfig",
    "Baseline",
    "BprConfig",
    "EmbeddingCosine",
    "FeatureCosine",
    "ItemCosine",
    "Pixie",
    "PixieConfig",
    "Popularity",
    "Transitions",
]

"""Layer 3: from seed items to a minibatch; NumPy only."""

from pinsage.sampling.minibatch import Minibatch, MinibatchBuilder, MinibatchConfig
from pinsage.sampling.neighborhood import HardNegativeConfig, Neighborhoods, WalkConfig

__all__ = [
    "HardNegativeConfig",
    "Minibatch",
    "MinibatchBuilder",
    "MinibatchConfig",
    "Neighborhoods",
    "WalkConfig",
]

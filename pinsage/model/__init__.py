"""Layer 4: the network; the first layer that may import Torch."""

from pinsage.model.checkpoint import load_model, save_model
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.model.loss import LossConfig, pair_loss

__all__ = ["LossConfig", "ModelConfig", "PinSage", "load_model", "pair_loss", "save_model"]

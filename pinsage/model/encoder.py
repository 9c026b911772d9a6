"""`PinSage`: stacked convolutions and the output layers (Algorithm 2).

Letters in tensor names: N = source slots, S = seeds, F = feature width, H = hidden width.
"""

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import nn
from torch.nn import functional

from pinsage.base.config import Config
from pinsage.model.convolve import Convolve
from pinsage.model.fused import can_fuse, scaled_columns
from pinsage.model.inputs import DeviceBlock
from pinsage.model.pooling import Pooling

_LARGEST_INPUT = 1e12
"""In standard deviations. Squares overflow at 1e19, and weights and widths multiply before."""

_LEAST_DEVIATION = 1e-30
"""What is divided by a smaller one overflows."""


class ModelConfig(Config):
    """The shape of the network; the defaults are the paper's."""

    num_layers: NonNegativeInt = 2
    """K. With 0 there is no convolution: an MLP on features, the paper's Combined baseline."""
    projected_width: PositiveInt = 2_048
    """m, the width of what is pooled."""
    embedding_width: PositiveInt = 1_024
    """d, the width of hidden rows and embeddings."""
    pooling: Pooling = "importance"
    """How neighbors are pooled; `mean` and `max` are the paper's ablations."""


class PinSage(nn.Module):
    """Features and neighborhoods to unit-length embeddings.

    An item of which nothing is known, neither content nor an edge, gets zeros: the network would
    make the same of all of them, and they would be each other's nearest for no reason.
    """

    input_shift: torch.Tensor
    input_scale: torch.Tensor

    def __init__(self, config: ModelConfig, feature_width: int) -> None:
        """Make the network with fresh weights.

        Args:
            config: its shape.
            feature_width: columns of the feature rows.
        """
        super().__init__()
        self.config = config
        width = config.embedding_width
        # Part of the weights: features are centered and scaled the same way wherever they go in.
        self.register_buffer("input_shift", torch.zeros(feature_width))
        self.register_buffer("input_scale", torch.ones(feature_width))
        inputs = [feature_width] + [width] * (config.num_layers - 1)
        self.layers = nn.ModuleList(
            Convolve(inputs[k], config.projected_width, width) for k in range(config.num_layers)
        )
        self.first_output = nn.Linear(width if config.num_layers else feature_width, width)
        self.second_output = nn.Linear(width, width, bias=False)

    def forward(self, features_NF: torch.Tensor, blocks: list[DeviceBlock]) -> torch.Tensor:
        """Embed the seeds, the first slots of the topmost block and of the features, [S, H]."""
        hidden = self.scale_features(features_NF)
        for layer, block in zip(self.convolutions(), blocks, strict=True):
            hidden = layer(hidden, block, self.config.pooling)
        embeddings = self.head(hidden)
        known = self.known(features_NF[: len(embeddings)])
        return embeddings.masked_fill(~known[:, None], 0.0)

    def known(self, features_SF: torch.Tensor) -> torch.Tensor:
        """Mark raw feature rows that say anything, [S]: an edge shows in the degree."""
        return features_SF.any(dim=1)

    def convolutions(self) -> list[Convolve]:
        """List the convolutions from the features up."""
        return [layer for layer in self.layers if isinstance(layer, Convolve)]

    def scale_features(self, features_NF: torch.Tensor) -> torch.Tensor:
        """Center and scale raw feature rows."""
        if can_fuse(features_NF, self.input_shift) and not features_NF.requires_grad:
            return scaled_columns(features_NF, self.input_shift, self.input_scale)
        return (features_NF - self.input_shift) * self.input_scale

    def overflows(self, features_NF: torch.Tensor) -> torch.Tensor:
        """Mark raw feature rows so far out that lengths of what they give overflow, [N].

        Brought to unit length, such a hidden row is zero, and says nothing of the features.
        """
        return ~(self.scale_features(features_NF).abs().amax(dim=1) < _LARGEST_INPUT)

    def set_feature_scale(self, mean_F: torch.Tensor, deviation_F: torch.Tensor) -> None:
        """Take the scaling from the training items' features; one of no deviation becomes 0."""
        self.input_shift.copy_(mean_F)
        self.input_scale.copy_(
            torch.where(
                deviation_F > _LEAST_DEVIATION, 1 / deviation_F.clamp(min=_LEAST_DEVIATION), 0.0
            )
        )

    def head(self, hidden_SH: torch.Tensor) -> torch.Tensor:
        """Compute G2 ReLU(G1 h + g), scaled to unit length for the inner-product search, [S, H]."""
        output = self.second_output(functional.relu(self.first_output(hidden_SH)))
        return functional.normalize(output, dim=1)

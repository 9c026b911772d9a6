"""`Convolve`: one localized convolution (Algorithm 1).

Letters in tensor names: N = source slots, D = destination slots, I = input width, M = projected
width, H = hidden width, T = neighbors.
"""

import torch
from torch import nn
from torch.nn import functional

from pinsage.model.fused import can_fuse, fused_convolution, fused_next
from pinsage.model.inputs import DeviceBlock
from pinsage.model.pooling import Pooling, pool, pooling_weights


class Convolve(nn.Module):
    """Project every source once, pool by neighborhood, join with self, normalize."""

    def __init__(self, input_width: int, projected_width: int, output_width: int) -> None:
        """Make the layer: Q, q of the paper are `neighbor`, W, w are `joint`."""
        super().__init__()
        self.neighbor = nn.Linear(input_width, projected_width)
        self.joint = nn.Linear(input_width + projected_width, output_width)

    def forward(
        self, hidden_NI: torch.Tensor, block: DeviceBlock, pooling: Pooling
    ) -> torch.Tensor:
        """Compute the next hidden rows of the block's destinations, [D, H]."""
        if pooling != "max" and can_fuse(hidden_NI, self.neighbor.weight):
            weights_DT = pooling_weights(block.weights, pooling)
            return fused_convolution(
                hidden_NI, self.neighbor, self.joint, block.neighbors, weights_DT
            )
        pooled_DM = pool(self.project(hidden_NI), block.neighbors, block.weights, pooling=pooling)
        return self.combine(hidden_NI[: len(pooled_DM)], pooled_DM)

    def project(self, hidden_NI: torch.Tensor) -> torch.Tensor:
        """Compute ReLU(Q h + q), what neighbors are pooled from (line 1), [N, M]."""
        return functional.relu(self.neighbor(hidden_NI), inplace=True)

    def pool_and_combine(
        self,
        below_DI: torch.Tensor,
        projected_NM: torch.Tensor,
        neighbors_DT: torch.Tensor,
        weights_DT: torch.Tensor,
        pooling: Pooling,
    ) -> torch.Tensor:
        """Compute the next hidden rows from what `project` gave, for inference, [D, H].

        Args:
            below_DI: the destinations' own hidden rows.
            projected_NM: what is pooled from; on the device of its own.
            neighbors_DT: source slots, where `projected_NM` is.
            weights_DT: importance weights likewise.
            pooling: how neighbors are pooled.
        """
        weights_are_sums = pooling != "max" and neighbors_DT.dtype == torch.int32
        if weights_are_sums and can_fuse(below_DI, projected_NM):
            weights_DT = pooling_weights(weights_DT, pooling)
            return fused_next(below_DI, projected_NM, self.joint, neighbors_DT, weights_DT)
        pooled_DM = pool(projected_NM, neighbors_DT, weights_DT, pooling=pooling)
        return self.combine(below_DI, pooled_DM.to(below_DI.device))

    def combine(self, hidden_DI: torch.Tensor, pooled_DM: torch.Tensor) -> torch.Tensor:
        """Compute ReLU(W [h, n] + w), each row scaled to unit length (lines 2 and 3), [D, H]."""
        joined = functional.relu(self.joint(torch.cat([hidden_DI, pooled_DM], dim=1)))
        # A row that the ReLU clears stays zero: normalize divides by at least 1e-12.
        return functional.normalize(joined, dim=1)

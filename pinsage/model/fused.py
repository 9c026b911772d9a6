"""One convolution as one operation on a CPU, equal to the plain one (Algorithm 1).

Most of a plain convolution's time beyond its matrix products goes into rows that are written only
to be read again: the ReLU's, the gradients of every source. Here a pass does all that can be done
while a row is in the cache, and the sources' gradients are made a few rows at a time, just before
the matrix products that use them up.

Letters in tensor names: N = source slots, D = destination slots, T = neighbors, I = input width,
M = projected width, J = I + M, H = hidden width.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from pinsage.kernels.relu_pool import PIECES, relu_pool, relu_pool_back, transpose_block
from pinsage.kernels.unit_rows import relu_unit, relu_unit_back, scale_columns
from pinsage.model.threads import threads_of_torch

_ROWS = 4_096
"""Sources worked on at a time: few enough for the cache, enough for a matrix product."""


def can_fuse(*tensors: torch.Tensor) -> bool:
    """Tell whether tensors are where the kernels can work on them."""
    return all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)


def fused_convolution(
    hidden_NI: torch.Tensor,
    neighbor: nn.Linear,
    joint: nn.Linear,
    neighbors_DT: torch.Tensor,
    weights_DT: torch.Tensor,
) -> torch.Tensor:
    """Compute the next hidden rows, [D, H]: project, pool, join with self, normalize.

    Args:
        hidden_NI: the sources' hidden rows.
        neighbor: Q, q of the paper.
        joint: W, w of the paper.
        neighbors_DT: int32 source slots.
        weights_DT: weights of the neighbors; 0 marks one that is not there.
    """
    return _Convolution.apply(  # type: ignore[no-untyped-call]
        hidden_NI,
        neighbor.weight,
        neighbor.bias,
        joint.weight,
        joint.bias,
        neighbors_DT.contiguous(),
        weights_DT.contiguous(),
    )


def fused_next(
    below_DI: torch.Tensor,
    projected_NM: torch.Tensor,
    joint: nn.Linear,
    neighbors_DT: torch.Tensor,
    weights_DT: torch.Tensor,
) -> torch.Tensor:
    """Compute the next hidden rows, [D, H], from rows projected before; no gradient goes through.

    Args:
        below_DI: the destinations' own hidden rows.
        projected_NM: ReLU(Q h + q) of every source.
        joint: W, w of the paper.
        neighbors_DT: int32 source slots.
        weights_DT: weights of the neighbors; 0 marks one that is not there.
    """
    width = below_DI.shape[1]
    joined_DJ = torch.empty(len(below_DI), joint.in_features)
    joined_DJ[:, :width] = below_DI
    with threads_of_torch(neighbors_DT.numel() * projected_NM.shape[1]):
        # A ReLU leaves what came out of one as it is.
        none_M = torch.zeros(projected_NM.shape[1]).numpy()
        relu_pool(
            projected_NM.numpy(),
            none_M,
            neighbors_DT.contiguous().numpy(),
            weights_DT.contiguous().numpy(),
            joined_DJ.numpy(),
            width,
        )
        next_DH = joined_DJ @ joint.weight.T
        relu_unit(next_DH.numpy(), joint.bias.numpy())
    return next_DH


def scaled_columns(
    rows_NI: torch.Tensor, shift_I: torch.Tensor, scale_I: torch.Tensor
) -> torch.Tensor:
    """Compute `(rows - shift) * scale` in one pass, [N, I]; no gradient goes through."""
    out_NI = torch.empty(rows_NI.shape)
    with threads_of_torch(rows_NI.numel()):
        scale_columns(
            rows_NI.contiguous().numpy(), shift_I.numpy(), scale_I.numpy(), out_NI.numpy()
        )
    return out_NI


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NI: torch.Tensor,
        weight_MI: torch.Tensor,
        bias_M: torch.Tensor,
        joint_HJ: torch.Tensor,
        joint_bias_H: torch.Tensor,
        neighbors_DT: torch.Tensor,
        weights_DT: torch.Tensor,
    ) -> torch.Tensor:
        num_destinations, width = len(neighbors_DT), hidden_NI.shape[1]
        projected_NM = torch.empty(len(hidden_NI), len(weight_MI))
        for start in range(0, len(hidden_NI), _ROWS):
            chunk = slice(start, start + _ROWS)
            torch.mm(hidden_NI[chunk], weight_MI.T, out=projected_NM[chunk])
        joined_DJ = torch.empty(num_destinations, joint_HJ.shape[1])
        joined_DJ[:, :width] = hidden_NI[:num_destinations]
        with threads_of_torch(projected_NM.numel()):
            relu_pool(
                projected_NM.numpy(),
                bias_M.numpy(),
                neighbors_DT.numpy(),
                weights_DT.numpy(),
                joined_DJ.numpy(),
                width,
            )
            next_DH = joined_DJ @ joint_HJ.T
            lengths_D = torch.from_numpy(relu_unit(next_DH.numpy(), joint_bias_H.numpy()))
        ctx.save_for_backward(
            hidden_NI, weight_MI, bias_M, joint_HJ, neighbors_DT, weights_DT,
            projected_NM, joined_DJ, next_DH, lengths_D,
        )  # fmt: skip
        return next_DH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given_DH: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        joined_DJ, next_DH, lengths_D = ctx.saved_tensors[7:]
        with threads_of_torch(len(ctx.saved_tensors[0]) * next_DH.shape[1]):
            through_DH = torch.empty_like(next_DH)
            relu_unit_back(
                next_DH.numpy(), lengths_D.numpy(), given_DH.contiguous().numpy(),
                through_DH.numpy(),
            )  # fmt: skip
            to_hidden, to_weight, to_bias = _back_to_sources(ctx, through_DH)
        to_joint = through_DH.T @ joined_DJ
        return to_hidden, to_weight, to_bias, to_joint, through_DH.sum(0), None, None


def _back_to_sources(
    ctx: Any, through_DH: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """Compute the gradients of the hidden rows, if wanted, and of the projection."""
    hidden_NI, weight_MI, bias_M, joint_HJ, neighbors_DT, weights_DT, projected_NM = (
        ctx.saved_tensors[:7]
    )
    num_sources, width = hidden_NI.shape
    wanted = ctx.needs_input_grad[0]
    # Features want no gradient, so there the columns of the destinations' own rows are left out.
    first = width if wanted else 0
    joined = (through_DH @ (joint_HJ if wanted else joint_HJ[:, width:])).numpy()
    block = transpose_block(neighbors_DT.numpy(), weights_DT.numpy(), num_sources)
    to_weight_IM = torch.zeros(width, len(weight_MI))
    to_hidden_NI = torch.empty_like(hidden_NI) if wanted else None
    gradient_M = torch.empty(min(_ROWS, num_sources), len(weight_MI))
    sums_M = torch.zeros(PIECES, len(weight_MI))
    for start in range(0, num_sources, _ROWS):
        stop = min(start + _ROWS, num_sources)
        chunk_M = gradient_M[: stop - start]
        relu_pool_back(
            projected_NM.numpy(), bias_M.numpy(), block, joined, first, start, chunk_M.numpy(),
            sums_M.numpy(),
        )  # fmt: skip
        to_weight_IM.addmm_(hidden_NI[start:stop].T, chunk_M)
        if to_hidden_NI is not None:
            torch.mm(chunk_M, weight_MI, out=to_hidden_NI[start:stop])
    if to_hidden_NI is not None:
        to_hidden_NI[: len(joined)] += torch.from_numpy(joined[:, :width])
    return to_hidden_NI, to_weight_IM.T, sums_M.sum(0)

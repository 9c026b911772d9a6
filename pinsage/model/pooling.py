"""Pooling over a neighborhood (paper, section 3.2; the ablations of table 1).

Letters in tensor names: N = source slots, D = destination slots, T = neighbors, M = width.
"""

from typing import Literal

import torch
from torch.nn import functional

Pooling = Literal["importance", "mean", "max"]


def pool(
    projected_NM: torch.Tensor,
    neighbors_DT: torch.Tensor,
    weights_DT: torch.Tensor,
    *,
    pooling: Pooling,
) -> torch.Tensor:
    """Pool every destination's neighbors; a cold item, whose weights are all 0, pools to zeros.

    Args:
        projected_NM: source rows, at least 0 everywhere (they come out of a ReLU).
        neighbors_DT: int32 source slots.
        weights_DT: importance weights; 0 marks a neighbor that is not there.
        pooling: weighted mean by importance, plain mean, or elementwise maximum.

    Returns:
        [D, M], of the type of `projected_NM`.
    """
    if pooling == "max":
        return _max_pool(projected_NM, neighbors_DT, weights_DT)
    return functional.embedding_bag(
        neighbors_DT,
        projected_NM,
        per_sample_weights=pooling_weights(weights_DT, pooling).to(projected_NM.dtype),
        mode="sum",
    )


def pooling_weights(weights_DT: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Give what each neighbor counts for in the sum: its importance, or one over their number."""
    if pooling == "importance":
        return weights_DT
    present = (weights_DT > 0).to(weights_DT.dtype)
    return present / present.sum(dim=1, keepdim=True).clamp(min=1)


def _max_pool(
    projected_NM: torch.Tensor, neighbors_DT: torch.Tensor, weights_DT: torch.Tensor
) -> torch.Tensor:
    # Rows come out of a ReLU, so 0 is never above a neighbor that is there.
    absent_DT = weights_DT <= 0
    if torch.is_grad_enabled():
        gathered_DTM = functional.embedding(neighbors_DT, projected_NM)
        return gathered_DTM.masked_fill(absent_DT.unsqueeze(-1), 0).amax(dim=1)
    # A neighbor at a time takes a T-th of the memory.
    largest_DM = projected_NM.new_zeros(len(neighbors_DT), projected_NM.shape[1])
    for neighbor in range(neighbors_DT.shape[1]):
        rows_DM = functional.embedding(neighbors_DT[:, neighbor], projected_NM)
        rows_DM = rows_DM.masked_fill(absent_DT[:, neighbor, None], 0)
        largest_DM = torch.maximum(largest_DM, rows_DM)
    return largest_DM

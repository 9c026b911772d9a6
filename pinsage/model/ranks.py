"""What the ranks of one training tell each other within a step."""

from typing import Any

import torch
from torch import distributed

from pinsage.sampling.pairs import share_of_rank


def is_shared() -> bool:
    """Tell whether there are other ranks."""
    return distributed.is_initialized() and distributed.get_world_size() > 1


def rows_of_all_ranks(rows: torch.Tensor, total: int) -> torch.Tensor:
    """Put a row of every pair of the minibatch below another, by rank; gradients find their way.

    Every rank has to call this at the same time, and to go back through it if one does.

    Args:
        rows: one for each of this rank's pairs; of one type and width on all ranks.
        total: pairs of the minibatch, over all ranks.
    """
    if not is_shared():
        return rows
    gathered: torch.Tensor = _Gather.apply(rows, total)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, total: int) -> torch.Tensor:
        world_size, ctx.total = distributed.get_world_size(), total
        # Shares differ by one pair at most, but parts must be equal.
        padded = rows.new_zeros((-(-total // world_size), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(world_size)]
        distributed.all_gather(parts, padded)
        shares = [share_of_rank(total, rank, world_size) for rank in range(world_size)]
        return torch.cat([part[: len(share)] for part, share in zip(parts, shares, strict=True)])

    @staticmethod
    def backward(ctx: Any, given: torch.Tensor) -> tuple[torch.Tensor, None]:
        # What every rank's loss asks of a row adds up.
        asked = given.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(asked)
        share = share_of_rank(ctx.total, distributed.get_rank(), distributed.get_world_size())
        return asked[share.start : share.stop], None

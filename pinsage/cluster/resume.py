"""Which checkpoint all ranks of one training go on from."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed

from pinsage.model.ranks import is_shared
from pinsage.training import Checkpoints, load_progress

FROM_START = 0
"""The step of a run that has no checkpoint."""

_FAILED = -1

_SHOWN_S = 90.0
"""How long a checkpoint may take to be seen from other nodes; a shared folder that is mounted with
the usual settings shows new entries within a minute."""


def newest_step(folder: Checkpoints, warn: Callable[[str], None]) -> int:
    """Find the step of the newest whole checkpoint; say which ones were damaged.

    Raises:
        ArtifactError: there are checkpoints and none is whole, or it belongs to other settings.
    """
    found = folder.find()
    for text in found.skipped:
        where = f"from {found.path.name}" if found.path else "from the start"
        warn(f"a damaged checkpoint is passed over, training goes on {where}: {text}")
    return FROM_START if found.path is None else load_progress(found.path).step


def agreed_step(choose: Callable[[], int], *, rank: int, device: torch.device) -> int | None:
    """Have rank 0 choose the step to go on from, and tell it to all ranks.

    Each looking for itself, they might find different ones: a shared folder shows some nodes less.

    Args:
        choose: called on rank 0 alone; what it raises there is raised.
        rank: whose call this is.
        device: where the ranks' tensors are.

    Returns:
        The step; None on the other ranks if rank 0 could not choose.
    """
    chosen = torch.full((1,), _FAILED, dtype=torch.int64, device=device)
    try:
        if rank == 0:
            chosen.fill_(choose())
    finally:
        # The others wait for it, whatever it is.
        if is_shared():
            distributed.broadcast(chosen, src=0)
    step = int(chosen.item())
    return None if step == _FAILED else step


def checkpoint_of(folder: Checkpoints, step: int, *, rank: int) -> Path | None:
    """Give the checkpoint of the agreed step; None is the start.

    Raises:
        ArtifactError: this rank does not find it.
    """
    if step == FROM_START:
        return None
    if rank == 0:
        return folder.path(step)
    return folder.wait_for(step, worker=rank, timeout_s=_SHOWN_S)

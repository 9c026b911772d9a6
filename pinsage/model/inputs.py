"""The one door from NumPy to device tensors."""

import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pinsage.sampling.block import Block
from pinsage.sampling.minibatch import Minibatch


@dataclass(frozen=True)
class DeviceBlock:
    """`Block`, on a device."""

    neighbors: torch.Tensor
    weights: torch.Tensor
    num_sources: int


@dataclass(frozen=True)
class DeviceMinibatch:
    """`Minibatch`, on a device."""

    queries: torch.Tensor
    positives: torch.Tensor
    shared_negatives: torch.Tensor
    hard_negatives: torch.Tensor
    seed_ids: torch.Tensor
    log_expected: torch.Tensor
    blocks: list[DeviceBlock]
    features: torch.Tensor
    total_pairs: int


class Mover:
    """Moves minibatches to a device.

    To a GPU they go on a stream of their own: while it still computes one step, the next one's
    minibatch arrives. On a CPU nothing is copied.
    """

    def __init__(self, device: torch.device) -> None:
        """Open the stream, if the device has any."""
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def move(self, minibatch: Minibatch) -> DeviceMinibatch:
        """Start to move a minibatch; what is computed with it from now on waits until it is there.

        Args:
            minibatch: its arrays must not change; they are read until the step is done.
        """
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            moved = to_device(minibatch, self._device)
        if self._stream is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_stream(self._stream)
            for tensor in _tensors(moved):
                # Its memory was taken on the other stream, and must not go back there too early.
                tensor.record_stream(computing)
        return moved


def to_tensor(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Move an array to a device; on a CPU the memory is shared, so the tensor is only read.

    For a GPU the array is copied to pinned memory first, and the transfer does not block.
    """
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def to_device_block(block: Block, device: torch.device) -> DeviceBlock:
    """Move one block."""
    return DeviceBlock(
        to_tensor(block.neighbors, device), to_tensor(block.weights, device), block.num_sources
    )


def to_device(minibatch: Minibatch, device: torch.device) -> DeviceMinibatch:
    """Move a whole minibatch."""
    return DeviceMinibatch(
        queries=to_tensor(minibatch.queries, device),
        positives=to_tensor(minibatch.positives, device),
        shared_negatives=to_tensor(minibatch.shared_negatives, device),
        hard_negatives=to_tensor(minibatch.hard_negatives, device),
        seed_ids=to_tensor(minibatch.seed_ids, device),
        log_expected=to_tensor(minibatch.log_expected, device),
        blocks=[to_device_block(block, device) for block in minibatch.blocks],
        features=to_tensor(minibatch.features, device),
        total_pairs=minibatch.total_pairs,
    )


def _tensors(minibatch: DeviceMinibatch) -> list[torch.Tensor]:
    own = [value for value in vars(minibatch).values() if isinstance(value, torch.Tensor)]
    return own + [part for block in minibatch.blocks for part in (block.neighbors, block.weights)]


def _hear_the_warning_once() -> None:
    """Have Torch say, here and to nobody, that an array is read-only; it says so only once.

    Arrays out of the object store are, and no tensor made here is written to.
    """
    array = np.zeros(1)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.from_numpy(array)


_hear_the_warning_once()

"""The one door from NumPy to device tensors."""

import warnings
from dataclasses import dataclass
from typing import Any

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
    blocks: list[DeviceBlock]
    features: torch.Tensor
    total_pairs: int


def to_tensor(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Move an array to a device; on a CPU the memory is shared, so the tensor is only read.

    For a GPU the array is copied to pinned memory first, and the transfer does not block.
    """
    with warnings.catch_warnings():
        # Arrays out of the object store are read-only, and so is every tensor made here.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
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
        blocks=[to_device_block(block, device) for block in minibatch.blocks],
        features=to_tensor(minibatch.features, device),
        total_pairs=minibatch.total_pairs,
    )

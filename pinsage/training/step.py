"""One update of the weights."""

import math

import torch
from torch import distributed, nn

from pinsage.base.errors import TrainingError
from pinsage.model.inputs import to_device
from pinsage.model.loss import LossConfig, pair_loss
from pinsage.sampling.minibatch import Minibatch


class TrainingStep:
    """The model, its optimizer and the loss, taking one minibatch at a time."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: LossConfig,
        *,
        device: torch.device,
        world_size: int,
    ) -> None:
        """Hold the parts.

        Args:
            model: a `PinSage`, or its data-parallel wrapper.
            optimizer: over the model's parameters.
            loss: which loss.
            device: where the model is.
            world_size: how many workers' gradients are averaged.
        """
        self._model = model
        self._optimizer = optimizer
        self._loss = loss
        self._device = device
        self._world_size = world_size

    def run(self, minibatch: Minibatch, *, learning_rate: float) -> float:
        """Make one update.

        Workers' gradients are averaged, so each scales its sum by its share: the update is that
        of one worker with the whole minibatch, however unequal the shares.

        Returns:
            The mean loss a pair, over the whole minibatch.

        Raises:
            TrainingError: the loss is not a finite number.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        inputs = to_device(minibatch, self._device)
        bf16 = self._device.type == "cuda"
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=bf16):
            embeddings = self._model(inputs.features, inputs.blocks)
        total = pair_loss(embeddings.float(), inputs, self._loss)
        value = _over_all_ranks(total) / minibatch.total_pairs
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value}; lower train.schedule.learning_rate or look for "
                "extreme feature values"
            )
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total * self._world_size / minibatch.total_pairs)
        self._optimizer.step()
        return value


def _over_all_ranks(total: torch.Tensor) -> float:
    """Add up what the ranks found; alone, it is this one's."""
    found = total.detach().clone()
    if distributed.is_initialized():
        distributed.all_reduce(found)
    return found.item()

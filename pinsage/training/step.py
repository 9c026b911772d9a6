"""One update of the weights."""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pinsage.base.errors import NotFiniteError
from pinsage.model.inputs import DeviceMinibatch, Mover
from pinsage.model.loss import LossConfig, pair_loss
from pinsage.model.ranks import is_shared
from pinsage.sampling.minibatch import Minibatch


def make_optimizer(model: nn.Module) -> torch.optim.Adam:
    """Make the optimizer that `TrainingStep` works with: Adam, in one operation on any device."""
    return torch.optim.Adam(model.parameters(), fused=True)


class StepResult(NamedTuple):
    """What every rank knows after a step."""

    loss: float
    """The mean loss a pair, over the whole minibatch."""
    is_last: bool
    """Whether a rank was asked to stop."""


def _never() -> bool:
    return False


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
            optimizer: of `make_optimizer`, over the model's parameters.
            loss: which loss.
            device: where the model is.
            world_size: how many workers' gradients are averaged.

        Raises:
            ValueError: the optimizer is another, which would not spare the weights a failed step.
        """
        if not optimizer.defaults.get("fused"):
            raise ValueError("the optimizer must be fused; make it with make_optimizer")
        self._model = model
        self._optimizer = optimizer
        self._loss = loss
        self._device = device
        self._world_size = world_size
        self._mover = Mover(device)

    def run(
        self,
        parts: Minibatch | Iterable[Minibatch],
        *,
        learning_rate: float,
        wants_to_stop: Callable[[], bool] = _never,
    ) -> StepResult:
        """Make one update.

        Workers' gradients are averaged, so each scales its sum by its share: the update is that
        of one worker with the whole minibatch, however unequal the shares. Parts' gradients add up
        in the same way.

        A GPU is only given things to do: the wait for the loss ends with the forward pass, so while
        the rest is computed the next minibatch can be moved and its work lined up.

        Args:
            parts: this rank's share of the minibatch, whole or in parts, taken one at a time.
            learning_rate: of this update.
            wants_to_stop: asked once, as late as the answer can still go with the loss to all.

        Returns:
            The loss, and whether any rank wants to stop.

        Raises:
            NotFiniteError: the loss is not a finite number; the weights are as before.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.zero_grad(set_to_none=True)
        loss, reading = self._lined_up(
            [parts] if isinstance(parts, Minibatch) else parts, wants_to_stop
        )
        # A loss that is not finite must not touch the weights, and is known only later.
        self._optimizer.found_inf = (~torch.isfinite(loss)).float()  # type: ignore[attr-defined]
        self._optimizer.step()
        value, num_asked = reading.wait()
        if not math.isfinite(value):
            raise NotFiniteError(
                f"the loss is {value}; lower train.schedule.learning_rate or look for "
                "extreme feature values"
            )
        return StepResult(value, num_asked > 0)

    def _lined_up(
        self, parts: Iterable[Minibatch], wants_to_stop: Callable[[], bool]
    ) -> tuple[torch.Tensor, "_Reading"]:
        """Have the gradients of all parts computed; the loss is read as soon as it is there."""
        found = torch.zeros((), device=self._device)
        inputs: DeviceMinibatch | None = None
        for part in parts:
            if inputs is not None:
                # Ranks average their gradients once, with the last part.
                with self._alone():
                    total = self._forward(inputs)
                    self._backward(total, inputs)
                found += total.detach()
            inputs = self._mover.move(part)
        if inputs is None:
            raise ValueError("a step needs a minibatch; found none")
        total = self._forward(inputs)
        found += total.detach()
        # One message a step tells all ranks both, and nobody waits for a second one.
        told = torch.stack([found, torch.full_like(found, float(wants_to_stop()))])
        if is_shared():
            distributed.all_reduce(told)
        told[0] /= inputs.total_pairs
        reading = _Reading(told)
        self._backward(total, inputs)
        return told[0], reading

    def _alone(self) -> AbstractContextManager[object]:
        if isinstance(self._model, DistributedDataParallel):
            return self._model.no_sync()
        return nullcontext()

    def _forward(self, inputs: DeviceMinibatch) -> torch.Tensor:
        bf16 = self._device.type == "cuda"
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=bf16):
            embeddings = self._model(inputs.features, inputs.blocks)
        return pair_loss(embeddings.float(), inputs, self._loss)

    def _backward(self, total: torch.Tensor, inputs: DeviceMinibatch) -> None:
        torch.autograd.backward(total * (self._world_size / inputs.total_pairs))


class _Reading:
    """Numbers on their way from the device."""

    def __init__(self, value: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._value = value
        if value.device.type == "cuda":
            pinned = torch.empty(value.shape, pin_memory=True)
            self._value = pinned.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def wait(self) -> list[float]:
        """Wait for them, and for nothing that was given to the device after them."""
        if self._event is not None:
            self._event.synchronize()
        numbers: list[float] = self._value.tolist()
        return numbers

"""The learning rate of every step: warm-up, then exponential decay (paper, section 3.3)."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pinsage.base.config import Config


class ScheduleConfig(Config):
    """How fast the weights move, and for how long."""

    epochs: PositiveInt = 6
    """Passes over the training pairs."""
    learning_rate: PositiveFloat = 2.5e-4
    """Adam's rate for minibatches of `reference_size` pairs; it grows in proportion to the
    minibatch (the linear scaling rule)."""
    reference_size: PositiveInt = 512
    """The minibatch size that `learning_rate` is meant for."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    """Epochs in which the rate climbs to its peak in equal steps."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.5
    """What the rate is multiplied by over each epoch after the warm-up."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> "ScheduleConfig":
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"a warm-up of {self.warmup_epochs:g} epochs does not end within {self.epochs}; "
                "lower warmup_epochs or raise epochs"
            )
        return self


def learning_rate(
    config: ScheduleConfig, *, step: int, steps_per_epoch: int, minibatch_size: int
) -> float:
    """Give the rate of one step.

    Args:
        config: the schedule.
        step: counted from 0 over the whole run.
        steps_per_epoch: minibatches in an epoch.
        minibatch_size: pairs a step, over all workers.

    >>> config = ScheduleConfig(learning_rate=0.1, warmup_epochs=1, decay=0.5)
    >>> [learning_rate(config, step=s, steps_per_epoch=4, minibatch_size=512) for s in (0, 3, 7)]
    [0.025, 0.1, 0.05]
    """
    peak = config.learning_rate * minibatch_size / config.reference_size
    warmup = config.warmup_epochs * steps_per_epoch
    if step + 1 <= warmup:
        return peak * (step + 1) / warmup
    return float(peak * config.decay ** ((step + 1 - warmup) / steps_per_epoch))

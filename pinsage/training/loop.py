"""The whole training loop on one page (paper, section 3.3)."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Literal, Protocol, runtime_checkable

from pydantic import NonNegativeInt, PositiveInt, model_validator

from pinsage.base.config import Config
from pinsage.model.loss import LossConfig
from pinsage.sampling.minibatch import Minibatch, MinibatchConfig
from pinsage.training.schedule import ScheduleConfig, learning_rate
from pinsage.training.state import TrainingState
from pinsage.training.step import TrainingStep


class TrainConfig(Config):
    """Everything about training but the network's shape."""

    minibatch: MinibatchConfig = MinibatchConfig()
    loss: LossConfig = LossConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    scale_features: bool = True
    """Center and scale every feature column by its mean and deviation over the items."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` trains on GPUs if the cluster has any."""
    accumulate: PositiveInt = 1
    """Parts that a worker cuts its share of each minibatch into, so as to need memory for one of
    them at a time; the result does not depend on it beyond rounding."""
    num_workers: PositiveInt = 1
    """Workers that share each minibatch; the result does not depend on it beyond rounding."""
    threads_per_worker: PositiveInt | None = None
    """CPU threads of a worker's matrix products; none shares the machine's cores out evenly."""
    num_producers: PositiveInt = 1
    """Actors that build minibatches."""
    prefetch: PositiveInt = 2
    """Minibatches in flight for each worker."""
    request_timeout_s: float = 120.0
    """How long a worker waits for one minibatch before it names the producer and stops."""
    checkpoint_steps: NonNegativeInt = 200
    """Steps between checkpoints; 0 writes none."""
    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints kept."""
    max_failures: NonNegativeInt = 3
    """Lost workers after which training is given up."""

    @model_validator(mode="after")
    def _in_batch_negatives_are_of_the_whole_minibatch(self) -> "TrainConfig":
        if self.accumulate > 1 and self.loss.in_batch_negatives:
            raise ValueError(
                f"accumulate is {self.accumulate}, and a part of a minibatch does not see the "
                "negatives that loss.in_batch_negatives wants from the others; switch one of the "
                "two off, or use more workers"
            )
        return self


@runtime_checkable
class Observer(Protocol):
    """Hears of every step."""

    def __call__(self, state: TrainingState, *, loss: float) -> None:
        """Take note of the state after a step, and of that step's loss."""
        ...


def train(
    training_step: TrainingStep,
    state: TrainingState,
    minibatches: Iterator[Minibatch],
    *,
    steps_per_epoch: int,
    config: TrainConfig,
    observe: Observer,
    save: Callable[[TrainingState], None],
) -> None:
    """Train from where `state` stands to the last step.

    Args:
        training_step: makes one update.
        state: changed in place.
        minibatches: in order, `config.accumulate` parts a step, from step `state.step` on.
        steps_per_epoch: minibatches in an epoch.
        config: schedule, minibatch size, checkpoint interval.
        observe: called after every step.
        save: called at every checkpoint interval.
    """
    total = steps_per_epoch * config.schedule.epochs
    while state.step < total:
        rate = learning_rate(
            config.schedule,
            step=state.step,
            steps_per_epoch=steps_per_epoch,
            minibatch_size=config.minibatch.size,
        )
        parts = islice(minibatches, config.accumulate)
        loss = training_step.run(parts, learning_rate=rate)
        state.step += 1
        state.epoch_loss += loss
        if state.step % steps_per_epoch == 0:
            state.losses.append(state.epoch_loss / steps_per_epoch)
            state.epoch_loss = 0.0
        observe(state, loss=loss)
        if config.checkpoint_steps and state.step % config.checkpoint_steps == 0:
            save(state)

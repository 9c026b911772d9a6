"""The whole training loop on one page (paper, section 3.3)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal, Protocol, runtime_checkable

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pinsage.base.config import Config
from pinsage.base.errors import NotFiniteError
from pinsage.model.loss import LossConfig
from pinsage.sampling.minibatch import Minibatch, MinibatchConfig
from pinsage.training.scalars import Tracker
from pinsage.training.scaling import ScaleBy
from pinsage.training.schedule import ScheduleConfig, learning_rate
from pinsage.training.state import TrainingState, Validation
from pinsage.training.step import TrainingStep
from pinsage.training.validation import ValidationConfig, best_of, is_due, is_over

_FEWEST_STEPS = 50
"""Updates below which a model has hardly learned anything."""

WorkerRange = tuple[PositiveInt, PositiveInt]


class TrainConfig(Config):
    """Everything about training but the network's shape."""

    minibatch: MinibatchConfig = MinibatchConfig()
    loss: LossConfig = LossConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    seed: NonNegativeInt | None = None
    """Where the randomness of training begins: weights, order of pairs, negatives. None takes the
    run's seed; another one trains again on the same graph and neighborhoods."""
    scale_features: ScaleBy | None = "columns"
    """Center every feature column over the items, and divide it by its deviation (`columns`) or by
    that of its group (`groups`), which keeps the proportions of vectors that were made elsewhere;
    none does neither."""
    validation: ValidationConfig | None = None
    """How held-out pairs are looked at while it trains; none does not look."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` trains on GPUs if the cluster has one for each worker and PyTorch can use them."""
    accumulate: PositiveInt = 1
    """Parts that a worker cuts its share of each minibatch into, so as to need memory for one of
    them at a time; the result does not depend on it beyond rounding."""
    num_workers: PositiveInt | WorkerRange = 1
    """Workers that share each minibatch, a number or [fewest, most]; with two, training takes what
    the cluster has, and goes on with fewer or more as nodes go and come. The result does not depend
    on it beyond rounding."""
    threads_per_worker: PositiveInt | None = None
    """CPU threads of a worker's matrix products; none shares the machine's cores out evenly."""
    num_producers: PositiveInt = 1
    """Actors on each node that build minibatches."""
    prefetch: PositiveInt = 2
    """Minibatches in flight for each worker."""
    request_timeout_s: PositiveFloat = 120.0
    """How long a worker waits for one minibatch before it names the producer and stops."""
    start_timeout_s: PositiveFloat = 25.0
    """How long to wait for room for the workers; more where nodes are added on demand."""
    resize_interval_s: PositiveFloat = 60.0
    """How often training with [fewest, most] workers looks whether the cluster has room for more;
    to take it, all workers start again from the newest checkpoint."""
    stuck_after_s: PositiveFloat = 600.0
    """How long no step may finish before training stops, and says which worker was doing what."""
    checkpoint_steps: NonNegativeInt = 200
    """Steps between checkpoints; 0 writes none but the last."""
    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints kept, beside the one with the best validation."""
    max_failures: Annotated[int, Field(ge=-1)] = 3
    """Lost workers after which training is given up; -1 never gives up."""
    trackers: tuple[Tracker, ...] = ()
    """Where the training log goes too: `tensorboard`, `mlflow`."""

    @model_validator(mode="after")
    def _fewest_comes_first(self) -> "TrainConfig":
        if self.fewest_workers > self.most_workers:
            raise ValueError(
                f"num_workers is [{self.fewest_workers}, {self.most_workers}], but the first is "
                "the fewest workers and the second the most"
            )
        return self

    @model_validator(mode="after")
    def _in_batch_negatives_are_of_the_whole_minibatch(self) -> "TrainConfig":
        if self.accumulate > 1 and self.loss.in_batch_negatives:
            raise ValueError(
                f"accumulate is {self.accumulate}, and a part of a minibatch does not see the "
                "negatives that loss.in_batch_negatives wants from the others; switch one of the "
                "two off, or use more workers"
            )
        return self

    @property
    def fewest_workers(self) -> int:
        """Workers without which training does not go on."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def most_workers(self) -> int:
        """Workers that training has use for."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]


@runtime_checkable
class Observer(Protocol):
    """Hears of every step."""

    def __call__(self, state: TrainingState, *, loss: float, learning_rate: float) -> None:
        """Take note of the state after a step, and of that step's loss and rate."""
        ...


@dataclass(frozen=True)
class Hooks:
    """What a training loop calls; on every rank at the same steps.

    Attributes:
        observe: after every step.
        save: at every checkpoint interval, after the best validation so far, and when stopped.
        keep_failed: with the state before a step that failed; says where it was kept.
        validate: to find the hit-rate of held-out pairs.
        wants_to_stop: in every step; True on any rank leaves the loop after that step.
    """

    observe: Observer
    save: Callable[[TrainingState], None]
    keep_failed: Callable[[TrainingState], str]
    validate: Callable[[], float]
    wants_to_stop: Callable[[], bool]


def train(
    training_step: TrainingStep,
    state: TrainingState,
    minibatches: Iterator[Minibatch],
    *,
    steps_per_epoch: int,
    pairs_per_step: int,
    config: TrainConfig,
    hooks: Hooks,
) -> None:
    """Train from where `state` stands to the last step, or until asked to stop.

    Args:
        training_step: makes one update.
        state: changed in place.
        minibatches: in order, `config.accumulate` parts a step, from step `state.step` on.
        steps_per_epoch: minibatches in an epoch.
        pairs_per_step: pairs in a minibatch.
        config: schedule, checkpoint interval, validation.
        hooks: what is called on the way.

    Raises:
        NotFiniteError: a step failed; says which, and where the state before it was kept.
    """
    total = steps_per_epoch * config.schedule.epochs
    while not is_finished(state, config, total=total):
        rate = learning_rate(
            config.schedule,
            step=state.step,
            steps_per_epoch=steps_per_epoch,
            minibatch_size=pairs_per_step,
        )
        parts = islice(minibatches, config.accumulate)
        try:
            loss, is_last = training_step.run(
                parts, learning_rate=rate, wants_to_stop=hooks.wants_to_stop
            )
        except NotFiniteError as error:
            raise NotFiniteError(
                f"step {state.step + 1} of {total}, epoch {state.step // steps_per_epoch + 1}: "
                f"{error}. {hooks.keep_failed(state)}"
            ) from error
        state.add(loss, steps_per_epoch=steps_per_epoch)
        found_best = False
        if is_due(config.validation, state.step, steps_per_epoch=steps_per_epoch, total=total):
            state.validations.append(Validation(state.step, hooks.validate()))
            found_best = best_of(state.validations) is state.validations[-1]
        hooks.observe(state, loss=loss, learning_rate=rate)
        interval = config.checkpoint_steps
        if is_last or found_best or (interval and state.step % interval == 0):
            hooks.save(state)
        if is_last:
            return


def too_few_steps(config: TrainConfig, *, total: int, pairs_per_step: int) -> str | None:
    """Say that so few updates leave the weights about as they begin; None if there are enough.

    Args:
        config: what there could be more of.
        total: steps of the whole run.
        pairs_per_step: pairs in a minibatch.
    """
    if total >= _FEWEST_STEPS:
        return None
    return (
        f"training makes {total} update(s) in all, of {pairs_per_step} pairs each, so the model "
        "stays close to its random start; lower train.minibatch.size (now "
        f"{config.minibatch.size}), or raise train.schedule.epochs (now {config.schedule.epochs})"
    )


def is_finished(state: TrainingState, config: TrainConfig, *, total: int) -> bool:
    """Tell whether nothing is left to train: the last step is done, or it is time to stop early.

    Args:
        state: how far training has come.
        config: its validation may stop training early.
        total: steps of the whole run.
    """
    patience = config.validation.patience if config.validation else None
    return state.step >= total or is_over(state.validations, patience)


def best_step(state: TrainingState, config: TrainConfig) -> int:
    """Name the step of a finished training whose weights are the model."""
    best = best_of(state.validations)
    if config.validation is None or config.validation.patience is None or best is None:
        return state.step
    return best.step

"""When to look at held-out pairs, which look was the best, and when to stop early."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, PositiveInt

from pinsage.base.config import Config
from pinsage.training.state import Validation


class ValidationConfig(Config):
    """How training looks at pairs it does not learn from: hit-rate@k of a sample of them.

    Each look embeds the catalog, or a sample of it, so it costs about as much as embedding does.
    Neighborhoods are as large as those of training (`train.minibatch.num_neighbors`).
    """

    every_epochs: Annotated[float, Field(gt=0)] = 1.0
    """Epochs between looks; the last step is always looked at."""
    sample: PositiveInt = 2_000
    """Valid pairs looked at, the same ones every time."""
    k: PositiveInt = 10
    """Ranks that count as a hit."""
    max_catalog: PositiveInt = 100_000
    """Up to so many items the positive is ranked among all of them; above, among the sampled pairs'
    items and random ones, so many in all."""
    patience: PositiveInt | None = None
    """Looks without a better one after which training stops and its best state is the model; none
    trains to the end and takes the last state."""


def is_due(config: ValidationConfig | None, step: int, *, steps_per_epoch: int, total: int) -> bool:
    """Tell whether to look after `step` steps.

    >>> config = ValidationConfig(every_epochs=0.5)
    >>> [s for s in range(1, 10) if is_due(config, s, steps_per_epoch=4, total=9)]
    [2, 4, 6, 8, 9]
    """
    if config is None:
        return False
    interval = max(round(config.every_epochs * steps_per_epoch), 1)
    return step % interval == 0 or step == total


def best_of(validations: Sequence[Validation]) -> Validation | None:
    """Find the highest hit-rate, the earliest one of equals."""
    return max(validations, key=lambda found: (found.hit_rate, -found.step), default=None)


def is_over(validations: Sequence[Validation], patience: int | None) -> bool:
    """Tell whether too many looks have passed since the best one.

    >>> looks = [Validation(step, rate) for step, rate in ((1, 0.2), (2, 0.3), (3, 0.3))]
    >>> is_over(looks, 1), is_over(looks, 2), is_over(looks, None)
    (True, False, False)
    """
    best = best_of(validations)
    if patience is None or best is None:
        return False
    since = sum(found.step > best.step for found in validations)
    return since >= patience

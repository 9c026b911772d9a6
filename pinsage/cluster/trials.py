"""Which settings a search tries: drawn once from a space, the same ones for the same seed."""

import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pinsage.base.config import Config
from pinsage.base.seeding import Stream, stream

Choices = Annotated[tuple[Any, ...], Field(min_length=1)]
Trial = dict[str, Any]
"""Setting, such as `train.schedule.learning_rate`, to its value."""


class Between(Config):
    """A number drawn between two others."""

    low: PositiveFloat
    """The smallest."""
    high: PositiveFloat
    """The largest."""
    log: bool = True
    """Every doubling is as likely as every other one; else every difference."""

    @model_validator(mode="after")
    def _ascending(self) -> "Between":
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}; wanted low < high")
        return self

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one, rounded to three digits: nobody would write down more."""
        if self.log:
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = rng.uniform(self.low, self.high)
        return min(max(float(f"{drawn:.3g}"), self.low), self.high)


_SPACE: dict[str, Choices | Between] = {
    "train.schedule.learning_rate": Between(low=1e-4, high=3e-3),
    "train.minibatch.max_hard_negatives": (0, 2, 6),
    "model.embedding_width": (64, 128, 256),
}


class SearchConfig(Config):
    """Which settings `python -m ray_jobs.search` tries, and how many."""

    space: Annotated[dict[str, Choices | Between], Field(min_length=1)] = _SPACE
    """Setting to its choices, as in `model.embedding_width: [64, 128]`, or to the numbers it lies
    between, as in `train.schedule.learning_rate: {low: 0.0001, high: 0.01}`."""
    num_trials: PositiveInt = 12
    """Settings tried, beside the recipe as it is."""
    max_concurrent: PositiveInt = 1
    """Trials that train at the same time; each takes `train.num_workers` CPUs or GPUs."""
    seed: NonNegativeInt = 0
    """Where the draws begin; more trials of the same seed begin with the same ones."""


def draw_trials(config: SearchConfig) -> list[Trial]:
    """Draw the settings of every trial; the first one changes nothing.

    Settings drawn twice are tried once, so there can be fewer than `num_trials` in a small space.

    >>> space = {"model.num_layers": (1, 2)}
    >>> draw_trials(SearchConfig(space=space, num_trials=9))
    [{}, {'model.num_layers': 1}, {'model.num_layers': 2}]
    """
    trials: list[Trial] = [{}]
    for number in range(config.num_trials):
        rng = stream(config.seed, Stream.SEARCH, number)
        trial = {name: _draw(values, rng) for name, values in sorted(config.space.items())}
        if trial not in trials:
            trials.append(trial)
    return trials


def _draw(values: Choices | Between, rng: np.random.Generator) -> Any:
    if isinstance(values, Between):
        return values.draw(rng)
    return values[rng.integers(len(values))]

"""Matrix factorization by the library `implicit`: what a user would reach for instead.

ALS (Hu et al., 2008) and BPR (Rendle et al., 2009) factorize the context-item matrix of the
training graph; related items are the nearest by cosine of the items' factors.
"""

import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from pinsage.base.config import Config
from pinsage.base.errors import ConfigError, DataError, TrainingError
from pinsage.base.seeding import Stream, stream_key
from pinsage.evaluation.baselines.content import FeatureCosine
from pinsage.evaluation.metrics import hit_rate
from pinsage.evaluation.ranking import rank_pairs
from pinsage.graph import Pairs
from pinsage.graph.adjacency import BipartiteAdjacency

Factorization = Literal["als", "bpr"]

Settings = Mapping[str, int | float]
"""One point of a grid: whole numbers for factors and iterations."""

_log = logging.getLogger(__name__)

_MAX_TUNING_PAIRS = 10_000
_KS = (10, 50, 100, 500)


class AlsConfig(Config):
    """Settings tried for ALS; what does best on valid pairs is compared."""

    factors: tuple[PositiveInt, ...] = Field(default=(64, 128, 256), min_length=1)
    """Widths of the factors."""
    regularization: tuple[NonNegativeFloat, ...] = Field(default=(1.0,), min_length=1)
    """Weights of the factors' squared lengths in the loss."""
    iterations: tuple[PositiveInt, ...] = Field(default=(15,), min_length=1)
    """Passes over the edges."""
    alpha: tuple[PositiveFloat, ...] = Field(default=(5.0, 20.0), min_length=1)
    """What an edge counts for beside its absence, which counts 1."""
    num_threads: PositiveInt = 2
    """Threads; changes nothing but the time."""


class BprConfig(Config):
    """Settings tried for BPR; what does best on valid pairs is compared."""

    factors: tuple[PositiveInt, ...] = Field(default=(64, 128), min_length=1)
    """Widths of the factors."""
    regularization: tuple[NonNegativeFloat, ...] = Field(default=(0.01, 0.03), min_length=1)
    """Weights of the factors' squared lengths in the loss."""
    iterations: tuple[PositiveInt, ...] = Field(default=(100,), min_length=1)
    """Passes over the edges."""
    learning_rate: tuple[PositiveFloat, ...] = Field(default=(0.05,), min_length=1)
    """Sizes of a step."""


def grid(config: AlsConfig | BprConfig) -> list[Settings]:
    """List every combination of the settings to try.

    >>> len(grid(AlsConfig())), grid(BprConfig())[0]["factors"]
    (6, 64)
    """
    choices = {
        name: value for name, value in config.model_dump().items() if isinstance(value, tuple)
    }
    return [
        dict(zip(choices, point, strict=True)) for point in itertools.product(*choices.values())
    ]


def require_choice(num_points: int, num_valid: int) -> None:
    """Stop where there is something to choose, and nothing to choose by.

    Args:
        num_points: of the grid.
        num_valid: how many valid pairs there are.

    Raises:
        DataError: there are several points and no valid pairs.
    """
    if num_points > 1 and not num_valid:
        raise DataError(
            f"there are no valid pairs to choose among {num_points} settings with; give single "
            "values in evaluate.als and evaluate.bpr, or hold out valid pairs (data.split)"
        )


def require_package(kind: Factorization) -> None:
    """Stop before hours of other work if the package is not there.

    Raises:
        ConfigError: how to get it.
    """
    if find_spec("implicit") is None:
        raise ConfigError(
            f"the baseline {kind} wants the package implicit, which is not installed; "
            "`pip install 'pinsage[baselines]'`, or leave it out of evaluate.baselines"
        )


def item_factors(
    kind: Factorization,
    adjacency: BipartiteAdjacency,
    settings: Settings,
    *,
    num_threads: int,
    seed: int,
) -> Float32[np.ndarray, "items factors"]:
    """Factorize the training graph; equal arguments give equal factors.

    An item without edges has factors of 0, since nothing is known of it.

    Args:
        kind: which method.
        adjacency: the training graph.
        settings: one point of `grid`.
        num_threads: threads of ALS. BPR runs on one: its threads race for the same factors, and no
            two runs would agree.
        seed: the run's seed.

    Raises:
        ConfigError: the package is not installed.
        TrainingError: the factors grew beyond all bounds.
    """
    require_package(kind)
    # Here, for those who never ask for them do not need the package.
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking
    from implicit.recommender_base import ModelFitError
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    shape = (adjacency.num_contexts, adjacency.num_items)
    ones = np.ones(len(adjacency.context_items), np.float32)
    # Copies, because compiled code over there refuses what is mapped read-only.
    items, starts = np.array(adjacency.context_items), np.array(adjacency.context_starts)
    edges = csr_matrix((ones, items, starts), shape=shape)
    # `implicit` takes 32 bits.
    own: dict[str, Any] = {**settings, "random_state": stream_key(seed, Stream.BASELINES) >> 33}
    fit: Any
    # Threads of the matrix products inside would only stand in the way of its own.
    with threadpool_limits(1, "blas"):
        if kind == "als":
            fit = AlternatingLeastSquares(**own, use_gpu=False, num_threads=num_threads)
        else:
            fit = BayesianPersonalizedRanking(**own, use_gpu=False, num_threads=1)
        try:
            fit.fit(edges, show_progress=False)
        except ModelFitError as error:
            raise TrainingError(
                f"{kind} with {said(settings)} came to no end ({error}); raise its "
                f"regularization{' or lower its learning_rate' if kind == 'bpr' else ''} in "
                f"evaluate.{kind}"
            ) from error
    factors = np.array(fit.item_factors, np.float32)
    factors[np.diff(adjacency.item_starts) == 0] = 0
    return factors


def said(settings: Settings) -> str:
    """Write a point of a grid in one line.

    >>> said({"factors": 64, "learning_rate": 0.05})
    'factors 64, learning_rate 0.05'
    """
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())


def tuned(
    fit: Callable[[Settings], Float32[np.ndarray, "items factors"]],
    points: Sequence[Settings],
    valid: Pairs,
    on_point: Callable[[int, Settings], None] | None = None,
) -> tuple[Float32[np.ndarray, "items factors"], list[dict[str, int | float | None]]]:
    """Fit every point, and keep the factors of the one that does best on valid pairs.

    Best is the geometric mean of hit-rate@10, @50, @100 and @500, so that no K outweighs another;
    at most ten thousand pairs, spread over all of them, are looked at. A single point needs none.
    A point that cannot be fitted is told of and left out.

    Args:
        fit: gives the factors of one point.
        points: the grid.
        valid: the valid pairs.
        on_point: told before every fit.

    Returns:
        The best factors, and every point with its `quality` (None where it was not asked, or where
        nothing was fitted).

    Raises:
        DataError: there are several points and no valid pairs.
        TrainingError: no point could be fitted.
    """
    require_choice(len(points), len(valid))
    best: tuple[float, np.ndarray] | None = None
    tried: list[dict[str, Any]] = []
    for number, point in enumerate(points):
        if on_point is not None:
            on_point(number, point)
        tried.append({**point, "quality": None})
        try:
            factors = fit(point)
        except TrainingError as error:
            if best is None and number == len(points) - 1:
                raise
            _log.warning("%s", error)
            continue
        if len(points) > 1:
            tried[-1]["quality"] = _quality(factors, valid)
        quality = tried[-1]["quality"] or 0.0
        if best is None or quality > best[0]:
            best = (quality, factors)
    assert best is not None
    return best[1], tried


def _quality(factors: np.ndarray, valid: Pairs) -> float:
    step = -(-len(valid) // _MAX_TUNING_PAIRS)
    ranks = rank_pairs(FeatureCosine(factors), valid.queries[::step], valid.positives[::step])
    # The floor keeps a method without any hit comparable to others.
    logs = [math.log(max(hit_rate(ranks, k), 1e-9)) for k in _KS]
    return math.exp(sum(logs) / len(logs))

"""The methods of the paper's offline tables, each as what it changes in a recipe (4.1 to 4.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from pinsage.base.artifacts import fingerprint
from pinsage.base.config import Config, apply_override, dump_config
from pinsage.base.errors import ConfigError
from pinsage.cluster.run import Run, Stage
from pinsage.cluster.run_config import RunConfig
from pinsage.graph.powerlaw_tables import SyntheticConfig

TRIAL = "trial"

_NO_HARD = "train.minibatch.max_hard_negatives=0"

Method = Literal[
    "combined",
    "max-pooling",
    "mean-pooling",
    "mean-pooling-xent",
    "mean-pooling-hard",
    "pinsage",
]

METHODS: tuple[Method, ...] = get_args(Method)
"""The ladder of table 1, lowest first."""

LADDER: Mapping[Method, tuple[str, ...]] = {
    "combined": ("model.num_layers=0", _NO_HARD),
    "max-pooling": ("model.pooling=max", _NO_HARD),
    "mean-pooling": ("model.pooling=mean", _NO_HARD),
    "mean-pooling-xent": ("model.pooling=mean", _NO_HARD, "train.loss.kind=cross_entropy"),
    "mean-pooling-hard": ("model.pooling=mean",),
    "pinsage": ("model.pooling=importance",),
}
"""The trained methods of table 1, each by what it changes in the recipe (paper, section 4.1)."""


class ReproduceConfig(Config):
    """The pipeline that all methods are variants of, and what is varied."""

    run: RunConfig
    """Data, sizes, schedule and output folder; its loss and pooling are PinSage's."""
    synthetic: SyntheticConfig | None = None
    """Made-up tables to write first, if they are not there."""
    seeds: tuple[NonNegativeInt, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1)
    """Seeds that every method of tables 1 and 4 is trained from."""
    methods: tuple[Method, ...] = METHODS
    """The trained methods of table 1; content needs no training and is always there."""
    num_neighbors: tuple[PositiveInt, ...] = (10, 20, 50)
    """Sizes T of table 4, in training and at inference; none leaves it out."""
    minibatch_sizes: tuple[PositiveInt, ...] = (512, 1_024, 2_048, 4_096)
    """Sizes of table 3, mean-pooling-hard from the first seed; none leaves it out."""
    minibatch_epochs: PositiveInt = 4
    """Epochs that table 3 trains for at most."""
    cpus_per_trial: PositiveFloat = 1
    """CPUs that Ray counts for a trial, and threads that it computes with: as many trials run side
    by side as fit into the cluster."""
    trial_timeout_s: PositiveFloat = 7_200
    """How long no trial may end before the job stops."""

    @property
    def threads_per_trial(self) -> int:
        """Threads that a trial computes with."""
        return max(int(self.cpus_per_trial), 1)

    @field_validator("run")
    @classmethod
    def _trains(cls, run: RunConfig) -> RunConfig:
        if run.embed.model is not None or run.embed.previous is not None:
            raise ValueError(
                "embed.model and embed.previous name what one model published, and every method "
                "would take that instead of its own; leave them out"
            )
        return run

    @model_validator(mode="after")
    def _combines_content(self) -> "ReproduceConfig":
        if "combined" in self.methods and self.run.graph.structure is not None:
            raise ValueError(
                "run.graph.structure makes features from the graph, and combined would learn from "
                "them though it stands for content alone; leave out run.graph.structure, or "
                "combined from methods"
            )
        return self

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        # A seed that counted twice would make its interval narrower than it is.
        return tuple(dict.fromkeys(seeds))

    @field_validator("num_neighbors", "minibatch_sizes")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(sizes)))


@dataclass(frozen=True)
class Trial:
    """One method from one seed.

    Attributes:
        method: its name in the tables.
        run: the run that trains it, or that has the graph.
        group: the feature group that it compares; None if it is trained.
    """

    method: str
    run: Run
    group: str | None = None

    @cached_property
    def stage(self) -> Stage:
        """Where it publishes how it did."""
        config = self.run.config
        parents = (self.run.graph,) if self.group else (self.run.graph, self.run.embeddings)
        evaluation = config.evaluate
        settings: dict[str, Any] = {
            "group": self.group,
            "split": evaluation.split,
            "max_pairs": evaluation.max_pairs,
            "candidates": evaluation.candidates,
            "seed": config.seed,
        }
        if evaluation.max_pairs is not None:
            # A sample of pairs, as it once was, is another result.
            settings["sampled"] = "queries"
        prints = {parent.name: parent.directory.name for parent in parents}
        directory = self.run.output / TRIAL / fingerprint(TRIAL, settings, prints)
        return Stage(TRIAL, directory, settings, parents)

    @property
    def log(self) -> Path:
        """Where its training log is kept, with the pace."""
        return self.run.output / "logs" / f"{self.run.model.directory.name}.jsonl"

    @property
    def label(self) -> str:
        """Name it in progress lines."""
        return self.method if self.group else f"{self.method}, seed {self.run.config.train.seed}"


def variant(config: RunConfig, settings: Sequence[str], *, seed: int) -> Run:
    """Make the run that differs from the recipe in some settings and trains from a seed.

    Raises:
        ConfigError: a setting does not fit the others.
    """
    tree = yaml.safe_load(dump_config(config))
    for setting in (*settings, f"train.seed={seed}"):
        apply_override(tree, setting)
    try:
        return Run(RunConfig.model_validate(tree))
    except ValidationError as error:
        raise ConfigError(f"{', '.join(settings)} does not fit the recipe: {error}") from error


def _trained(config: ReproduceConfig, settings: Sequence[str], *, seed: int) -> Run:
    """Make the run of a trial, which embeds in its own process with no more threads than it has."""
    threads = f"embed.threads_per_worker={config.threads_per_trial}"
    return variant(config.run, [*settings, threads], seed=seed)


def ladder_trials(config: ReproduceConfig, groups: Sequence[str]) -> list[Trial]:
    """List the trials of table 1: a cosine for every group of content, then the trained ones.

    Args:
        config: what is varied.
        groups: the feature groups that hold content.

    Raises:
        ConfigError: there is nothing to compare.
    """
    if not config.methods and not groups:
        raise ConfigError("methods is empty, and no feature group holds content; name a method")
    base = Run(config.run)
    trials = [Trial(group, base, group) for group in groups]
    # Seed by seed, so that a job cut short has whole tables of fewer seeds.
    trials += [
        Trial(method, _trained(config, settings, seed=seed))
        for seed in config.seeds
        for method, settings in LADDER.items()
        if method in config.methods
    ]
    return trials


def neighbor_trials(config: ReproduceConfig) -> list[Trial]:
    """List the trials of table 4, PinSage with neighborhoods of other sizes."""
    return [
        Trial(
            f"T = {size}",
            _trained(
                config,
                [*LADDER["pinsage"], *_neighbor_settings(config.run, size)],
                seed=seed,
            ),
        )
        for seed in config.seeds
        for size in config.num_neighbors
    ]


def by_model(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Put those trials together that differ in how one model embeds: only one can train it."""
    together: dict[Path, list[Trial]] = {}
    for trial in trials:
        made = trial.stage if trial.group else trial.run.model
        together.setdefault(made.directory, []).append(trial)
    return list(together.values())


def _neighbor_settings(config: RunConfig, size: int) -> list[str]:
    """Ask for T neighbors, unless the recipe does: then it is a trial of table 1."""
    kept = config.walk.num_neighbors
    given = (config.train.minibatch.num_neighbors, config.embed.num_neighbors)
    if {number or kept for number in given} == {size}:
        return []
    return [f"train.minibatch.num_neighbors={size}", f"embed.num_neighbors={size}"]


def minibatch_trials(config: ReproduceConfig) -> list[Trial]:
    """List the trials of table 3, mean-pooling-hard with minibatches of other sizes."""
    return [
        Trial(
            f"{size}",
            _trained(
                config,
                [
                    *LADDER["mean-pooling-hard"],
                    f"train.minibatch.size={size}",
                    f"train.schedule.epochs={config.minibatch_epochs}",
                    "train.validation={every_epochs: 0.5}",
                ],
                seed=config.seeds[0],
            ),
        )
        for size in config.minibatch_sizes
    ]

"""A search over a recipe's settings: one training a trial, judged by held-out pairs."""

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from ray import tune

from pinsage.base import copies, shared
from pinsage.base.artifacts import sole_writer
from pinsage.base.config import apply_override, dump_config, explain
from pinsage.base.errors import ConfigError, PinsageError, TrainingError
from pinsage.cluster import drivers
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig
from pinsage.cluster.session import ray_storage, session, stop_on_signals
from pinsage.cluster.trials import Trial, draw_trials
from pinsage.training import TrainConfig, best_step, load_progress
from pinsage.training.state import TrainingState, Validation
from pinsage.training.validation import ValidationConfig

_log = logging.getLogger(__name__)

_VALIDATION = ValidationConfig(sample=10_000)
"""How trials are judged if the recipe does not say."""

_TRIAL_CPUS = 0.01
"""What Ray counts for a trial itself; the training inside it asks for its workers."""


@dataclass(frozen=True)
class Tried:
    """What one trial gave.

    Attributes:
        settings: how it differs from the recipe.
        hit_rate: of the valid pairs looked at, by the weights that became the model; None if it
            failed.
        step: the step of those weights.
        model: the published model; None if it failed.
        error: why it failed.
    """

    settings: Trial
    hit_rate: float | None = None
    step: int | None = None
    model: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        trials: best first, failed ones last.
        best: a recipe with the settings of the best trial.
        table: all trials as JSON.
    """

    trials: list[Tried]
    best: Path
    table: Path


def search(run: Run) -> SearchResult:
    """Train with every drawn setting, and write down the best ones as a recipe.

    A trial is a run of the same stages into the same output, so what is published is found again:
    trials share graphs and neighborhoods where their settings don't differ. A search that was
    killed is gone on with by the same command, and more trials may be asked for.

    Raises:
        ConfigError: a drawn setting is unknown or out of range, or the recipe takes a model as it
            was published; nothing was trained then.
        ArtifactError: another search of the same output is running.
        TrainingError: every trial failed.
    """
    if run.config.embed.model is not None:
        raise ConfigError(
            f"embed.model is {run.config.embed.model}, a published model, which every trial would "
            "take instead of training; leave it out"
        )
    runs: dict[Path, tuple[Trial, Run]] = {}
    for trial in draw_trials(run.config.search):
        own = Run(_config_of(run.config, trial))
        # What is drawn may be what the recipe says already; no two trials train one model.
        runs.setdefault(own.model.directory, (trial, own))
    trials = [trial for trial, _ in runs.values()]
    # What trials share is made before them: of two at a time, only one can write it.
    for own in {own.training_graph.directory: own for _, own in runs.values()}.values():
        drivers.ingest(own)
    # Trials of two searches would end in one folder of Ray Tune.
    with sole_writer(run.output / "search"), session(run.config.ray):
        walked = {own.training_neighborhoods.directory: own for _, own in runs.values()}
        for own in walked.values():
            drivers.walk(own)
        tried = _fit(run, [own.config for _, own in runs.values()], trials)
    tried.sort(key=lambda trial: -1.0 if trial.hit_rate is None else trial.hit_rate, reverse=True)
    if tried[0].hit_rate is None:
        raise TrainingError(f"every trial failed; the first one: {tried[0].error}")
    return _write(run, tried)


def _config_of(base: RunConfig, trial: Trial) -> RunConfig:
    """Change some settings of a recipe.

    Raises:
        ConfigError: there is no such setting, or it cannot have the value.
    """
    tree = base.model_dump(mode="json")
    if tree["train"]["validation"] is None:
        tree["train"]["validation"] = _VALIDATION.model_dump(mode="json")
    for name, value in trial.items():
        apply_override(tree, f"{name}={yaml.safe_dump(value, default_flow_style=True)}")
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(RunConfig, error, f"search.space, trial {trial}")) from error


def _fit(run: Run, configs: list[RunConfig], trials: list[Trial]) -> list[Tried]:
    """Have Ray Tune run the trials, a few at a time."""
    # A trial reads the recipe's relative paths; and our lines say more than Tune's frame.
    # Its own handler of Ctrl-C would give a search cut short for a finished one.
    os.environ |= {
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
    }
    storage = run.output / "search" / ".ray-tune"
    texts = [dump_config(config) for config in configs]
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_train_one, configs=texts), {"cpu": _TRIAL_CPUS}),
        param_space={"number": tune.grid_search(list(range(len(trials))))},
        tune_config=tune.TuneConfig(max_concurrent_trials=run.config.search.max_concurrent),
        run_config=tune.RunConfig(
            name="search",
            **ray_storage(storage),
            callbacks=[Lines(trials)],
            verbose=0,
        ),
    )
    try:
        results = tuner.fit()
        found = [results[place] for place in range(len(results))]
    finally:
        # Ray Tune puts signal handlers of its own in place of ours.
        stop_on_signals()
        # All that counts is published already.
        shutil.rmtree(storage, ignore_errors=True)
        copies.remove_sent(storage)
    return [told(trials, place, result) for place, result in enumerate(found)]


def _train_one(config: dict[str, Any], configs: list[str]) -> dict[str, Any]:
    """Run one trial as far as its model.

    An error that the user can mend is the trial's result; any other is Ray Tune's to report.
    """
    run = Run(RunConfig.model_validate(yaml.safe_load(configs[config["number"]])))
    try:
        drivers.walk(run)
        drivers.train(run)
    except PinsageError as error:
        return {"error": str(error)}
    look = look_at_model(load_progress(run.model.open().path), run.config.train)
    if look is None:
        return {"error": "no held-out pairs were looked at; check train.validation"}
    return {
        "hit_rate": look.hit_rate,
        "step": look.step,
        "model": run.model.directory.relative_to(run.output).as_posix(),
    }


def look_at_model(state: TrainingState, config: TrainConfig) -> Validation | None:
    """Find the look that was taken at the weights of the model: without patience, the last one."""
    step = best_step(state, config)
    return next((look for look in state.validations if look.step == step), None)


class Lines(tune.Callback):
    """One line for every trial that ends."""

    def __init__(self, trials: list[Trial]) -> None:
        self._trials = trials
        self._done = 0

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **_info: object
    ) -> None:
        """Say what came out."""
        self._tell(trial)

    def on_trial_error(
        self, iteration: int, trials: list[Any], trial: Any, **_info: object
    ) -> None:
        """Count one that Ray Tune has given up too."""
        self._tell(trial)

    def _tell(self, trial: Any) -> None:
        self._done += 1
        found = trial.last_result or {}
        settings = self._trials[trial.config["number"]]
        _log.info(
            "search  %d of %d  %s  %s",
            self._done,
            len(self._trials),
            f"hit-rate {found['hit_rate']:.4f}" if "hit_rate" in found else "failed",
            said(settings),
        )


def said(trial: Trial) -> str:
    """Write a trial's settings in one line.

    >>> said({"model.embedding_width": 64}), said({})
    ('model.embedding_width=64', 'the recipe as it is')
    """
    return "  ".join(f"{k}={v}" for k, v in trial.items()) or "the recipe as it is"


def told(trials: list[Trial], place: int, result: Any) -> Tried:
    """Read what a trial gave from Ray Tune's result, whose place among all results is given."""
    found = result.metrics or {}
    # One whose process never came up says nothing; results are in the order of their trials.
    number = place if result.config is None else result.config["number"]
    error = found.get("error") or (None if result.error is None else str(result.error))
    return Tried(
        settings=trials[number],
        hit_rate=found.get("hit_rate"),
        step=found.get("step"),
        model=found.get("model"),
        error=error,
    )


def _write(run: Run, tried: list[Tried]) -> SearchResult:
    """Write the table, and the best trial as a recipe."""
    folder = run.output / "search"
    result = SearchResult(tried, folder / "best.yaml", folder / "search.json")
    best = dump_config(_config_of(run.config, tried[0].settings))
    shared.write_shared(result.best, best.encode())
    rows = json.dumps([asdict(trial) for trial in tried], indent=2) + "\n"
    shared.write_shared(result.table, rows.encode())
    return result

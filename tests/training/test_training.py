import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pinsage.base.artifacts import Draft, open_artifact, publish
from pinsage.base.errors import ArtifactError, NotFiniteError
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.model.loss import LossConfig
from pinsage.sampling.minibatch import Minibatch, MinibatchBuilder, MinibatchConfig
from pinsage.sampling.pair_sources import FixedPairs
from pinsage.training import (
    BackgroundSaver,
    Checkpoints,
    Hooks,
    Snapshot,
    TrainConfig,
    TrainingState,
    TrainingStep,
    best_step,
    is_finished,
    load_state,
    make_optimizer,
    save_state,
    train,
)
from pinsage.training.checkpoints import BEST
from pinsage.training.loop import too_few_steps
from pinsage.training.schedule import ScheduleConfig, learning_rate
from pinsage.training.validation import ValidationConfig
from tests.worlds import random_world

NUM_ITEMS = 40
CONFIG = TrainConfig(
    minibatch=MinibatchConfig(size=8, shared_negatives=6, max_hard_negatives=2),
    schedule=ScheduleConfig(epochs=3, learning_rate=0.1),
    checkpoint_steps=4,
)


class Learner:
    """A model and all that trains it, always from the same start."""

    def __init__(
        self,
        *,
        world_size: int = 1,
        loss: LossConfig | None = None,
        minibatch: MinibatchConfig = CONFIG.minibatch,
    ) -> None:
        features, neighborhoods = random_world(0, NUM_ITEMS)
        queries = np.arange(NUM_ITEMS)
        self.builder = MinibatchBuilder(
            pairs=FixedPairs(queries, (queries + 1) % NUM_ITEMS),
            features=features,
            neighborhoods=neighborhoods,
            config=minibatch,
            num_layers=2,
            seed=0,
        )
        torch.manual_seed(0)
        shape = ModelConfig(num_layers=2, projected_width=8, embedding_width=8)
        self.model = PinSage(shape, features.rows.shape[1])
        self.optimizer = make_optimizer(self.model)
        self.step = TrainingStep(
            self.model,
            self.optimizer,
            loss or LossConfig(),
            device=torch.device("cpu"),
            world_size=world_size,
        )

    def minibatches(self, first: int) -> Iterator[Minibatch]:
        step = first
        while True:
            epoch_and_step = divmod(step, self.builder.steps_per_epoch)
            yield self.builder.build(*epoch_and_step, world_rank=0, world_size=1)
            step += 1

    def run(
        self,
        state: TrainingState,
        folder: Path,
        *,
        config: TrainConfig = CONFIG,
        die_at: int | None = None,
        stop_at: int | None = None,
        rates: Sequence[float] = (),
    ) -> Checkpoints:
        """Train, the hit-rates of validation given; checkpoints are written in the background."""
        checkpoints = Checkpoints(folder, keep=2, settings={"seed": 0})
        saver = BackgroundSaver(
            checkpoints, Snapshot(self.model, self.optimizer), resumed_at=state.step
        )

        def observe(state: TrainingState, *, loss: float, learning_rate: float) -> None:
            if state.step == die_at:
                raise KeyboardInterrupt

        def keep_failed(state: TrainingState) -> str:
            with publish(folder / "failed", stage="checkpoint", config={}, parents={}) as draft:
                save_state(state, self.model, self.optimizer, draft)
            return f"kept in {folder / 'failed'}"

        try:
            train(
                self.step,
                state,
                self.minibatches(state.step),
                steps_per_epoch=self.builder.steps_per_epoch,
                pairs_per_step=config.minibatch.size,
                config=config,
                hooks=Hooks(
                    observe=observe,
                    save=saver.save,
                    keep_failed=keep_failed,
                    validate=lambda: rates[len(state.validations)],
                    wants_to_stop=lambda: state.step + 1 == stop_at,
                ),
            )
            saver.save(state)
        finally:
            saver.finish()
        return checkpoints

    def resume(self, folder: Path) -> TrainingState:
        path = Checkpoints(folder, keep=2, settings={"seed": 0}).find().path
        assert path is not None
        return load_state(path, self.model, self.optimizer)


def assert_same(one: Learner, other: Learner) -> None:
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


@pytest.mark.parametrize("how", ["dies", "is stopped"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path: Path, how: str) -> None:
    unbroken = Learner()
    whole_state = TrainingState(step=0, losses=[])
    unbroken.run(whole_state, tmp_path / "unbroken")

    broken = Learner()
    if how == "dies":
        with pytest.raises(KeyboardInterrupt):
            broken.run(TrainingState(step=0, losses=[]), tmp_path / "broken", die_at=6)
    else:
        broken.run(TrainingState(step=0, losses=[]), tmp_path / "broken", stop_at=6)
    resumed = Learner()
    state = resumed.resume(tmp_path / "broken")
    assert state.step == (4 if how == "dies" else 6)
    resumed.run(state, tmp_path / "broken")

    assert state == whole_state
    assert_same(unbroken, resumed)


def test_a_snapshot_does_not_move_with_the_weights(tmp_path: Path) -> None:
    learner = Learner()
    snapshot = Snapshot(learner.model, learner.optimizer)
    minibatches = learner.minibatches(0)
    learner.step.run(next(minibatches), learning_rate=0.1)
    snapshot.take(TrainingState(step=1, losses=[]))
    wanted = {name: value.clone() for name, value in learner.model.state_dict().items()}
    learner.step.run(next(minibatches), learning_rate=0.1)
    snapshot.write(Draft(tmp_path))
    found = Learner()
    load_state(tmp_path, found.model, found.optimizer)
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, wanted[name]), name


def test_training_that_stops_early_takes_the_best_and_stops_again_when_resumed(
    tmp_path: Path,
) -> None:
    validation = ValidationConfig(every_epochs=0.4, patience=2)
    config = CONFIG.model_copy(update={"validation": validation, "checkpoint_steps": 3})
    rates = [0.1, 0.4, 0.4, 0.3, 0.9]
    state = TrainingState(step=0, losses=[])
    whole = Learner()
    checkpoints = whole.run(state, tmp_path / "whole", config=config, rates=rates)
    assert [(v.step, v.hit_rate) for v in state.validations] == list(
        zip([2, 4, 6, 8], rates[:4], strict=True)
    )
    assert is_finished(state, config, total=15)
    assert best_step(state, config) == 4
    assert [path.name[-1] for path in checkpoints.published()] == ["4", "6", "8"]
    assert json.loads((tmp_path / "whole" / BEST).read_text()) == {"step": 4}

    with pytest.raises(KeyboardInterrupt):
        Learner().run(
            TrainingState(step=0, losses=[]), tmp_path, config=config, rates=rates, die_at=7
        )
    resumed = Learner()
    again = resumed.resume(tmp_path)
    resumed.run(again, tmp_path, config=config, rates=rates)
    assert again == state
    assert_same(whole, resumed)
    files = (
        open_artifact(folder / "step-000000004", stage="checkpoint").manifest.files
        for folder in (tmp_path, tmp_path / "whole")
    )
    assert next(files) == next(files)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    state = TrainingState(step=0, losses=[])
    # Hard negatives, one more every epoch, would raise it.
    minibatch = CONFIG.minibatch.model_copy(update={"max_hard_negatives": 0})
    Learner(loss=LossConfig(kind="softmax"), minibatch=minibatch).run(state, tmp_path)
    assert state.step == 15
    assert len(state.losses) == 3
    assert state.losses[-1] < state.losses[0]


@pytest.mark.parametrize("kind", ["max_margin", "softmax"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_workers_with_shares_make_the_update_of_one_with_the_whole(
    world_size: int, kind: str
) -> None:
    loss = LossConfig.model_validate({"kind": kind})
    whole = Learner(loss=loss)
    whole.step.run(whole.builder.build(2, 1, world_rank=0, world_size=1), learning_rate=0.0)
    gradients = []
    for rank in range(world_size):
        one = Learner(world_size=world_size, loss=loss)
        share = one.builder.build(2, 1, world_rank=rank, world_size=world_size)
        one.step.run(share, learning_rate=0.0)
        gradients.append({name: p.grad for name, p in one.model.named_parameters()})
    for name, parameter in whole.model.named_parameters():
        averaged = torch.stack([gradient[name] for gradient in gradients]).mean(dim=0)
        torch.testing.assert_close(averaged, parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_state_before_it(
    tmp_path: Path,
) -> None:
    learner = Learner()
    good = learner.minibatches(0)

    def minibatches(first: int) -> Iterator[Minibatch]:
        yield from (next(good) for _ in range(2))
        bad = next(good)
        bad.features[:] = np.nan
        yield bad

    learner.minibatches = minibatches
    state = TrainingState(step=0, losses=[])
    with pytest.raises(NotFiniteError, match=r"step 3 of 15, epoch 1: .*learning_rate.*kept in"):
        learner.run(state, tmp_path)
    kept = Learner()
    assert load_state(tmp_path / "failed", kept.model, kept.optimizer).step == 2
    assert_same(kept, learner)
    assert all(torch.isfinite(value).all() for value in kept.model.state_dict().values())


def test_the_rate_climbs_to_its_peak_and_then_decays_by_the_epoch() -> None:
    config = ScheduleConfig(learning_rate=0.1, reference_size=4, warmup_epochs=2, decay=0.25)
    rates = [
        learning_rate(config, step=step, steps_per_epoch=10, minibatch_size=8) for step in range(40)
    ]
    assert rates[:20] == pytest.approx([0.2 * (step + 1) / 20 for step in range(20)])
    assert rates[29] == pytest.approx(0.2 * 0.25)
    assert rates[39] == pytest.approx(0.2 * 0.25**2)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    learner = Learner()
    path = learner.run(TrainingState(step=0, losses=[]), tmp_path).published()[0]
    other = PinSage(ModelConfig(num_layers=1, projected_width=8, embedding_width=8), 6)
    with pytest.raises(ArtifactError, match="not a checkpoint of this network"):
        load_state(path, other, make_optimizer(other))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"warmup_epochs": 7, "epochs": 6}, "warm-up of 7 epochs does not end within 6"),
        ({"epochs": 0}, "greater than 0"),
    ],
)
def test_an_impossible_schedule_is_refused(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ScheduleConfig(**settings)


def test_fewer_workers_come_before_more() -> None:
    elastic = TrainConfig(num_workers=(1, 4))
    assert (elastic.fewest_workers, elastic.most_workers) == (1, 4)
    assert TrainConfig(num_workers=3).fewest_workers == 3
    with pytest.raises(ValueError, match="the first is the fewest"):
        TrainConfig(num_workers=(4, 1))


def test_a_run_of_few_updates_is_told_with_the_settings_to_change() -> None:
    config = TrainConfig(minibatch=MinibatchConfig(size=2_048))
    told = too_few_steps(config, total=6, pairs_per_step=300)
    assert told is not None
    for words in ("6 update", "300 pairs", "minibatch.size (now 2048)", "epochs (now 6)"):
        assert words in told
    assert too_few_steps(config, total=72, pairs_per_step=256) is None


def test_the_peak_rate_is_of_the_pairs_that_a_step_has() -> None:
    seen: list[float] = []
    for pairs_per_step in (8, 2):
        learner = Learner()
        train(
            learner.step,
            TrainingState(step=0, losses=[]),
            learner.minibatches(0),
            steps_per_epoch=learner.builder.steps_per_epoch,
            pairs_per_step=pairs_per_step,
            config=CONFIG,
            hooks=Hooks(
                observe=lambda _state, *, loss, learning_rate: seen.append(learning_rate),
                save=lambda _state: None,
                keep_failed=lambda _state: "",
                validate=lambda: 0.0,
                wants_to_stop=lambda: False,
            ),
        )
    whole, quarter = np.split(np.array(seen), 2)
    np.testing.assert_allclose(whole, 4 * quarter)

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pinsage.base.artifacts import open_artifact, publish
from pinsage.base.errors import ArtifactError, TrainingError
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.model.loss import LossConfig
from pinsage.sampling.minibatch import Minibatch, MinibatchBuilder, MinibatchConfig
from pinsage.training import (
    TrainConfig,
    TrainingState,
    TrainingStep,
    load_state,
    make_optimizer,
    save_state,
    train,
)
from pinsage.training.schedule import ScheduleConfig, learning_rate
from tests.worlds import random_world

NUM_ITEMS = 40
CONFIG = TrainConfig(
    minibatch=MinibatchConfig(size=8, shared_negatives=6, max_hard_negatives=2),
    schedule=ScheduleConfig(epochs=3, learning_rate=0.1),
    checkpoint_steps=4,
)


class Learner:
    """A model and all that trains it, always from the same start."""

    def __init__(self, *, world_size: int = 1, loss: LossConfig | None = None) -> None:
        features, neighborhoods = random_world(0, NUM_ITEMS)
        queries = np.arange(NUM_ITEMS)
        self.builder = MinibatchBuilder(
            queries=queries,
            positives=(queries + 1) % NUM_ITEMS,
            features=features,
            neighborhoods=neighborhoods,
            config=CONFIG.minibatch,
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

    def run(self, state: TrainingState, folder: Path, *, die_at: int | None = None) -> list[float]:
        losses = []

        def observe(state: TrainingState, *, loss: float) -> None:
            losses.append(loss)
            if state.step == die_at:
                raise KeyboardInterrupt

        def save(state: TrainingState) -> None:
            directory = folder / f"step-{state.step}"
            with publish(directory, stage="checkpoint", config={}, parents={}) as draft:
                save_state(state, self.model, self.optimizer, draft)

        train(
            self.step,
            state,
            self.minibatches(state.step),
            steps_per_epoch=self.builder.steps_per_epoch,
            config=CONFIG,
            observe=observe,
            save=save,
        )
        return losses


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path: Path) -> None:
    unbroken = Learner()
    whole_state = TrainingState(step=0, losses=[])
    unbroken.run(whole_state, tmp_path / "unbroken")

    with pytest.raises(KeyboardInterrupt):
        Learner().run(TrainingState(step=0, losses=[]), tmp_path / "broken", die_at=6)
    resumed = Learner()
    path = open_artifact(tmp_path / "broken" / "step-4", stage="checkpoint").path
    state = load_state(path, resumed.model, resumed.optimizer)
    assert state.step == 4
    resumed.run(state, tmp_path / "resumed")

    assert state == whole_state
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    state = TrainingState(step=0, losses=[])
    Learner(loss=LossConfig(kind="softmax")).run(state, tmp_path)
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


def test_a_loss_that_is_not_finite_stops_training() -> None:
    learner = Learner()
    minibatch = learner.builder.build(0, 0, world_rank=0, world_size=1)
    minibatch.features[:] = np.nan
    with pytest.raises(TrainingError, match="learning_rate"):
        learner.step.run(minibatch, learning_rate=0.1)


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
    learner.run(TrainingState(step=0, losses=[]), tmp_path)
    other = PinSage(ModelConfig(num_layers=1, projected_width=8, embedding_width=8), 6)
    with pytest.raises(ArtifactError, match="not a checkpoint of this network"):
        load_state(tmp_path / "step-4", other, make_optimizer(other))

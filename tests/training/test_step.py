import numpy as np
import pytest
import torch

from pinsage.base.errors import NotFiniteError
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.model.loss import LossConfig
from pinsage.sampling.minibatch import MinibatchBuilder, MinibatchConfig
from pinsage.sampling.pair_sources import FixedPairs
from pinsage.training import TrainConfig, TrainingStep, make_optimizer
from tests.worlds import random_world

NUM_ITEMS = 40


class Learner:
    """A model, its step and its minibatches, always from the same start."""

    def __init__(self) -> None:
        features, neighborhoods = random_world(0, NUM_ITEMS)
        queries = np.arange(NUM_ITEMS)
        self.builder = MinibatchBuilder(
            pairs=FixedPairs(queries, (queries + 1) % NUM_ITEMS),
            features=features,
            neighborhoods=neighborhoods,
            config=MinibatchConfig(size=8, shared_negatives=6, max_hard_negatives=2),
            num_layers=2,
            seed=0,
        )
        torch.manual_seed(0)
        shape = ModelConfig(num_layers=2, projected_width=8, embedding_width=8)
        self.model = PinSage(shape, features.rows.shape[1])
        self.step = TrainingStep(
            self.model,
            make_optimizer(self.model),
            LossConfig(),
            device=torch.device("cpu"),
            world_size=1,
        )


@pytest.mark.parametrize("parts", [2, 3])
def test_a_share_in_parts_makes_the_update_of_the_whole(parts: int) -> None:
    whole, parted = Learner(), Learner()
    minibatch = whole.builder.build(2, 1, world_rank=0, world_size=1)
    loss = whole.step.run(minibatch, learning_rate=0.0).loss
    shares = (
        parted.builder.build(2, 1, world_rank=part, world_size=parts) for part in range(parts)
    )
    assert parted.step.run(shares, learning_rate=0.0).loss == pytest.approx(loss, rel=1e-5)
    for one, two in zip(parted.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-6)


def test_parts_and_in_batch_negatives_are_refused_together() -> None:
    loss = LossConfig(kind="softmax", in_batch_negatives=True)
    with pytest.raises(ValueError, match=r"accumulate is 2.*use more workers"):
        TrainConfig(accumulate=2, loss=loss)


def test_a_loss_that_is_not_finite_stops_training_and_touches_no_weight() -> None:
    learner, untouched = Learner(), Learner()
    for one in (learner, untouched):
        one.step.run(one.builder.build(0, 0, world_rank=0, world_size=1), learning_rate=0.1)
    minibatch = learner.builder.build(0, 1, world_rank=0, world_size=1)
    minibatch.features[:] = np.nan
    with pytest.raises(NotFiniteError, match="learning_rate"):
        learner.step.run(minibatch, learning_rate=0.1)
    for one in (learner, untouched):
        one.step.run(one.builder.build(0, 2, world_rank=0, world_size=1), learning_rate=0.1)
    for one, two in zip(learner.model.parameters(), untouched.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_another_optimizer_is_refused() -> None:
    model = Learner().model
    with pytest.raises(ValueError, match="make_optimizer"):
        TrainingStep(
            model,
            torch.optim.Adam(model.parameters()),
            LossConfig(),
            device=torch.device("cpu"),
            world_size=1,
        )

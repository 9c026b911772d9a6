"""The step on a GPU; everywhere else these tests are skipped."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pinsage.base.artifacts import publish
from pinsage.base.errors import NotFiniteError
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.model.inputs import Mover
from pinsage.model.loss import LossConfig
from pinsage.sampling.minibatch import MinibatchBuilder, MinibatchConfig
from pinsage.sampling.pair_sources import FixedPairs
from pinsage.training import TrainingState, TrainingStep, load_state, make_optimizer, save_state
from tests.worlds import random_world

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

NUM_ITEMS = 200


def builder() -> MinibatchBuilder:
    features, neighborhoods = random_world(0, NUM_ITEMS)
    queries = np.arange(NUM_ITEMS)
    return MinibatchBuilder(
        pairs=FixedPairs(queries, (queries + 1) % NUM_ITEMS),
        features=features,
        neighborhoods=neighborhoods,
        config=MinibatchConfig(size=32, shared_negatives=20, max_hard_negatives=0),
        num_layers=2,
        seed=0,
    )


class Learner:
    """The same start on any device."""

    def __init__(self, device: str) -> None:
        torch.manual_seed(0)
        shape = ModelConfig(num_layers=2, projected_width=32, embedding_width=32)
        self.model = PinSage(shape, 6).to(device)
        self.optimizer = make_optimizer(self.model)
        self.step = TrainingStep(
            self.model,
            self.optimizer,
            LossConfig(),
            device=torch.device(device),
            world_size=1,
        )

    def run(self, step: int) -> float:
        minibatch = builder().build(0, step, world_rank=0, world_size=1)
        return self.step.run(minibatch, learning_rate=1e-3)


def test_a_moved_minibatch_is_the_same() -> None:
    minibatch = builder().build(0, 0, world_rank=0, world_size=1)
    mover = Mover(torch.device("cuda"))
    moved = [mover.move(minibatch) for _ in range(3)]
    for one in moved:
        np.testing.assert_array_equal(one.features.cpu().numpy(), minibatch.features)
        np.testing.assert_array_equal(one.queries.cpu().numpy(), minibatch.queries)
        for found, wanted in zip(one.blocks, minibatch.blocks, strict=True):
            np.testing.assert_array_equal(found.neighbors.cpu().numpy(), wanted.neighbors)


def test_steps_are_those_of_a_cpu_up_to_the_width_of_bf16() -> None:
    on_cpu, on_gpu = Learner("cpu"), Learner("cuda")
    for step in range(4):
        assert on_gpu.run(step) == pytest.approx(on_cpu.run(step), rel=0.05, abs=5e-3)


def test_a_loss_that_is_not_finite_touches_no_weight() -> None:
    learner = Learner("cuda")
    learner.run(0)
    before = [parameter.clone() for parameter in learner.model.parameters()]
    minibatch = builder().build(0, 1, world_rank=0, world_size=1)
    minibatch.features[:] = np.nan
    with pytest.raises(NotFiniteError, match="learning_rate"):
        learner.step.run(minibatch, learning_rate=1e-3)
    for one, two in zip(learner.model.parameters(), before, strict=True):
        assert torch.equal(one, two)


def test_a_loaded_state_trains_on(tmp_path: Path) -> None:
    learner, loaded = Learner("cuda"), Learner("cuda")
    learner.run(0)
    with publish(tmp_path / "state", stage="checkpoint", config={}, parents={}) as draft:
        save_state(TrainingState(step=1, losses=[]), learner.model, learner.optimizer, draft)
    load_state(tmp_path / "state", loaded.model, loaded.optimizer)
    for one, two in zip(learner.model.parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert np.isfinite(loaded.run(1))

"""The step on a GPU; everywhere else these tests are skipped."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from pinsage.base.artifacts import publish
from pinsage.base.errors import NotFiniteError
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.model.inputs import Mover
from pinsage.model.loss import LossConfig
from pinsage.model.pooling import Pooling
from pinsage.sampling.minibatch import MinibatchBuilder, MinibatchConfig
from pinsage.sampling.pair_sources import FixedPairs
from pinsage.training import TrainingState, TrainingStep, load_state, make_optimizer, save_state
from tests.worlds import random_world

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

NUM_ITEMS = 200


def builder(*, max_hard_negatives: int = 0) -> MinibatchBuilder:
    features, neighborhoods = random_world(0, NUM_ITEMS)
    candidates = (np.arange(NUM_ITEMS)[:, None] + [10, 11, 12]) % NUM_ITEMS
    # A query without candidates has slots of no item.
    candidates[3] = -1
    neighborhoods = replace(neighborhoods, hard_negatives=candidates.astype(np.int32))
    queries = np.arange(NUM_ITEMS)
    return MinibatchBuilder(
        pairs=FixedPairs(queries, (queries + 1) % NUM_ITEMS),
        features=features,
        neighborhoods=neighborhoods,
        config=MinibatchConfig(size=32, shared_negatives=20, max_hard_negatives=max_hard_negatives),
        num_layers=2,
        seed=0,
    )


class Learner:
    """The same start on any device."""

    def __init__(
        self,
        device: str,
        *,
        loss: LossConfig | None = None,
        pooling: Pooling = "importance",
        is_wrapped: bool = False,
    ) -> None:
        torch.manual_seed(0)
        shape = ModelConfig(num_layers=2, projected_width=32, embedding_width=32, pooling=pooling)
        self.model = PinSage(shape, 6).to(device)
        self.optimizer = make_optimizer(self.model)
        self.step = TrainingStep(
            DistributedDataParallel(self.model) if is_wrapped else self.model,
            self.optimizer,
            loss or LossConfig(),
            device=torch.device(device),
            world_size=1,
        )

    def run(self, step: int) -> float:
        minibatch = builder().build(0, step, world_rank=0, world_size=1)
        return self.step.run(minibatch, learning_rate=1e-3).loss

    def run_hard(self, step: int) -> float:
        """Make a step of the third epoch, where every pair has two hard negatives."""
        made = builder(max_hard_negatives=2).build(2, step, world_rank=0, world_size=1)
        assert made.hard_negatives.shape[1] == 2
        return self.step.run(made, learning_rate=1e-3).loss


@pytest.fixture
def nccl(tmp_path: Path) -> Iterator[None]:
    """A group of one rank, as a training of one worker on a GPU has."""
    distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


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


SOFTMAX = LossConfig(kind="softmax", temperature=0.1)


@pytest.mark.parametrize("pooling", ["importance", "mean", "max"])
@pytest.mark.parametrize(
    "loss",
    [LossConfig(), SOFTMAX, SOFTMAX.model_copy(update={"in_batch_negatives": True})],
    ids=["max_margin", "softmax", "in_batch"],
)
def test_steps_with_hard_negatives_are_those_of_a_cpu_up_to_the_width_of_bf16(
    loss: LossConfig, pooling: Pooling
) -> None:
    on_cpu, on_gpu = (Learner(device, loss=loss, pooling=pooling) for device in ("cpu", "cuda"))
    for step in range(4):
        assert on_gpu.run_hard(step) == pytest.approx(on_cpu.run_hard(step), rel=0.05, abs=5e-3)


def test_the_largest_of_many_neighbors_moves_the_weights_that_made_it_under_bf16() -> None:
    learner = Learner("cuda", loss=SOFTMAX, pooling="max")
    before = {name: value.clone() for name, value in learner.model.named_parameters()}
    assert np.isfinite(learner.run_hard(0))
    for name, value in learner.model.named_parameters():
        assert torch.isfinite(value).all(), name
        assert not torch.equal(value, before[name]), name


@pytest.mark.usefixtures("nccl")
def test_a_step_through_nccl_is_that_of_the_model_alone() -> None:
    alone = Learner("cuda", loss=SOFTMAX, pooling="max")
    wrapped = Learner("cuda", loss=SOFTMAX, pooling="max", is_wrapped=True)
    for step in range(3):
        assert wrapped.run_hard(step) == pytest.approx(alone.run_hard(step), rel=1e-3, abs=1e-4)


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

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pinsage.base.errors import ResourceError
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.sampling.minibatch import MinibatchConfig
from pinsage.training import Snapshot, TrainConfig
from pinsage.training.memory import (
    TrainingFacts,
    check_memory,
    doubts,
    num_weights,
    plan_memory,
)

MODEL = ModelConfig(num_layers=2, projected_width=512, embedding_width=128)
TRAIN = TrainConfig(num_producers=2, minibatch=MinibatchConfig(num_neighbors=10))


def facts(**changed: int | bool) -> TrainingFacts:
    given = {
        "num_items": 1_000_000,
        "feature_width": 64,
        "num_pairs": 5_000_000,
        "num_neighbors": 50,
        "num_candidates": 64,
        "workers_per_node": 1,
        "on_gpu": False,
    }
    return TrainingFacts(**(given | changed))


@given(st.integers(0, 3), st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
def test_weights_are_counted_as_the_network_has_them(
    layers: int, projected: int, width: int, features: int
) -> None:
    config = ModelConfig(num_layers=layers, projected_width=projected, embedding_width=width)
    model = PinSage(config, features)
    assert num_weights(config, features) == sum(p.numel() for p in model.parameters())


def test_the_states_of_a_worker_are_what_torch_holds() -> None:
    model = PinSage(MODEL, 64)
    optimizer = torch.optim.Adam(model.parameters())
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    moments = [v for entry in optimizer.state.values() for v in entry.values()]
    live = [*model.parameters(), *(p.grad for p in model.parameters()), *moments]
    Snapshot(model, optimizer)
    held = sum(t.numel() for t in live) + sum(t.numel() for t in [*model.parameters(), *moments])
    assert plan_memory(MODEL, TRAIN, facts()).states == pytest.approx(4 * held, rel=1e-3)


def test_every_part_of_a_plan_is_counted_where_it_is_held() -> None:
    plan = plan_memory(MODEL, TRAIN, facts())
    assert plan.mapped == 1_000_000 * (64 * 4 + 50 * 8 + 64 * 4)
    assert plan.producers == 2 * (1_000_000 * (4 + 10 * 8) + 5_000_000 * 3 * 8)
    two = plan_memory(MODEL, TRAIN, facts(workers_per_node=2))
    assert two.states == 2 * plan.states
    gpu = plan_memory(MODEL, TRAIN, facts(on_gpu=True))
    assert gpu.states == pytest.approx(plan.states * 3 / 7, rel=1e-6)
    assert gpu.most == gpu.certain
    for words in ("389.1 MiB in producers", "mapped", "checkpoint copy", "object store"):
        assert words in plan.line()


def test_what_may_not_fit_is_a_warning_that_names_the_settings() -> None:
    plan = plan_memory(MODEL, TRAIN, facts())
    assert doubts(plan, node_bytes=plan.most, store_bytes=plan.minibatches) == []
    memory, store = doubts(plan, node_bytes=plan.most - 1, store_bytes=plan.minibatches - 1)
    assert "train.minibatch.size" in memory
    assert "ray.object_store_bytes" in store


@given(st.integers(1, 10**9))
def test_what_is_said_to_fit_does_fit(node_bytes: int) -> None:
    plan = plan_memory(MODEL, TRAIN, facts())
    if plan.certain <= node_bytes:
        assert check_memory(MODEL, TRAIN, facts(), node_bytes=node_bytes) == plan
        return
    with pytest.raises(ResourceError, match="What would fit: ") as caught:
        check_memory(MODEL, TRAIN, facts(), node_bytes=node_bytes)
    advice = str(caught.value).rpartition("What would fit: ")[2]
    if advice.startswith("more memory"):
        return
    settings = dict(part.split("=") for part in advice.split(", "))
    train = TRAIN.model_copy(update={"num_producers": int(settings["train.num_producers"])})
    shape = {name[6:]: int(v) for name, v in settings.items() if name.startswith("model.")}
    smaller = plan_memory(MODEL.model_copy(update=shape), train, facts())
    assert smaller.certain <= node_bytes


def test_max_pooling_trains_among_copies_of_all_neighbors() -> None:
    largest = MODEL.model_copy(update={"pooling": "max"})
    mean, wide = (plan_memory(model, TRAIN, facts()).step for model in (MODEL, largest))
    more = TRAIN.model_copy(update={"minibatch": MinibatchConfig(num_neighbors=20)})
    assert wide > 1.5 * mean
    assert plan_memory(largest, more, facts()).step > 1.5 * wide


def test_a_step_that_may_not_fit_on_a_gpu_is_a_warning() -> None:
    plan = plan_memory(MODEL, TRAIN, facts(on_gpu=True, workers_per_node=4))
    alone = plan_memory(MODEL, TRAIN, facts())
    assert alone.gpu == 0
    assert plan.gpu == alone.step + alone.states * 4 // 7
    enough = {"node_bytes": plan.most, "store_bytes": plan.minibatches}
    assert doubts(plan, **enough, gpu_bytes=plan.gpu) == []
    assert doubts(plan, **enough) == []
    (told,) = doubts(plan, **enough, gpu_bytes=plan.gpu - 1)
    assert "train.accumulate" in told
    parts = plan_memory(
        MODEL,
        TRAIN.model_copy(update={"accumulate": 8}),
        facts(on_gpu=True, workers_per_node=4),
    )
    assert parts.gpu < plan.gpu

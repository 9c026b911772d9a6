"""The state that training begins in."""

from pathlib import Path

import pytest
import torch

from pinsage.base.artifacts import publish
from pinsage.cluster.producers import ProducerSpec
from pinsage.cluster.train_task import TrainTask, begin
from pinsage.model.encoder import ModelConfig
from pinsage.sampling.minibatch import MinibatchConfig
from pinsage.training import TrainConfig, TrainingState, save_state
from tests.cluster.graphs import NUM_ITEMS, publish_graph, small_graph

CPU = torch.device("cpu")


def task_at(folder: Path, num_pairs: int = 5_000) -> TrainTask:
    graph = folder / "graph"
    if not graph.exists():
        publish_graph(graph, small_graph(), 2)
    spec = ProducerSpec(graph, folder / "none", MinibatchConfig(), num_layers=1, seed=3)
    shape = ModelConfig(num_layers=1, projected_width=4, embedding_width=4)
    return TrainTask(spec, shape, TrainConfig(), folder / "c", folder / "t", {}, num_pairs)


def test_the_start_centers_and_scales_features(tmp_path: Path) -> None:
    model, _, state = begin(task_at(tmp_path), None, CPU)
    # Item v has the features v, v, v.
    torch.testing.assert_close(model.input_shift, torch.full((3,), (NUM_ITEMS - 1) / 2))
    assert model.input_scale.unique().numel() == 1
    assert model.input_scale[0] != 1
    assert state == TrainingState(step=0, losses=[])


def test_a_checkpoint_is_taken_as_it_is_without_a_look_at_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_at(tmp_path)
    model, optimizer, state = begin(task, None, CPU)
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    state.add(0.5, steps_per_epoch=task.steps_per_epoch)
    with publish(tmp_path / "state", stage="checkpoint", config={}, parents={}) as draft:
        save_state(state, model, optimizer, draft)
    monkeypatch.setattr("pinsage.graph.features.FeatureStore.gather", None)
    loaded, _, loaded_state = begin(task, tmp_path / "state", CPU)
    assert loaded_state == state
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_pairs_that_do_not_fill_a_minibatch_are_counted_as_they_are(tmp_path: Path) -> None:
    few, many = task_at(tmp_path, 300), task_at(tmp_path, 5_000)
    assert (few.steps_per_epoch, few.pairs_per_step) == (1, 300)
    assert (many.steps_per_epoch, many.pairs_per_step) == (2, 2_048)

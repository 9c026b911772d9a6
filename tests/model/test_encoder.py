import numpy as np
import pytest
import torch

from pinsage.base.artifacts import open_artifact, publish
from pinsage.base.errors import ArtifactError
from pinsage.model.checkpoint import load_model, save_model
from pinsage.model.convolve import Convolve
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.model.inputs import DeviceBlock
from pinsage.model.pooling import Pooling, pool

NEIGHBORS = torch.tensor([[1, 2], [3, 0], [0, 0]], dtype=torch.int32)
WEIGHTS = torch.tensor([[0.75, 0.25], [1.0, 0.0], [0.0, 0.0]])
ROWS = torch.tensor([[1.0, 0.0], [2.0, 4.0], [6.0, 0.0], [3.0, 5.0]])


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [
        ("importance", [[3.0, 3.0], [3.0, 5.0], [0.0, 0.0]]),
        ("mean", [[4.0, 2.0], [3.0, 5.0], [0.0, 0.0]]),
        ("max", [[6.0, 4.0], [3.0, 5.0], [0.0, 0.0]]),
    ],
)
def test_pooling_counts_the_neighbors_that_are_there(
    pooling: Pooling, wanted: list[list[float]]
) -> None:
    found = pool(ROWS, NEIGHBORS, WEIGHTS, pooling=pooling)
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_convolve_is_algorithm_1() -> None:
    torch.manual_seed(0)
    layer = Convolve(2, 3, 4)
    found = layer(ROWS, DeviceBlock(NEIGHBORS, WEIGHTS, 4), "importance")
    for u in range(3):
        pooled = sum(
            weight * torch.relu(layer.neighbor.weight @ ROWS[v] + layer.neighbor.bias)
            for v, weight in zip(NEIGHBORS[u], WEIGHTS[u], strict=True)
        )
        joint = layer.joint.weight @ torch.cat([ROWS[u], pooled]) + layer.joint.bias
        wanted = torch.relu(joint) / torch.relu(joint).norm()
        torch.testing.assert_close(found[u], wanted)


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_embeddings_have_unit_length_and_gradients_reach_every_weight(num_layers: int) -> None:
    torch.manual_seed(0)
    model = PinSage(
        ModelConfig(num_layers=num_layers, projected_width=16, embedding_width=32), feature_width=2
    )
    slots = torch.arange(4, dtype=torch.int32)
    block = DeviceBlock(torch.stack([slots, slots.flip(0)], 1), torch.full((4, 2), 0.5), 4)
    embeddings = model(ROWS, [block] * num_layers)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    embeddings[:, 0].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_feature_scaling_centers_and_drops_constant_columns() -> None:
    model = PinSage(ModelConfig(num_layers=0, embedding_width=4), feature_width=4)
    rows = torch.tensor([[1.0, 7.0, 1e-9, 1e-9], [3.0, 7.0, 3e-9, 1e-9]])
    model.set_feature_scale(rows.mean(dim=0), rows.std(dim=0, correction=0))
    wanted = torch.tensor([[-1.0, 0.0, -1.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
    torch.testing.assert_close(model.scale_features(rows), wanted)


def test_a_saved_model_loads_with_equal_weights_and_a_cut_file_is_refused(tmp_path) -> None:
    model = PinSage(
        ModelConfig(num_layers=1, projected_width=5, embedding_width=4), feature_width=2
    )
    model.set_feature_scale(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    with publish(tmp_path / "m", stage="model", config={}, parents={}) as draft:
        save_model(model, draft)
    path = open_artifact(tmp_path / "m", stage="model").path
    loaded = load_model(path)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], value)
    weights = path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ArtifactError, match="no whole model"):
        load_model(path)

from pathlib import Path

import numpy as np
import pytest
import torch

from pinsage.inference.layerwise import LayerwiseEncoder
from pinsage.kernels.reindex import Scratch
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.model.inputs import to_device_block
from pinsage.sampling.block import build_blocks, cut_table
from pinsage.sampling.neighborhood import Neighborhoods
from tests.worlds import Features, random_world

NUM_ITEMS = 40


def small_world() -> tuple[Features, Neighborhoods]:
    """Random items, of the last of which nothing is known."""
    features, neighborhoods = random_world(5, NUM_ITEMS)
    features.rows[-1], neighborhoods.ids[-1], neighborhoods.weights[-1] = 0, -1, 0
    return features, neighborhoods


def model_of(num_layers: int, pooling: str) -> PinSage:
    torch.manual_seed(1)
    shape = {
        "num_layers": num_layers,
        "projected_width": 12,
        "embedding_width": 8,
        "pooling": pooling,
    }
    model = PinSage(ModelConfig.model_validate(shape), feature_width=6)
    model.set_feature_scale(torch.randn(6), torch.rand(6) + 0.5)
    return model.eval()


def layerwise(model: PinSage, folder: Path, chunk: int, num_neighbors: int | None) -> np.ndarray:
    features, neighborhoods = small_world()
    encoder = LayerwiseEncoder(model, features, neighborhoods, folder, num_neighbors=num_neighbors)
    starts = range(0, NUM_ITEMS, chunk)
    embeddings = []
    for number in range(encoder.num_passes):
        encoder.allocate(number)
        embeddings = [encoder.run(number, start, min(start + chunk, NUM_ITEMS)) for start in starts]
    return np.concatenate(embeddings)


def by_minibatch(model: PinSage, num_neighbors: int | None) -> np.ndarray:
    features, neighborhoods = small_world()
    width = num_neighbors or neighborhoods.ids.shape[1]
    blocks, ids = build_blocks(
        np.arange(NUM_ITEMS),
        *cut_table(neighborhoods.ids, neighborhoods.weights, width),
        num_layers=model.config.num_layers,
        scratch=Scratch.of(NUM_ITEMS),
    )
    on_device = [to_device_block(block, torch.device("cpu")) for block in blocks]
    with torch.inference_mode():
        return model(torch.from_numpy(features.gather(ids)), on_device).numpy()


@pytest.mark.parametrize("pooling", ["importance", "mean", "max"])
@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
@pytest.mark.parametrize("num_neighbors", [None, 2])
def test_layerwise_embeddings_equal_minibatch_embeddings(
    tmp_path: Path, num_layers: int, pooling: str, num_neighbors: int | None
) -> None:
    model = model_of(num_layers, pooling)
    found = layerwise(model, tmp_path, 7, num_neighbors)
    np.testing.assert_allclose(found, by_minibatch(model, num_neighbors), atol=1e-5)
    assert np.flatnonzero(~found.any(axis=1)).tolist() == [NUM_ITEMS - 1]


def test_a_cold_item_has_an_embedding(tmp_path: Path) -> None:
    cold = layerwise(model_of(2, "importance"), tmp_path, 40, None)[0]
    assert np.linalg.norm(cold) == pytest.approx(1, abs=1e-5)


def test_passes_may_be_repeated_and_taken_in_any_order_of_chunks(tmp_path: Path) -> None:
    model = model_of(2, "importance")
    features, neighborhoods = small_world()
    encoder = LayerwiseEncoder(model, features, neighborhoods, tmp_path)
    for number in range(encoder.num_passes):
        encoder.allocate(number)
        for start in (30, 0, 10, 20, 10):
            encoder.run(number, start, start + 10)
    np.testing.assert_allclose(encoder.run(2, 0, NUM_ITEMS), by_minibatch(model, None), atol=1e-5)

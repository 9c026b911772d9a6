import pytest
import torch

from pinsage.model.convolve import Convolve
from pinsage.model.inputs import DeviceBlock
from pinsage.model.pooling import Pooling, pool

SOURCES, DESTINATIONS, INPUTS = 5_000, 900, 6


def world() -> tuple[torch.Tensor, DeviceBlock]:
    """Several chunks of sources; some neighbors missing, and destination 0 cold."""
    torch.manual_seed(0)
    weights = torch.rand(DESTINATIONS, 5)
    weights[torch.rand(weights.shape) < 0.2] = 0
    weights[0] = 0
    neighbors = torch.randint(0, SOURCES, weights.shape, dtype=torch.int32)
    return torch.randn(SOURCES, INPUTS), DeviceBlock(neighbors, weights, SOURCES)


def outcome(
    layer: Convolve, hidden: torch.Tensor, block: DeviceBlock, pooling: Pooling, *, plain: bool
) -> list[torch.Tensor]:
    """The next hidden rows, and the gradients of some function of them."""
    if plain:
        pooled = pool(layer.project(hidden), block.neighbors, block.weights, pooling=pooling)
        found = layer.combine(hidden[: len(pooled)], pooled)
    else:
        found = layer(hidden, block, pooling)
    inputs = [*layer.parameters(), *([hidden] if hidden.requires_grad else [])]
    torch.manual_seed(1)
    return [found, *torch.autograd.grad(found, inputs, torch.randn_like(found))]


@pytest.mark.parametrize("pooling", ["importance", "mean", "max"])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_fused_convolution_equals_the_plain_one_both_ways(
    pooling: Pooling, *, wanted: bool
) -> None:
    hidden, block = world()
    layer = Convolve(INPUTS, 7, 9)
    hidden.requires_grad_(wanted)
    fused = outcome(layer, hidden, block, pooling, plain=False)
    plain = outcome(layer, hidden, block, pooling, plain=True)
    assert len(fused) == len(plain) == (6 if wanted else 5)
    for one, two in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6 * float(two.detach().abs().max()))

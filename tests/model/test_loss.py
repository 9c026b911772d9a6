import math

import pytest
import torch

from pinsage.model.inputs import DeviceMinibatch
from pinsage.model.loss import LossConfig, pair_loss


def minibatch(hard: list[list[int]], shared: list[int] | None = None) -> DeviceMinibatch:
    def slots(values: list) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32)

    return DeviceMinibatch(
        queries=slots([0]),
        positives=slots([1]),
        shared_negatives=slots([2, 3] if shared is None else shared),
        hard_negatives=slots(hard).reshape(1, -1),
        blocks=[],
        features=torch.zeros(0, 0),
        total_pairs=1,
    )


EMBEDDINGS = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.9, 0.1], [0.1, 0.9], [0.6, 0.8]])


def test_max_margin_is_the_mean_violation_of_equation_1() -> None:
    config = LossConfig(margin=0.3)
    # Scores: positive .8; negatives .9, .1, and hard .6.
    found = pair_loss(EMBEDDINGS, minibatch([[4]]), config)
    assert found.item() == pytest.approx(((0.9 - 0.8 + 0.3) + 0 + (0.6 - 0.8 + 0.3)) / 3, abs=1e-6)


def test_softmax_is_cross_entropy_against_the_same_negatives() -> None:
    found = pair_loss(EMBEDDINGS, minibatch([[4]]), LossConfig(kind="softmax", temperature=0.5))
    scores = [0.8, 0.9, 0.1, 0.6]
    wanted = -scores[0] / 0.5 + math.log(sum(math.exp(score / 0.5) for score in scores))
    assert found.item() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("kind", ["max_margin", "softmax"])
def test_missing_negatives_and_the_pairs_own_items_do_not_count(kind: str) -> None:
    config = LossConfig(kind=kind)
    without = pair_loss(EMBEDDINGS, minibatch([]), config)
    with_extra = pair_loss(EMBEDDINGS, minibatch([[-1, 0, 1]]), config)
    torch.testing.assert_close(without, with_extra)


def test_a_pair_without_any_negative_has_no_loss() -> None:
    for kind in ("max_margin", "softmax"):
        found = pair_loss(EMBEDDINGS, minibatch([[-1]], shared=[1]), LossConfig(kind=kind))
        assert found.item() == pytest.approx(0, abs=1e-6)

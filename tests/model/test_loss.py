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
        seed_ids=torch.arange(5),
        log_expected=torch.zeros(5),
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


def test_cross_entropy_takes_scores_for_logits_and_the_mean_over_negatives() -> None:
    found = pair_loss(EMBEDDINGS, minibatch([[4]]), LossConfig(kind="cross_entropy"))
    against = [math.log1p(math.exp(score)) for score in (0.9, 0.1, 0.6)]
    assert found.item() == pytest.approx(math.log1p(math.exp(-0.8)) + sum(against) / 3, abs=1e-6)


@pytest.mark.parametrize("kind", ["max_margin", "softmax", "cross_entropy"])
def test_missing_negatives_and_the_pairs_own_items_do_not_count(kind: str) -> None:
    config = LossConfig(kind=kind)
    without = pair_loss(EMBEDDINGS, minibatch([]), config)
    with_extra = pair_loss(EMBEDDINGS, minibatch([[-1, 0, 1]]), config)
    torch.testing.assert_close(without, with_extra)


def test_a_pair_without_any_negative_has_no_loss() -> None:
    for kind in ("max_margin", "softmax"):
        found = pair_loss(EMBEDDINGS, minibatch([[-1]], shared=[1]), LossConfig(kind=kind))
        assert found.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("corrected", [True, False])
def test_in_batch_negatives_are_the_positives_of_other_pairs(*, corrected: bool) -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(9, 4, requires_grad=True)
    # Pair 1's positive is pair 0's query, and pairs 0 and 3 have the same positive.
    queries, positives = [0, 1, 2, 3], [4, 0, 5, 4]
    shared, hard = [6, 7], [[8], [-1], [5], [7]]
    log_expected = torch.rand(9)
    config = LossConfig(
        kind="softmax", temperature=0.3, in_batch_negatives=True, popularity_correction=corrected
    )
    moved = DeviceMinibatch(
        queries=torch.tensor(queries, dtype=torch.int32),
        positives=torch.tensor(positives, dtype=torch.int32),
        shared_negatives=torch.tensor(shared, dtype=torch.int32),
        hard_negatives=torch.tensor(hard, dtype=torch.int32),
        seed_ids=torch.arange(9) + 100,
        log_expected=log_expected,
        blocks=[],
        features=torch.zeros(0, 0),
        total_pairs=4,
    )
    wanted = torch.zeros(())
    for pair, (query, positive) in enumerate(zip(queries, positives, strict=True)):
        negatives = [slot for slot in [*shared, *hard[pair], *positives] if slot >= 0]
        slots = [positive, *(slot for slot in negatives if slot not in {query, positive})]
        logits = embeddings[slots] @ embeddings[query] / 0.3
        if corrected:
            logits = logits - log_expected[slots]
        wanted = wanted + torch.logsumexp(logits, 0) - logits[0]
    found = pair_loss(embeddings, moved, config)
    torch.testing.assert_close(found, wanted)
    of_found, of_wanted = (torch.autograd.grad(loss, embeddings)[0] for loss in (found, wanted))
    torch.testing.assert_close(of_found, of_wanted)


def test_in_batch_negatives_without_softmax_are_refused() -> None:
    with pytest.raises(ValueError, match="in_batch_negatives goes with kind: softmax"):
        LossConfig(in_batch_negatives=True)

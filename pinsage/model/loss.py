"""Losses over shared, hard and in-batch negatives (Equation 1; paper, 3.3).

Letters in tensor names: S = seeds, P = pairs, A = pairs of all ranks, R = shared negatives,
X = hard negatives a pair, C = a pair's positive and its other candidates, H = embedding width.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch.nn import functional

from pinsage.base.config import Config
from pinsage.model.inputs import DeviceMinibatch
from pinsage.model.ranks import rows_of_all_ranks


class LossConfig(Config):
    """What the embeddings of a pair and of its negatives are held to."""

    kind: Literal["max_margin", "softmax", "cross_entropy"] = "max_margin"
    """`max_margin` is the paper's; `softmax` is cross-entropy of the positive against the same
    negatives, scores divided by the temperature; `cross_entropy` takes every score for the logit of
    being a positive (the paper's mean-pooling-xent)."""
    margin: PositiveFloat = 0.1
    """Delta: by how much a positive should score above a negative."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """Divides scores in the softmax loss; the smaller, the more the hardest negatives count."""
    in_batch_negatives: bool = False
    """Whether the positives of the minibatch's other pairs, on every worker, are negatives too; for
    the softmax loss."""
    popularity_correction: bool = True
    """With in-batch negatives: subtract from every item's logit the logarithm of how often
    minibatches draw it, so that popular items, which come up more often, are not held down."""

    @model_validator(mode="after")
    def _in_batch_negatives_are_the_softmaxs(self) -> "LossConfig":
        if self.in_batch_negatives and self.kind != "softmax":
            raise ValueError(
                f"in_batch_negatives goes with kind: softmax; found kind: {self.kind}; set one of "
                "the two"
            )
        return self


def pair_loss(
    embeddings_SH: torch.Tensor, minibatch: DeviceMinibatch, config: LossConfig
) -> torch.Tensor:
    """Sum the losses of a minibatch's pairs: a scalar.

    A negative that is the pair's own query or positive does not count, nor does a missing one. With
    in-batch negatives, every rank has to call this at the same time.
    """
    query_PH = functional.embedding(minibatch.queries, embeddings_SH)
    positive_PH = functional.embedding(minibatch.positives, embeddings_SH)
    positive_P = (query_PH * positive_PH).sum(dim=1)
    scores, missing = _negative_scores(embeddings_SH, query_PH, minibatch)
    if config.kind == "softmax":
        logits_PC = torch.cat([positive_P[:, None], scores.masked_fill(missing, -torch.inf)], dim=1)
        logits_PC = logits_PC / config.temperature
        if config.in_batch_negatives:
            logits_PC = _with_other_pairs(logits_PC, query_PH, positive_PH, minibatch, config)
        target_P = torch.zeros(len(logits_PC), dtype=torch.int64, device=logits_PC.device)
        return functional.cross_entropy(logits_PC, target_P, reduction="sum")
    # Each negative's part in the mean over those that are there.
    share = (~missing).to(scores.dtype)
    share /= share.sum(dim=1, keepdim=True).clamp(min=1)
    if config.kind == "cross_entropy":
        return functional.softplus(-positive_P).sum() + (functional.softplus(scores) * share).sum()
    violation = functional.relu(scores + (config.margin - positive_P)[:, None])
    return (violation * share).sum()


def _negative_scores(
    embeddings_SH: torch.Tensor, query_PH: torch.Tensor, minibatch: DeviceMinibatch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score each query against its negatives, [P, R + X], and tell which ones do not count."""
    shared_R, hard_PX = minibatch.shared_negatives, minibatch.hard_negatives
    scores = query_PH @ functional.embedding(shared_R, embeddings_SH).T
    slots = shared_R.expand(len(query_PH), -1)
    if hard_PX.shape[1]:
        hard_PXH = functional.embedding(hard_PX.clamp(min=0), embeddings_SH)
        scores = torch.cat([scores, torch.einsum("ph,pxh->px", query_PH, hard_PXH)], dim=1)
        slots = torch.cat([slots, hard_PX], dim=1)
    own = (slots == minibatch.queries[:, None]) | (slots == minibatch.positives[:, None])
    return scores, own if not hard_PX.shape[1] else own | (slots < 0)


def _with_other_pairs(
    logits_PC: torch.Tensor,
    query_PH: torch.Tensor,
    positive_PH: torch.Tensor,
    minibatch: DeviceMinibatch,
    config: LossConfig,
) -> torch.Tensor:
    """Add the positives of all ranks' pairs as candidates, [P, C + A]; corrected, if asked for."""
    ids_P = minibatch.seed_ids[minibatch.positives]
    log_P = minibatch.log_expected[minibatch.positives]
    total = minibatch.total_pairs
    positive_AH = rows_of_all_ranks(positive_PH, total)
    ids_A = rows_of_all_ranks(ids_P, total)
    own = (ids_A == ids_P[:, None]) | (ids_A == minibatch.seed_ids[minibatch.queries][:, None])
    others_PA = (query_PH @ positive_AH.T / config.temperature).masked_fill(own, -torch.inf)
    logits = torch.cat([logits_PC, others_PA], dim=1)
    if not config.popularity_correction:
        return logits
    shared_R = minibatch.log_expected[minibatch.shared_negatives]
    hard_PX = minibatch.log_expected[minibatch.hard_negatives.clamp(min=0)]
    count = len(ids_P)
    return logits - torch.cat(
        [
            log_P[:, None],
            shared_R.expand(count, -1),
            hard_PX,
            rows_of_all_ranks(log_P, total).expand(count, -1),
        ],
        dim=1,
    )

"""Ranking losses over shared and hard negatives (Equation 1; paper, 3.3).

Letters in tensor names: S = seeds, P = pairs, R = shared negatives, X = hard negatives a pair,
H = embedding width.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat
from torch.nn import functional

from pinsage.base.config import Config
from pinsage.model.inputs import DeviceMinibatch


class LossConfig(Config):
    """What the embeddings of a pair and of its negatives are held to."""

    kind: Literal["max_margin", "softmax"] = "max_margin"
    """`max_margin` is the paper's; `softmax` is cross-entropy of the positive against the same
    negatives, scores divided by the temperature."""
    margin: PositiveFloat = 0.1
    """Delta: by how much a positive should score above a negative."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """Divides scores in the softmax loss; the smaller, the more the hardest negatives count."""


def pair_loss(
    embeddings_SH: torch.Tensor, minibatch: DeviceMinibatch, config: LossConfig
) -> torch.Tensor:
    """Sum the losses of a minibatch's pairs: a scalar.

    A negative that is the pair's own query or positive does not count, nor does a missing one.
    """
    query_PH = embeddings_SH[minibatch.queries]
    positive_P = (query_PH * embeddings_SH[minibatch.positives]).sum(dim=1)
    scores, missing = _negative_scores(embeddings_SH, query_PH, minibatch)
    if config.kind == "softmax":
        logits = torch.cat([positive_P[:, None], scores.masked_fill(missing, -torch.inf)], dim=1)
        target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return functional.cross_entropy(logits / config.temperature, target, reduction="sum")
    violation = functional.relu(scores - positive_P[:, None] + config.margin)
    present = (~missing).sum(dim=1).clamp(min=1)
    return (violation.masked_fill(missing, 0).sum(dim=1) / present).sum()


def _negative_scores(
    embeddings_SH: torch.Tensor, query_PH: torch.Tensor, minibatch: DeviceMinibatch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score each query against its negatives, [P, R + X], and tell which ones do not count."""
    shared_R, hard_PX = minibatch.shared_negatives, minibatch.hard_negatives
    scores = [query_PH @ embeddings_SH[shared_R].T]
    slots = [shared_R.expand(len(query_PH), -1)]
    if hard_PX.shape[1]:
        hard_PXH = functional.embedding(hard_PX.clamp(min=0), embeddings_SH)
        scores.append(torch.einsum("ph,pxh->px", query_PH, hard_PXH))
        slots.append(hard_PX)
    slot = torch.cat(slots, dim=1)
    own = (slot == minibatch.queries[:, None]) | (slot == minibatch.positives[:, None])
    return torch.cat(scores, dim=1), own | (slot < 0)

"""What every worker of one training is told, and the state that it begins in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pinsage.base.seeding import Stream, stream, stream_key
from pinsage.cluster.producers import ProducerSpec
from pinsage.graph import Graph
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.sampling.pairs import pairs_per_step, steps_per_epoch
from pinsage.training import (
    Checkpoints,
    TrainConfig,
    TrainingState,
    load_state,
    make_optimizer,
)
from pinsage.training.scaling import ScaleBy, feature_scale

_SCALE_SAMPLE = 100_000


@dataclass(frozen=True)
class TrainTask:
    """What every worker of one training is told.

    Attributes:
        producers: what producers open.
        model: the network.
        train: the training.
        checkpoints: folder of the states of this training.
        tensorboard: folder of its event files, if they are asked for.
        settings: all that its result depends on; a checkpoint of others is refused.
        num_pairs: training pairs an epoch.
    """

    producers: ProducerSpec
    model: ModelConfig
    train: TrainConfig
    checkpoints: Path
    tensorboard: Path
    settings: Mapping[str, Any]
    num_pairs: int

    @property
    def steps_per_epoch(self) -> int:
        """Minibatches in an epoch."""
        return steps_per_epoch(self.num_pairs, self.train.minibatch.size)

    @property
    def pairs_per_step(self) -> int:
        """Pairs in a minibatch."""
        return pairs_per_step(self.num_pairs, self.train.minibatch.size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.train.schedule.epochs

    @property
    def folder(self) -> Checkpoints:
        """Where its checkpoints are."""
        return Checkpoints(self.checkpoints, self.train.keep_checkpoints, self.settings)


def begin(
    task: TrainTask, checkpoint: Path | None, device: torch.device
) -> tuple[PinSage, torch.optim.Optimizer, TrainingState]:
    """Put network and optimizer into the state of a checkpoint, or of the start if there is none.

    The start is the same on every rank.

    Raises:
        ArtifactError: the checkpoint is of another network.
    """
    graph = Graph.open(task.producers.graph)
    # Torch's own initializers draw from its global stream, so that one is keyed here.
    torch.manual_seed(stream_key(task.producers.seed, Stream.WEIGHTS) >> 1)
    model = PinSage(task.model, graph.feature_width)
    if checkpoint is None and task.train.scale_features is not None:
        _set_feature_scale(model, graph, task.train.scale_features, seed=task.producers.seed)
    model = model.to(device)
    optimizer = make_optimizer(model)
    if checkpoint is None:
        return model, optimizer, TrainingState(step=0, losses=[])
    return model, optimizer, load_state(checkpoint, model, optimizer)


def _set_feature_scale(model: PinSage, graph: Graph, by: ScaleBy, *, seed: int) -> None:
    """Set what features are centered and scaled by: found from a sample of training's items."""
    made_cold = graph.cold_items()
    num_seen = graph.num_items - (0 if made_cold is None else len(made_cold.ids))
    count = min(num_seen, _SCALE_SAMPLE)
    chosen = stream(seed, Stream.SAMPLE).choice(num_seen, count, replace=False)
    if made_cold is not None:
        # The n-th item that is seen is behind as many cold ones as begin before it.
        seen_before = made_cold.ids - np.arange(len(made_cold.ids))
        chosen += np.searchsorted(seen_before, chosen, side="right")
    mean, deviation = feature_scale(graph.features(), np.sort(chosen), graph.feature_columns, by)
    model.set_feature_scale(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())

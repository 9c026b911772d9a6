"""What a training will hold where, from its settings and the graph's size alone."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pinsage.base.errors import ResourceError
from pinsage.model.encoder import ModelConfig
from pinsage.training.loop import TrainConfig

_ID, _FLOAT = 4, 4
_LONG = 8
_ADAM_MOMENTS = 2


@dataclass(frozen=True)
class TrainingFacts:
    """What the memory of a training depends on, beside its settings.

    Attributes:
        num_items: items of the graph.
        feature_width: numbers an item has.
        num_pairs: training pairs.
        num_neighbors: columns of the neighborhood table.
        num_candidates: hard-negative candidates of an item.
        workers_per_node: most workers that share one node's memory.
        on_gpu: whether workers compute on GPUs.
    """

    num_items: int
    feature_width: int
    num_pairs: int
    num_neighbors: int
    num_candidates: int
    workers_per_node: int
    on_gpu: bool


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the node that holds most.

    Attributes:
        mapped: features and neighborhood table; files that the system reads and drops as it likes.
        producers: pairs, their order, lookup arrays, and a table cut to training's width.
        states: weights, gradients, moments, and the copy that checkpoints are written from.
        minibatches: in flight and in use, in the object store; at most.
        step: what one step computes; at most.
        on_gpu: whether weights, gradients, moments and the step are in GPU memory instead.
        gpu: what each worker holds there; at most.
    """

    mapped: int
    producers: int
    states: int
    minibatches: int
    step: int
    on_gpu: bool
    gpu: int

    @property
    def certain(self) -> int:
        """What is held for sure, beside the mapped files."""
        return self.producers + self.states

    @property
    def most(self) -> int:
        """What may be held in all, beside the mapped files and the object store."""
        return self.certain + (0 if self.on_gpu else self.step)

    def line(self) -> str:
        """Say all of it in one line."""
        place = "on the GPU" if self.on_gpu else "in a step"
        return (
            f"memory a node: {_size(self.mapped)} of features and neighborhoods mapped, "
            f"{_size(self.producers)} in producers, {_size(self.states)} of weights, moments and "
            f"their checkpoint copy, up to {_size(self.minibatches)} of minibatches in the object "
            f"store, up to {_size(self.step)} {place}"
        )


def plan_memory(model: ModelConfig, train: TrainConfig, facts: TrainingFacts) -> MemoryPlan:
    """Add up what each part of a training holds.

    How many distinct items a minibatch touches is what uniform draws would give; real ones
    repeat popular items, so they touch fewer.
    """
    width = train.minibatch.num_neighbors or facts.num_neighbors
    table = facts.num_items * facts.num_neighbors * (_ID + _FLOAT)
    candidates = facts.num_items * facts.num_candidates * _ID
    cut = facts.num_items * width * (_ID + _FLOAT) if width < facts.num_neighbors else 0
    producer = facts.num_items * _ID + facts.num_pairs * 3 * _LONG + cut
    # Weights, gradients and moments, then weights and moments again.
    live, copied = 2 + _ADAM_MOMENTS, 1 + _ADAM_MOMENTS
    copies = copied if facts.on_gpu else live + copied
    weights = num_weights(model, facts.feature_width) * _FLOAT
    layers = list(slots_of_layers(model, train, facts, width))
    inputs = layers[-1][0]
    minibatch = inputs * facts.feature_width * _FLOAT
    minibatch += sum(made * width * (_ID + _FLOAT) for _, made in layers[1:])
    step = sum(_convolution(model, sources, made, width) for sources, made in layers[1:])
    step += 2 * _FLOAT * (inputs * facts.feature_width + layers[0][0] * 3 * model.embedding_width)
    return MemoryPlan(
        mapped=facts.num_items * facts.feature_width * _FLOAT + table + candidates,
        producers=producer * train.num_producers,
        states=weights * copies * facts.workers_per_node,
        minibatches=minibatch * (train.prefetch + 1) * facts.workers_per_node,
        step=step * facts.workers_per_node,
        on_gpu=facts.on_gpu,
        gpu=weights * live + step if facts.on_gpu else 0,
    )


def doubts(
    plan: MemoryPlan, *, node_bytes: int, store_bytes: int, gpu_bytes: int | None = None
) -> list[str]:
    """Say what may not fit, if minibatches are as large as they can be.

    Args:
        plan: what will be held.
        node_bytes: memory of the smallest node.
        store_bytes: its object store.
        gpu_bytes: memory of a GPU; None if it is not known.
    """
    found = []
    if gpu_bytes is not None and plan.gpu > gpu_bytes:
        found.append(
            f"training may need up to {_size(plan.gpu)} on a GPU of {_size(gpu_bytes)}; if it has "
            "no room, raise train.accumulate or train.num_workers, or lower train.minibatch.size "
            "or train.minibatch.num_neighbors"
        )
    if plan.most > node_bytes:
        found.append(
            f"training may need up to {_size(plan.most)} on a node of {_size(node_bytes)}; if a "
            "worker is killed for it, lower train.minibatch.size or train.minibatch.num_neighbors"
        )
    if plan.minibatches > store_bytes:
        found.append(
            f"minibatches in flight may need up to {_size(plan.minibatches)} of an object store of "
            f"{_size(store_bytes)}, and go through the disk; lower train.prefetch or "
            "train.minibatch.num_neighbors, or raise ray.object_store_bytes"
        )
    return found


def num_weights(model: ModelConfig, feature_width: int) -> int:
    """Count the network's weights.

    >>> num_weights(ModelConfig(num_layers=0, embedding_width=2), 3)
    12
    """
    width, projected = model.embedding_width, model.projected_width
    inputs = [feature_width] + [width] * (model.num_layers - 1)
    convolutions = sum(
        (i + 1) * projected + (i + projected + 1) * width for i in inputs[: model.num_layers]
    )
    top = width if model.num_layers else feature_width
    return convolutions + (top + 1) * width + width * width


def check_memory(
    model: ModelConfig, train: TrainConfig, facts: TrainingFacts, *, node_bytes: int
) -> MemoryPlan:
    """Refuse a training whose certain part does not fit.

    Args:
        model: the network.
        train: the training.
        facts: the graph's size.
        node_bytes: memory of the smallest node.

    Raises:
        ResourceError: it does not fit; says what would.
    """
    plan = plan_memory(model, train, facts)
    if plan.certain <= node_bytes:
        return plan
    would = next(
        (
            names
            for names, smaller in _smaller(model, train)
            if plan_memory(*smaller, facts).certain <= node_bytes
        ),
        "more memory, or a smaller graph",
    )
    raise ResourceError(
        f"training cannot fit: {plan.line()}; a node has {_size(node_bytes)}. What would fit: "
        f"{would}"
    )


def _smaller(
    model: ModelConfig, train: TrainConfig
) -> Iterator[tuple[str, tuple[ModelConfig, TrainConfig]]]:
    """Give ever smaller settings."""
    one = train.model_copy(update={"num_producers": 1})
    yield "train.num_producers=1", (model, one)
    width, projected = model.embedding_width, model.projected_width
    while width > 1:
        width, projected = width // 2, max(projected // 2, 1)
        changed = {"embedding_width": width, "projected_width": projected}
        yield (
            (
                f"train.num_producers=1, model.projected_width={projected}, "
                f"model.embedding_width={width}"
            ),
            (model.model_copy(update=changed), one),
        )


def parts_of_step(train: TrainConfig) -> int:
    """Into how many parts a minibatch is cut, each computed by itself."""
    return train.fewest_workers * train.accumulate


def slots_of_layers(
    model: ModelConfig, train: TrainConfig, facts: TrainingFacts, width: int
) -> Iterator[tuple[int, int]]:
    """Give (source slots, destination slots) of one part of a minibatch, from its seeds down.

    First the seeds themselves.
    """
    pairs = math.ceil(train.minibatch.size / parts_of_step(train))
    drawn = pairs * (2 + train.minibatch.max_hard_negatives) + train.minibatch.shared_negatives
    slots = _distinct(drawn, facts.num_items)
    yield slots, slots
    for _ in range(model.num_layers):
        sources = _distinct(slots * (width + 1), facts.num_items)
        yield sources, slots
        slots = sources


def _convolution(model: ModelConfig, sources: int, made: int, num_neighbors: int) -> int:
    """Projected rows of the sources, joined rows and results of the destinations, gradients too.

    The largest neighbor is found among copies of all of them, which have two gradients.
    """
    width, projected = model.embedding_width, model.projected_width
    copies = 3 * made * num_neighbors * projected if model.pooling == "max" else 0
    return _FLOAT * (2 * (sources * projected + made * (2 * projected + 3 * width)) + copies)


def _distinct(drawn: int, of: int) -> int:
    """How many different ones are among uniform draws."""
    return math.ceil(of * -math.expm1(-drawn / of)) if of else 0


def _size(num_bytes: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 2**10:.0f} KiB"

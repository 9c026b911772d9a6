"""What the stages tell Prometheus through Ray's own exporter, in every process of a run.

A metric `pinsage_x` here is `ray_pinsage_x` there: Ray puts its own name first. Every metric stands
in the table below, so that boards can be checked against it. Outside a Ray session nothing is
counted, and a call costs a look at a flag; inside it costs about 15 microseconds, so that hot loops
tell once a step or a chunk.
"""

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import ray
from ray.util.metrics import Counter, Gauge

from pinsage.base.storage import traffic

PREFIX = "pinsage_"


@dataclass(frozen=True)
class Metric:
    """One metric: counters end in `_total`, what is measured ends in its unit."""

    kind: Literal["counter", "gauge"]
    about: str
    tags: tuple[str, ...] = ()


METRICS: dict[str, Metric] = {
    "stage_done": Metric("gauge", "What a stage has done, in its own unit.", ("stage", "unit")),
    "stage_size": Metric("gauge", "What a stage has to do, in its own unit.", ("stage", "unit")),
    "stage_seconds": Metric("gauge", "What a published stage took.", ("stage",)),
    "train_steps_total": Metric("counter", "Steps of training.", ("rank",)),
    "train_pairs_total": Metric("counter", "Pairs that training has seen.", ("rank",)),
    "train_loss": Metric("gauge", "Loss of the last step.", ("rank",)),
    "train_learning_rate": Metric("gauge", "Learning rate of the last step.", ("rank",)),
    "train_hit_rate": Metric("gauge", "Last hit-rate on held-out pairs.", ("rank", "k")),
    "train_wait_seconds_total": Metric("counter", "Waiting for producers.", ("rank",)),
    "train_minibatches_ready": Metric(
        "gauge", "Minibatches that wait for their worker; 0 means that it waits.", ("rank",)
    ),
    "producer_minibatches_total": Metric("counter", "Minibatches built."),
    "producer_build_seconds_total": Metric("counter", "Seconds of building minibatches."),
    "producer_feature_bytes_total": Metric("counter", "Bytes of the minibatches' feature rows."),
    "walk_items_total": Metric("counter", "Items walked from, in one process."),
    "store_under_way": Metric("gauge", "Walks that a store takes part in.", ("shard",)),
    "store_sent_bytes_total": Metric("counter", "Bytes sent to other stores.", ("shard",)),
    "store_walk_seconds_total": Metric("counter", "CPU seconds of walking.", ("shard",)),
    "embed_rows_total": Metric("counter", "Rows of a pass.", ("stage",)),
    "index_recall": Metric("gauge", "Recall of the index against the exact search.", ("k",)),
    "storage_sent_bytes_total": Metric("counter", "Bytes sent to buckets."),
    "storage_received_bytes_total": Metric("counter", "Bytes fetched from buckets."),
    "storage_retries_total": Metric("counter", "Requests to buckets that were repeated."),
}
"""Name, without what all begin with, to what it is."""

_told: dict[str, float] = {}
_telling = threading.Lock()


def count(name: str, amount: float, **tags: str) -> None:
    """Add to a counter; nothing outside a Ray session."""
    if amount > 0 and ray.is_initialized():
        _made(name).inc(amount, tags=tags)


def gauge(name: str, value: float, **tags: str) -> None:
    """Set a gauge; nothing outside a Ray session."""
    if ray.is_initialized():
        _made(name).set(value, tags=tags)


def count_up_to(name: str, total: float, **tags: str) -> None:
    """Raise this process's counter to what something has counted for itself."""
    if not ray.is_initialized():
        return
    key = "/".join((name, *tags.values()))
    with _telling:
        more, _told[key] = total - _told.get(key, 0.0), total
    # Something that was started anew counts from zero.
    count(name, more if more >= 0 else total, **tags)


def tell_traffic() -> None:
    """Tell what this process has moved to and from buckets."""
    count_up_to("storage_sent_bytes_total", traffic.sent_bytes)
    count_up_to("storage_received_bytes_total", traffic.received_bytes)
    count_up_to("storage_retries_total", traffic.retries)


def tell_progress(stage: str, unit: str, done: int, total: int) -> None:
    """Tell how far a stage is."""
    gauge("stage_done", done, stage=stage, unit=unit)
    gauge("stage_size", total, stage=stage, unit=unit)


@lru_cache(maxsize=len(METRICS))
def _made(name: str) -> Any:
    metric = METRICS[name]
    kind = Counter if metric.kind == "counter" else Gauge
    return kind(PREFIX + name, description=metric.about, tag_keys=metric.tags)

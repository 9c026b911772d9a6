"""What the server tells Prometheus at `/metrics`."""

import math
import os
import weakref
from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

UNMATCHED = "unmatched"
"""The route of requests that no call answers, whatever their path: paths are without number."""

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_MEMORY = 0.05
"""Weight of the newest recheck in the running recall."""


class Teller(Protocol):
    """Something that counts for itself, since counting here each time would cost too much."""

    def tell(self) -> None:
        """Pass on what was counted since the last time."""


class Metrics:
    """The counters and gauges of one process.

    Where `PROMETHEUS_MULTIPROC_DIR` names a folder, as `python -m serve --direct` sees to,
    `written` sums over all processes that write there.
    """

    def __init__(self) -> None:
        """Start at zero, in a registry of its own."""
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "pinsage_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "pinsage_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "pinsage_requests_in_flight",
            "Requests being answered.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._generation = Gauge(
            "pinsage_generation_info",
            "1 for the generation that is served, 0 for those served before.",
            ["generation"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._behind = Gauge(
            "pinsage_generation_behind",
            "1 while the generation that is to be served can't be; the one before stays in force.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._writes_behind = Gauge(
            "pinsage_writes_behind",
            "1 while what was written can't be followed; answers go on without the newest writes.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._switches = Counter(
            "pinsage_generation_switches",
            "Times that another generation was put in force.",
            registry=registry,
        )
        self._items = Gauge(
            "pinsage_items",
            "Items in the catalog, by where they came from.",
            ["kind"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._searches = Counter(
            "pinsage_searches",
            "Searches of the index, by how a filter was kept.",
            ["strategy"],
            registry=registry,
        )
        self._rechecks = Counter(
            "pinsage_rechecks", "Answers compared with the exact search.", registry=registry
        )
        self._recall = Gauge(
            "pinsage_recall",
            "Running share of the exact answer that was found (recall@k).",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        # No comparison yet is no recall, not one of 0.
        self._recall.set(math.nan)
        self._tellers: weakref.WeakSet[Teller] = weakref.WeakSet()
        self._running_recall: float | None = None
        self._served: str | None = None
        self._count = lru_cache(maxsize=1024)(self._requests.labels)
        self._time = lru_cache(maxsize=256)(self._seconds.labels)
        ProcessCollector(registry=registry)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._count(route, method, status).inc()
        self._time(route).observe(seconds)

    def served(self, generation: str, items: Mapping[str, int]) -> None:
        """Say what is served now.

        Args:
            generation: its digest.
            items: items by kind, such as `published` and `live`.
        """
        if generation != self._served:
            if self._served is not None:
                self._generation.labels(self._served).set(0)
                self._switches.inc()
            self._generation.labels(generation).set(1)
            self._served = generation
        for kind, number in items.items():
            self._items.labels(kind).set(number)

    def behind(self, *, is_behind: bool) -> None:
        """Say whether something else is to be served, but can't be."""
        self._behind.set(int(is_behind))

    def writes_behind(self, *, is_behind: bool) -> None:
        """Say whether writes that others made can't be followed."""
        self._writes_behind.set(int(is_behind))

    def ask(self, teller: Teller) -> None:
        """Ask something for its counts whenever everything is written down, as long as it lives."""
        self._tellers.add(teller)

    def searched(self, strategy: str, queries: int = 1) -> None:
        """Count queries to the index, by how a filter was kept."""
        if queries > 0:
            self._searches.labels(strategy).inc(queries)

    def rechecked(self, recall: float) -> None:
        """Take in one comparison with the exact search."""
        before = self._running_recall
        self._running_recall = recall if before is None else before + _MEMORY * (recall - before)
        self._recall.set(self._running_recall)
        self._rechecks.inc()

    def written(self) -> bytes:
        """Write everything down as Prometheus reads it."""
        for teller in list(self._tellers):
            teller.tell()
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)


def add_metrics(app: FastAPI, metrics: Metrics) -> None:
    """Offer the metrics of an app."""

    @app.get(
        "/metrics",
        summary="Metrics for Prometheus",
        tags=["Operations"],
        response_class=PlainTextResponse,
    )
    def written() -> Response:
        """Give requests, latencies, what is served, and its recall, as Prometheus reads it."""
        return Response(metrics.written(), media_type=MEDIA_TYPE)

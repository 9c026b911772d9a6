"""An index that is watched: its searches are counted, and a sample compared with the truth."""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer

from pinsage.base.artifacts import Draft
from pinsage.retrieval.exact import ExactIndex
from pinsage.retrieval.index import Built
from pinsage.retrieval.strategy import StrategyCounts, found_as_near
from serve.metrics import Metrics

logger = logging.getLogger("pinsage.serve")

_WAITING = 4

_REST = 99
"""Comparing takes one part of the time in so many more, at most: the larger the catalog, the longer
one takes, and on a busy machine all other answers wait for it."""

_TOLD_EVERY = 64
"""Searches between which other processes' metrics may lack this one's counts."""


@dataclass(frozen=True)
class _Sample:
    """One search."""

    query: Float32[np.ndarray, "1 width"]
    k: int
    exclude: Sequence[Integer[np.ndarray, " _"]] | None
    allowed: Bool[np.ndarray, " items"] | None
    scores: Float32[np.ndarray, "1 k"]
    """What it found."""


class WatchedIndex:
    """A built index, with every search counted and one in so many compared with the exact search.

    Comparisons run in a thread of their own, one at a time. While many wait, and for a while after
    each, further samples are dropped: the measure must not cost what it measures.
    """

    def __init__(
        self,
        index: Built,
        metrics: Metrics,
        *,
        recheck_every: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch an index.

        Args:
            index: what searches.
            metrics: where to count.
            recheck_every: one in so many searches is compared, at most; 0 compares none.
            clock: seconds, from any beginning.
        """
        # A mapped array costs more to slice than a plain one over the same memory.
        self.vectors = np.asarray(index.vectors)
        self.counts: StrategyCounts = index.counts
        self._index = index
        self._metrics = metrics
        self._every = recheck_every
        self._is_closed = False
        self._clock = clock
        self._rests_until = clock()
        self._number = itertools.count(1)
        metrics.ask(self)
        self._counted: dict[str, int] = {}
        self._lock = threading.Lock()
        self._samples: queue.Queue[_Sample | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None

    def search(
        self,
        queries: Float32[np.ndarray, "queries width"],
        k: int,
        exclude: Sequence[Integer[np.ndarray, " _"]] | None = None,
        allowed: Bool[np.ndarray, " items"] | None = None,
    ) -> tuple[Int32[np.ndarray, "queries k"], Float32[np.ndarray, "queries k"]]:
        """See `Index.search`."""
        ids, scores = self._index.search(queries, k, exclude, allowed)
        number = next(self._number)
        if number % _TOLD_EVERY == 0:
            self.tell()
        if self._every and number % self._every == 0 and not self._is_closed:
            first = None if exclude is None else exclude[:1]
            self._offer(_Sample(queries[:1], k, first, allowed, scores[:1]))
        return ids, scores

    def save(self, draft: Draft) -> None:
        """See `Index.save`."""
        self._index.save(draft)

    def stop(self) -> None:
        """Finish the comparisons that wait, and end their thread."""
        if self._thread is not None:
            self._samples.put(None)
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Compare nothing more; searches are still answered."""
        with self._lock:
            self._is_closed = True
        self.stop()

    def tell(self) -> None:
        """Pass on what the index has counted since the last time."""
        with self._lock:
            now = self._index.counts.snapshot()
            for strategy, number in now.items():
                self._metrics.searched(strategy, number - self._counted.get(strategy, 0))
            self._counted = now

    def _offer(self, sample: _Sample) -> None:
        if self._clock() < self._rests_until:
            return
        with self._lock:
            # Nobody would end a thread that begins after `close`.
            if self._is_closed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._compare, name="recheck", daemon=True)
                self._thread.start()
        try:
            self._samples.put_nowait(sample)
        except queue.Full:
            logger.debug("a recheck is left out: %d wait already", _WAITING)

    def _compare(self) -> None:
        exact = ExactIndex(self._index.vectors)
        while (sample := self._samples.get()) is not None:
            began = self._clock()
            try:
                _, truth = exact.search(sample.query, sample.k, sample.exclude, sample.allowed)
                wanted = np.isfinite(truth).sum()
                if wanted:
                    found = found_as_near(sample.scores, truth).sum()
                    self._metrics.rechecked(float(found / wanted))
            except Exception:
                # Without this thread, `stop` would wait for ever behind samples nobody takes.
                logger.exception("a search could not be compared with the true nearest")
            ended = self._clock()
            self._rests_until = ended + _REST * (ended - began)

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from pinsage.retrieval.exact import ExactIndex
from serve.metrics import Metrics
from serve.watched import WatchedIndex
from tests.serve.fakes import NUM_ITEMS


class HalfBlind(ExactIndex):
    """Never finds odd items."""

    def search(self, queries, k, exclude=None, allowed=None):
        even = np.arange(len(self.vectors)) % 2 == 0
        return super().search(queries, k, exclude, even if allowed is None else even & allowed)


def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(NUM_ITEMS, 4)).astype(np.float32)


def value(metrics: Metrics, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(metrics.written().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


def test_a_watched_index_answers_as_the_index_does_and_counts_by_strategy():
    plain, metrics = ExactIndex(vectors()), Metrics()
    watched = WatchedIndex(plain, metrics, recheck_every=0)
    allowed = np.arange(NUM_ITEMS) < 9
    for further in ({}, {"exclude": [np.array([3])] * 2}, {"allowed": allowed}):
        for ours, theirs in zip(
            watched.search(plain.vectors[:2], 5, **further),
            plain.search(plain.vectors[:2], 5, **further),
            strict=True,
        ):
            assert np.array_equal(ours, theirs)
    counted = plain.counts.snapshot()
    assert sum(counted.values()) == 12
    for strategy, number in counted.items():
        # Half of them were asked of the index itself; the last search of ours came before its own.
        told = value(metrics, "pinsage_searches_total", strategy=strategy)
        assert number / 2 <= told <= number
    assert value(metrics, "pinsage_rechecks_total") == 0


def test_one_search_in_so_many_is_compared_with_the_exact_one():
    blind, metrics = HalfBlind(vectors()), Metrics()
    watched = WatchedIndex(blind, metrics, recheck_every=3, clock=lambda: 0.0)
    for row in range(9):
        watched.search(blind.vectors[row : row + 1], NUM_ITEMS, exclude=[np.array([row])])
        if row % 3 == 2:
            # One at a time, so that none is dropped.
            watched.stop()
    assert value(metrics, "pinsage_rechecks_total") == 3
    assert 0.4 < value(metrics, "pinsage_recall") < 0.6
    perfect = Metrics()
    seeing = WatchedIndex(ExactIndex(blind.vectors), perfect, recheck_every=1)
    seeing.search(blind.vectors[:1], 5, allowed=np.arange(NUM_ITEMS) < 2)
    seeing.stop()
    assert value(perfect, "pinsage_recall") == 1


def test_comparing_takes_a_hundredth_of_the_time_at_most_however_long_one_takes(monkeypatch):
    now, metrics = 0.0, Metrics()

    class Slow(ExactIndex):
        """Takes two seconds."""

        def search(self, queries, k, exclude=None, allowed=None):
            nonlocal now
            now += 2
            return super().search(queries, k, exclude, allowed)

    index = ExactIndex(vectors())
    monkeypatch.setattr("serve.watched.ExactIndex", Slow)
    watched = WatchedIndex(index, metrics, recheck_every=1, clock=lambda: now)
    for _ in range(5):
        watched.search(index.vectors[:1], 5)
        watched.stop()
    assert value(metrics, "pinsage_rechecks_total") == 1
    now += 197
    watched.search(index.vectors[:1], 5)
    watched.stop()
    assert value(metrics, "pinsage_rechecks_total") == 1
    now += 2
    watched.search(index.vectors[:1], 5)
    watched.stop()
    assert value(metrics, "pinsage_rechecks_total") == 2


def test_a_search_that_ends_after_the_index_was_closed_starts_no_thread(monkeypatch):
    watched = WatchedIndex(ExactIndex(vectors()), Metrics(), recheck_every=1)
    offer = watched._offer
    # The search has looked whether it is closed just before.
    monkeypatch.setattr(watched, "_offer", lambda sample: (watched.close(), offer(sample)))
    watched.search(watched.vectors[:1], 3)
    assert watched._thread is None


def test_a_comparison_that_fails_is_logged_and_the_next_one_is_made(monkeypatch, caplog):
    index, metrics = ExactIndex(vectors()), Metrics()
    truth, failures = ExactIndex.search, iter([MemoryError("no room")])

    class Failing(ExactIndex):
        """Fails once."""

        def search(self, *arguments):
            for failure in failures:
                raise failure
            return truth(self, *arguments)

    monkeypatch.setattr("serve.watched.ExactIndex", Failing)
    watched = WatchedIndex(index, metrics, recheck_every=1, clock=lambda: 0.0)
    for told in (0, 1):
        watched.search(index.vectors[:1], 5)
        watched.stop()
        assert value(metrics, "pinsage_rechecks_total") == told
    assert "no room" in caplog.text

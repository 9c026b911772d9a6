import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsage.retrieval.exact import ExactIndex
from pinsage.retrieval.live import LiveIndex

WIDTH = 4


def rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)


# A change: upsert of known or new ids, or a delete; numbers pick ids among those there are.
changes = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(0, 40), min_size=1, max_size=5, unique=True)),
    max_size=8,
)


@settings(max_examples=60)
@given(changes=changes, filtered=st.booleans(), seed=st.integers(0, 9))
def test_answers_equal_one_exact_index_over_all_that_is_there(
    changes: list[tuple[bool, list[int]]], filtered: bool, seed: int
) -> None:
    vectors = rows(20, seed)
    live = LiveIndex(ExactIndex(vectors))
    truth = {item_id: vectors[item_id] for item_id in range(20)}
    for number, (is_delete, picks) in enumerate(changes):
        known = [pick for pick in picks if pick < live.size]
        if is_delete:
            live.delete(np.array(known, dtype=np.int64))
            for item_id in known:
                truth.pop(item_id, None)
            continue
        ids = np.array([*known, live.size, live.size + 1], dtype=np.int64)
        new = rows(len(ids), 100 + number)
        live.upsert(ids, new)
        truth |= dict(zip(ids.tolist(), new, strict=True))
    there = np.array(sorted(truth))
    allowed = np.random.default_rng(seed).random(live.size) < 0.5 if filtered else None
    queries = rows(3, 7)
    exclude = [np.array([1, live.size - 1]), np.array([0]), np.array([], dtype=np.int64)]
    found, scores = live.search(queries, 6, exclude, allowed)
    for row in range(3):
        keep = [i for i in there if i not in exclude[row] and (allowed is None or allowed[i])]
        best = sorted(keep, key=lambda i: (-np.float32(truth[i] @ queries[row]), i))[:6]
        assert found[row][: len(best)].tolist() == best
        assert (found[row][len(best) :] == -1).all()
        assert np.isneginf(scores[row][len(best) :]).all()
    np.testing.assert_array_equal(live.vectors_of(there), [truth[i] for i in there])
    for item_id in set(range(live.size)) - set(truth):
        with pytest.raises(ValueError, match="deleted or unknown"):
            live.vectors_of(np.array([item_id]))


def test_a_search_sees_every_change_whole_while_others_write() -> None:
    live = LiveIndex(ExactIndex(rows(50, 0)))
    far = np.array([[100, 0, 0, 0], [100, 0, 0, 0]], np.float32)
    live.upsert(np.array([50, 51]), far)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            # The two change places as the best answers, always together.
            live.upsert(np.array([50, 51]), -far)
            live.upsert(np.array([51, 50]), far)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            found, _ = live.search(np.array([[1, 0, 0, 0]], np.float32), 2)
            assert found[0].tolist() == [50, 51] or not np.isin([50, 51], found[0]).any()
    finally:
        stop.set()
        writer.join()


def test_what_makes_no_sense_is_refused_and_changes_nothing() -> None:
    live = LiveIndex(ExactIndex(rows(5, 0)))
    with pytest.raises(ValueError, match="new items get the ids 5"):
        live.upsert(np.array([2, 6]), rows(2, 1))
    with pytest.raises(ValueError, match="width 4"):
        live.upsert(np.array([5]), np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="finite"):
        live.upsert(np.array([5]), np.full((1, WIDTH), np.nan, np.float32))
    with pytest.raises(ValueError, match="below 5"):
        live.delete(np.array([5]))
    live.delete(np.array([3]))
    with pytest.raises(ValueError, match="deleted or unknown"):
        live.vectors_of(np.array([3]))
    with pytest.raises(ValueError, match="cover the 5 items"):
        live.search(rows(1, 0), 1, allowed=np.ones(4, bool))
    assert (live.size, live.num_fresh) == (5, 0)

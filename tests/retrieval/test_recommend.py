import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pinsage.retrieval.recommend import MERGED_BELOW, interests, merge_interests


def around(angle: float, count: int, spread: float = 0.05) -> np.ndarray:
    angles = angle + spread * np.arange(count)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_groups_of_alike_items_become_interests_with_their_weights_and_middles():
    vectors = np.concatenate([around(0, 3), around(1.6, 5), around(3.1, 1)])
    found = interests(vectors, np.ones(9), 5)
    assert [interest.members.tolist() for interest in found] == [[3, 4, 5, 6, 7], [0, 1, 2], [8]]
    assert [interest.medoid for interest in found] == [5, 1, 8]
    assert [round(interest.weight * 9) for interest in found] == [5, 3, 1]


def test_weights_decide_the_order_and_pull_the_medoid():
    vectors = np.concatenate([around(0, 3, spread=0.3), around(2, 2)])
    weights = np.array([100, 1, 1, 1, 1000.0])
    found = interests(vectors, weights, 5)
    assert [interest.medoid for interest in found] == [4, 0]


def test_there_are_never_more_interests_than_wanted_and_equal_items_are_one():
    vectors = around(0, 8, spread=0.8)
    for most in range(1, 9):
        assert len(interests(vectors, np.ones(8), most)) <= most
    assert len(interests(np.tile(vectors[:1], (6, 1)), np.ones(6), 6)) == 1


@given(
    angles=st.lists(st.floats(0, 6.28), min_size=1, max_size=12),
    most=st.integers(1, 6),
)
def test_interests_are_a_partition_whose_medoids_are_members(angles: list[float], most: int):
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = interests(vectors, np.arange(1, len(angles) + 1, dtype=float), most)
    members = np.concatenate([interest.members for interest in found])
    assert sorted(members.tolist()) == list(range(len(angles)))
    assert all(interest.medoid in interest.members for interest in found)
    assert abs(sum(interest.weight for interest in found) - 1) < 1e-9


def test_two_items_are_one_interest_just_above_the_stated_cosine():
    for cosine, number in ((0.72, 1), (0.68, 2)):
        vectors = np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]])
        assert (1 - cosine < MERGED_BELOW) == (number == 1)
        assert len(interests(vectors, np.ones(2), 2)) == number


lists = st.lists(st.lists(st.integers(0, 15), unique=True, max_size=10), min_size=1, max_size=4)


@given(
    lists=lists,
    raw=st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    k=st.integers(1, 30),
)
def test_a_merged_list_repeats_nothing_keeps_every_order_and_is_as_long_as_can_be(
    lists: list[list[int]], raw: list[float], k: int
):
    results = [np.array(ids, dtype=np.int64) for ids in lists]
    merged = merge_interests(results, raw[: len(lists)], k)
    ids = [lists[interest][place] for interest, place in merged]
    assert len(set(ids)) == len(ids)
    assert len(ids) == min(k, len({item for one in lists for item in one}))
    for number in range(len(lists)):
        places = [place for interest, place in merged if interest == number]
        assert places == sorted(places)


def test_every_beginning_of_the_list_is_shared_out_by_weight():
    results = [np.arange(100), np.arange(100, 200), np.arange(200, 300)]
    weights = [0.5, 0.3, 0.2]
    merged = merge_interests(results, weights, 60)
    for length in range(1, 61):
        for number, weight in enumerate(weights):
            share = sum(interest == number for interest, _ in merged[:length])
            assert abs(share - weight * length) <= 1.5

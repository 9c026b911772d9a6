import numpy as np

from pinsage.evaluation.item_map import embedding_map


def two_groups():
    """Items 0-19 around one direction, 20-39 around another, 40 without any."""
    rng = np.random.default_rng(0)
    centers = np.repeat(np.eye(2, 8), 20, axis=0)
    rows = centers + 0.1 * rng.normal(size=(40, 8))
    return np.concatenate([rows, np.zeros((1, 8))]).astype(np.float32)


def mapped(vectors, num_items=100):
    return embedding_map(
        vectors, lambda n: {"item_id": n}, np.random.default_rng(1), num_items=num_items
    )


def test_near_items_lie_near_each_other_inside_the_unit_square():
    points = mapped(two_groups())["points"]
    assert [point["item_id"] for point in points] == list(range(40))
    places = np.array([[point["x"], point["y"]] for point in points])
    assert places.min() >= 0
    assert places.max() <= 1
    first, second = places[:20], places[20:]
    gap = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    spread = max(
        np.linalg.norm(part - part.mean(axis=0), axis=1).mean() for part in (first, second)
    )
    assert gap > spread
    for place, point in enumerate(points):
        assert len(set(point["near"]) - {place}) == 5
        assert {near < 20 for near in point["near"]} == {place < 20}


def test_no_more_items_than_asked_for_and_equal_ones_share_a_place():
    vectors = two_groups()
    vectors[1] = vectors[0]
    points = mapped(vectors)["points"]
    assert (points[0]["x"], points[0]["y"]) == (points[1]["x"], points[1]["y"])
    assert mapped(vectors, 15)["items"] == 15


def test_embeddings_that_do_not_differ_make_no_map():
    assert mapped(np.ones((40, 8), np.float32)) is None
    assert mapped(two_groups()[:5]) is None

import numpy as np
import pytest

from pinsage.cluster.methods import feature_methods
from pinsage.graph.features import FeatureStore
from serve.generation import Generation
from serve.related import ByFeatures, Method, methods_of
from tests.serve.fakes import COLD, NUM_ITEMS, TEXT_STEP, WALK_STEPS, WALK_WEIGHTS


@pytest.fixture(scope="module")
def methods(generation: Generation) -> dict[str, Method]:
    return methods_of(generation, max_feature_bytes=1 << 20)


def test_pinsage_comes_first_and_every_content_group_is_a_method(methods: dict[str, Method]):
    assert list(methods) == ["pinsage", "text", "walk"]


def test_a_feature_group_too_large_for_memory_is_not_offered(generation: Generation):
    assert list(methods_of(generation, max_feature_bytes=10)) == ["pinsage", "walk"]


def test_pinsage_answers_the_nearest_embeddings_best_first(methods: dict[str, Method]):
    (related,) = methods["pinsage"].related([20], 4)
    assert set(related.item_ids[:2]) == {19, 21}
    assert set(related.item_ids[2:]) == {18, 22}
    assert related.scores[0] == pytest.approx(np.cos(2 * np.pi / NUM_ITEMS), abs=1e-6)
    assert related.scores == sorted(related.scores, reverse=True)


def test_text_answers_the_nearest_text_features(methods: dict[str, Method]):
    (related,) = methods["text"].related([12], 2)
    assert set(related.item_ids) == {12 - TEXT_STEP, 12 + TEXT_STEP}
    assert related.scores[0] == pytest.approx(np.cos(2 * np.pi / NUM_ITEMS), abs=1e-6)


def test_walk_answers_the_neighborhood_with_its_weights(methods: dict[str, Method]):
    (related,) = methods["walk"].related([3], 10)
    assert related.item_ids == [3 + step for step in WALK_STEPS]
    assert related.scores == pytest.approx(WALK_WEIGHTS)


@pytest.mark.parametrize("name", ["pinsage", "text", "walk"])
def test_no_method_answers_the_item_itself_or_one_item_twice(methods: dict[str, Method], name: str):
    answers = methods[name].related(range(NUM_ITEMS), NUM_ITEMS)
    assert all(related.item_ids for related in answers[:COLD])
    for item_id, related in enumerate(answers):
        assert item_id not in related.item_ids
        assert len(set(related.item_ids)) == len(related.item_ids)


@pytest.mark.parametrize("name", ["pinsage", "text", "walk"])
def test_many_items_are_answered_as_each_would_be(methods: dict[str, Method], name: str):
    ids = [5, 0, 5, COLD]
    for item_id, together in zip(ids, methods[name].related(ids, 4), strict=True):
        (alone,) = methods[name].related([item_id], 4)
        # Both neighbors at one distance are equally near, up to rounding.
        assert set(together.item_ids) == set(alone.item_ids)
        assert together.scores == pytest.approx(alone.scores, abs=1e-5)


def test_more_than_the_catalog_holds_gives_all_of_it(methods: dict[str, Method]):
    (related,) = methods["pinsage"].related([0], 10 * NUM_ITEMS)
    assert len(related.item_ids) == NUM_ITEMS - 1


@pytest.mark.parametrize("name", ["text", "walk"])
def test_a_cold_item_has_nothing_related_where_there_is_nothing_to_go_by(
    methods: dict[str, Method], name: str
):
    (related,) = methods[name].related([COLD], 5)
    assert related.item_ids == []


def test_an_item_without_features_is_never_answered_by_features(methods: dict[str, Method]):
    (related,) = methods["text"].related([0], NUM_ITEMS)
    assert COLD not in related.item_ids
    assert len(related.item_ids) == NUM_ITEMS - 2


def test_features_that_point_the_opposite_way_score_negative(methods: dict[str, Method]):
    (related,) = methods["text"].related([0], NUM_ITEMS)
    assert related.scores[-1] < -0.9


def test_feature_vectors_are_scaled_to_unit_length_whatever_came_in(generation: Generation):
    by_text = methods_of(generation, max_feature_bytes=1 << 20)["text"]
    assert isinstance(by_text, ByFeatures)
    lengths = np.linalg.norm(by_text.index.vectors, axis=1)
    assert lengths == pytest.approx([1.0] * COLD + [0.0])


@pytest.mark.parametrize("length", [1e-42, 1e-30, 1.0, 1e25, 6e37])
def test_features_of_any_length_have_the_direction_that_the_report_gives_them(
    generation: Generation, monkeypatch: pytest.MonkeyPatch, length: float
):
    rows = np.full((NUM_ITEMS, 3), length, np.float32) * np.array([3, 4, 1], np.float32)
    monkeypatch.setattr(FeatureStore, "gather", lambda self, item_ids: rows[item_ids])
    by_text = methods_of(generation, max_feature_bytes=1 << 20)["text"]
    assert isinstance(by_text, ByFeatures)
    reported = feature_methods(generation.graph)["text"].vectors
    assert by_text.index.vectors.tolist() == reported.tolist()
    assert by_text.index.vectors[0] == pytest.approx([0.6, 0.8], rel=2e-3)

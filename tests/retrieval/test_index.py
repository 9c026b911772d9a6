from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pinsage.base.artifacts import publish
from pinsage.base.errors import ArtifactError
from pinsage.retrieval.approximate import FaissIndex
from pinsage.retrieval.exact import ExactIndex
from pinsage.retrieval.index import (
    Index,
    IndexConfig,
    build_index,
    measured_recall,
    open_index,
    save_index,
)
from pinsage.retrieval.strategy import found_as_near

KINDS = ["exact", "flat", "hnsw", "ivf", "ivf_pq", "lsh"]


def clustered_vectors(num_items: int = 2_000, width: int = 16) -> np.ndarray:
    """Unit vectors around 20 centers."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((20, width))
    rows = centers[rng.integers(20, size=num_items)] + 0.4 * rng.standard_normal((num_items, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def config_of(kind: str) -> IndexConfig:
    return IndexConfig.model_validate({"kind": kind, "faiss": {"cells": 40, "code_bytes": 4}})


@pytest.fixture(scope="module", params=KINDS)
def index(request: pytest.FixtureRequest) -> Index:
    return build_index(clustered_vectors(), config_of(request.param))


def test_answers_are_the_best_scores_best_first(index: Index) -> None:
    queries = index.vectors[:50]
    ids, scores = index.search(queries, 10)
    truth = np.sort(queries @ index.vectors.T, axis=1)[:, ::-1][:, :10]
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ index.vectors.T, ids, 1), 1e-5)
    assert np.isclose(scores, truth, atol=1e-5).mean() > 0.98


def test_excluded_items_never_come_back(index: Index) -> None:
    queries = index.vectors[:20]
    best, _ = index.search(queries, 5)
    ids, _ = index.search(queries, 5, exclude=list(best))
    assert not (ids[:, :, None] == best[:, None, :]).any()
    assert (ids >= 0).all()


def test_more_than_the_catalog_is_padded(index: Index) -> None:
    ids, scores = index.search(index.vectors[:2], 2_005, exclude=[np.array([0]), np.array([1, 2])])
    assert ids.shape == (2, 2_005)
    assert (ids[:, 2_000:] == -1).all()
    assert np.isneginf(scores[ids == -1]).all()
    assert 0 not in ids[0]


def test_one_query_s_exclusions_shorten_no_other_s_answer(index: Index) -> None:
    allowed = np.arange(2_000) != 7
    few, many, other = np.array([3, 3, 7]), np.arange(1_999), np.array([], np.int64)
    for k, counts in ((5, [5, 1, 5]), (2_000, [1_998, 1, 1_999])):
        ids, _ = index.search(index.vectors[:3], k, [few, many, other], allowed)
        assert (ids >= 0).sum(axis=1).tolist() == counts
    assert ids[1, 0] == 1_999


@pytest.mark.parametrize("kind", KINDS)
def test_no_queries_have_no_answers(kind: str) -> None:
    vectors = clustered_vectors(300)
    index = build_index(vectors, config_of(kind))
    ids, scores = index.search(vectors[:0], 5)
    assert ids.shape == scores.shape == (0, 5)


@pytest.mark.parametrize("target", [0.0, 95.0, 1.01])
def test_a_recall_that_is_no_share_is_refused(target: float) -> None:
    with pytest.raises(ValidationError, match="recall_target"):
        IndexConfig(recall_target=target)


def test_the_approximate_index_agrees_with_the_exact_one() -> None:
    vectors = clustered_vectors()
    approximate = build_index(vectors, IndexConfig(kind="hnsw"))
    sample = np.arange(0, 2_000, 10)
    assert measured_recall(ExactIndex(vectors), k=10, sample=sample) == 1.0
    assert 0.95 <= measured_recall(approximate, k=10, sample=sample) <= 1.0


@pytest.mark.parametrize(("limit", "wanted"), [(2_000, ExactIndex), (1_999, FaissIndex)])
def test_the_size_of_the_catalog_chooses_the_structure(limit: int, wanted: type) -> None:
    assert isinstance(build_index(clustered_vectors(), IndexConfig(exact_limit=limit)), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_index_answers_the_same_and_a_flipped_bit_is_found(
    tmp_path: Path, kind: str
) -> None:
    built = build_index(clustered_vectors(), config_of(kind))
    with publish(tmp_path / "i", stage="index", config={}, parents={}) as draft:
        save_index(built, draft)
    opened = open_index(tmp_path / "i")
    for one, two in zip(
        built.search(built.vectors[:9], 7), opened.search(built.vectors[:9], 7), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    largest = max((tmp_path / "i").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[-9] ^= 1
    largest.write_bytes(content)
    with pytest.raises(ArtifactError, match="SHA-256"):
        open_index(tmp_path / "i")


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "lsh"])
def test_a_structure_is_searched_harder_until_it_finds_enough(kind: str) -> None:
    faiss = {"cells": 40, "links": 4, "build_width": 8, "search_width": 2, "search_cells": 1}
    weak = {"kind": kind, "faiss": faiss, "lsh": {"bands": 12, "candidates": 10}}
    sample = np.arange(0, 2_000, 10)
    recalls = []
    for target in (0.01, 0.97):
        config = IndexConfig.model_validate(weak | {"recall_target": target})
        built = build_index(clustered_vectors(), config)
        recalls.append(measured_recall(built, k=10, sample=sample))
    # The target is met on another sample than this one.
    assert recalls[0] < 0.94 < recalls[1]


def test_a_target_out_of_reach_falls_back_to_the_truth() -> None:
    # Four links and no choice of width: what isn't linked is never found.
    faiss = {"links": 2, "build_width": 1}
    out_of_reach = {"exact_limit": 10, "faiss": faiss, "recall_target": 1.0}
    built = build_index(clustered_vectors(), IndexConfig.model_validate(out_of_reach))
    assert built.about() == {"kind": "exact"}


@pytest.mark.parametrize("kind", ["hnsw", "ivf_pq", "lsh"])
def test_a_structure_built_twice_answers_the_same(kind: str) -> None:
    one, two = (build_index(clustered_vectors(), config_of(kind)) for _ in range(2))
    assert one.about() == two.about()
    for left, right in zip(
        one.search(one.vectors[:50], 10), two.search(two.vectors[:50], 10), strict=True
    ):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_equal_vectors_are_no_loss_of_recall(kind: str) -> None:
    vectors = clustered_vectors()
    vectors[:1_000] = np.repeat(vectors[:25], 40, axis=0)
    built = build_index(vectors, config_of(kind))
    assert measured_recall(built, k=10, sample=np.arange(0, 1_000, 7)) > 0.99
    missing = np.array([[0.9, 0.8, -np.inf]], np.float32)
    assert found_as_near(missing, np.array([[0.9, 0.8, 0.7]], np.float32)).tolist() == [2]
    assert found_as_near(missing, np.array([[0.95, 0.9, 0.85]], np.float32)).tolist() == [1]


def test_as_many_columns_are_answered_as_asked_for() -> None:
    config = IndexConfig.model_validate({"kind": "lsh", "lsh": {"candidates": 5}})
    built = build_index(clustered_vectors(), config)
    ids, scores = built.search(built.vectors[:3], 10)
    assert ids.shape == scores.shape == (3, 10)


@pytest.mark.parametrize("num_items", [1, 2, 3, 15, 17])
@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_catalogs_have_every_kind_of_index(
    tmp_path: Path, kind: str, num_items: int
) -> None:
    vectors = clustered_vectors(num_items)
    built = build_index(vectors, IndexConfig.model_validate({"kind": kind}))
    with publish(tmp_path / "index", stage="index", config={}, parents={}) as draft:
        save_index(built, draft)
    ids, _ = open_index(tmp_path / "index").search(vectors, 1)
    np.testing.assert_array_equal(ids[:, 0], np.arange(num_items))

import faiss
import numpy as np
import pytest

from pinsage.retrieval.approximate import FaissConfig, FaissIndex
from pinsage.retrieval.exact import ExactIndex
from pinsage.retrieval.index import IndexConfig, build_index
from pinsage.retrieval.strategy import brute_below

NUM_ITEMS, CLUSTERS, K = 20_000, 50, 10


def clustered() -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around 50 centers, and which center each has."""
    rng = np.random.default_rng(3)
    of = rng.integers(CLUSTERS, size=NUM_ITEMS)
    rows = rng.standard_normal((CLUSTERS, 16))[of] + 0.5 * rng.standard_normal((NUM_ITEMS, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), of


VECTORS, CLUSTER_OF = clustered()
QUERIES = VECTORS[:60]
TRUTH = ExactIndex(VECTORS)


@pytest.fixture(scope="module", params=["hnsw", "ivf", "ivf_pq", "lsh"])
def index(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    faiss = FaissConfig(build_width=60, cells=100, code_bytes=4)
    return build_index(VECTORS, IndexConfig(kind=request.param, faiss=faiss))


def recall_of(index, allowed, exclude=None) -> float:  # type: ignore[no-untyped-def]
    found, scores = index.search(QUERIES, K, exclude, allowed)
    truth, _ = TRUTH.search(QUERIES, K, exclude, allowed)
    assert allowed[found[found >= 0]].all()
    assert ((found >= 0).sum(axis=1) == (truth >= 0).sum(axis=1)).all()
    assert (np.diff(scores, axis=1)[:, : max((truth >= 0).sum(1).min() - 1, 0)] <= 0).all()
    hits = sum(np.isin(a[a >= 0], b).sum() for a, b in zip(truth, found, strict=True))
    return hits / (truth >= 0).sum()


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.95, 0.999, 1.0])
def test_recall_stays_at_every_share_of_allowed_items(index, share: float) -> None:  # type: ignore[no-untyped-def]
    allowed = np.random.default_rng(5).permutation(NUM_ITEMS) < share * NUM_ITEMS
    assert recall_of(index, allowed) >= 0.95
    selves = [np.array([row]) for row in range(len(QUERIES))]
    assert recall_of(index, allowed, selves) >= 0.95


def test_recall_stays_where_a_filter_rules_out_a_query_s_own_surroundings(index) -> None:  # type: ignore[no-untyped-def]
    for cluster in range(3):
        # 60 queries from all clusters: to some it takes all that is near, to others nothing.
        assert recall_of(index, CLUSTER_OF[cluster] != CLUSTER_OF) >= 0.95
    assert recall_of(index, CLUSTER_OF % 2 == 0) >= 0.95


def test_long_lists_of_exclusions_keep_recall_and_are_kept_out(index) -> None:  # type: ignore[no-untyped-def]
    best, _ = TRUTH.search(QUERIES, 200)
    everything = np.ones(NUM_ITEMS, bool)
    assert recall_of(index, everything, [row[: 3 * place] for place, row in enumerate(best)]) > 0.95
    found, _ = index.search(QUERIES, K, list(best))
    assert not (found[:, :, None] == best[:, None, :]).any()


def test_the_strategy_follows_the_share_and_is_counted(index) -> None:  # type: ignore[no-untyped-def]
    few = np.arange(NUM_ITEMS) < brute_below(NUM_ITEMS, K)
    before = index.counts.snapshot()
    index.search(QUERIES, K, allowed=few)
    index.search(QUERIES[:1], K, allowed=~few)
    index.search(QUERIES[:2], K)
    after = index.counts.snapshot()
    grown = {name: after[name] - before.get(name, 0) for name in ("brute", "wide", "plain")}
    assert grown["brute"] >= 60
    assert (grown["wide"], grown["plain"]) == (1, 2)


def test_nothing_allowed_is_an_empty_answer_and_a_filter_of_another_catalog_refused(index) -> None:  # type: ignore[no-untyped-def]
    found, scores = index.search(QUERIES[:2], K, allowed=np.zeros(NUM_ITEMS, bool))
    assert (found == -1).all()
    assert np.isneginf(scores).all()
    with pytest.raises(ValueError, match="one value for each of the 20000 items"):
        index.search(QUERIES[:2], K, allowed=np.ones(9, bool))


@pytest.mark.gpu
@pytest.mark.skipif(
    not getattr(faiss, "get_num_gpus", lambda: 0)(), reason="faiss has no GPU to use here"
)
@pytest.mark.parametrize("kind", ["flat", "ivf", "ivf_pq"])
def test_on_a_gpu_the_same_items_are_found(kind: str) -> None:
    settings = FaissConfig(cells=100)
    index = build_index(VECTORS, IndexConfig.model_validate({"kind": kind, "faiss": settings}))
    assert isinstance(index, FaissIndex)
    assert index.on_gpu
    assert recall_of(index, np.ones(NUM_ITEMS, bool)) >= 0.95
    assert recall_of(index, np.arange(NUM_ITEMS) % 2 == 0) >= 0.95

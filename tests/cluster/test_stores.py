import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray

from pinsage.base.errors import ArtifactError, ShardUnavailableError, WalkLostError
from pinsage.cluster.store_actor import Kept, Part, Store
from pinsage.cluster.stores import RemoteFeatures, Share, StoreConfig, Stores, open_stores, share_of
from pinsage.graph.choice import ChoiceConfig
from pinsage.graph.features import FeatureShard
from pinsage.sampling.messages import SeedRange
from pinsage.sampling.minibatch import FeatureSource
from tests.cluster.graphs import NUM_ITEMS, WIDTH, publish_graph, small_graph

pytestmark = pytest.mark.ray

SEEDS = SeedRange(0, NUM_ITEMS, key=1, num_walks=50, walk_length=2, restart=0.5)
KEPT = Kept(num_neighbors=10)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_graph(tmp_path_factory.mktemp("stores") / "graph", small_graph(), 2)


@pytest.fixture
def stores(local_ray: None, graph: Path):
    with open_stores(graph, ChoiceConfig(), StoreConfig(request_timeout_s=60)) as opened:
        yield opened


def test_features_come_from_stores_and_from_files_at_hand_in_the_order_asked_for(
    stores: Stores, graph: Path
) -> None:
    item_ids = np.random.default_rng(1).integers(0, NUM_ITEMS, 500)
    expected = np.repeat(item_ids[:, None], WIDTH, axis=1).astype(np.float32)
    for local in ({}, {1: FeatureShard.open(graph, 1, 2)}):
        source = RemoteFeatures(stores, NUM_ITEMS, WIDTH, local)
        assert isinstance(source, FeatureSource)
        np.testing.assert_array_equal(source.gather(item_ids), expected)
        assert source.gather(item_ids[:0]).shape == (0, WIDTH)
    with pytest.raises(ValueError, match=f"item_ids must lie in 0..{NUM_ITEMS - 1}"):
        source.gather(np.array([NUM_ITEMS]))


def test_an_answer_lost_with_its_node_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = ray.exceptions.ObjectLostError("00", None, "")
    given = iter([lost, ray.exceptions.ActorUnavailableError("gone", None), 7])
    asked = []

    def get(call: object, timeout: float) -> object:
        answer = next(given)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("pinsage.cluster.stores.ray.get", get)
    actor = SimpleNamespace(open=SimpleNamespace(remote=lambda: asked.append("open")))
    stores = Stores(
        [actor], StoreConfig(request_timeout_s=60), Share(threads=1, under_way=1, visits=1)
    )
    assert stores.open() == 7
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("nodes", "stores", "expected"),
    [
        ([2], 1, Share(threads=2, under_way=3, visits=1_000)),
        ([2], 2, Share(threads=1, under_way=2, visits=1_000)),
        # Here one store works while another waits; twice as many visits, half as many at a time.
        ([2], 4, Share(threads=1, under_way=1, visits=2_000)),
        # Messages between nodes take time, which more walks fill.
        ([2, 2], 8, Share(threads=1, under_way=2, visits=1_000)),
        # The smallest node counts, and one without cores not at all.
        ([16, 4, 0], 2, Share(threads=4, under_way=5, visits=1_000)),
    ],
)
def test_stores_share_out_the_cores_of_the_smallest_node(
    monkeypatch: pytest.MonkeyPatch, nodes: list[int], stores: int, expected: Share
) -> None:
    alive = [
        {"Alive": True, "Resources": {"CPU": cores, "object_store_memory": 2**32}}
        for cores in nodes
    ]
    monkeypatch.setattr("pinsage.cluster.stores.ray.nodes", lambda: alive)
    assert share_of(stores, StoreConfig(visits_per_round=1_000)) == expected


def test_visits_under_way_fill_half_of_the_smallest_object_store_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = {"Alive": True, "Resources": {"CPU": 2, "object_store_memory": 64_000}}
    monkeypatch.setattr("pinsage.cluster.stores.ray.nodes", lambda: [node])
    # Eight bytes a visit, of two walks under way in each of two stores.
    assert share_of(2, StoreConfig()).visits == 64_000 // 2 // 8 // 2 // 2


def test_a_killed_store_comes_back_and_a_walk_it_had_a_part_in_is_known_to_be_lost(
    stores: Stores,
) -> None:
    assert stores.walk((0, 0, 0), SEEDS, KEPT) == NUM_ITEMS
    # A dead process cannot answer: what opens next is the one that was started in its place.
    os.kill(ray.get(stores.actors[1].process_id.remote()), signal.SIGKILL)
    stores.open()
    with pytest.raises(WalkLostError, match="shard 1 was started again while walks were"):
        stores.write([(0, 0, 0)], [[Part(0, {})], [Part(0, {})]])
    assert stores.walk((0, 1, 0), SEEDS, KEPT) == NUM_ITEMS


def test_a_store_that_does_not_answer_is_named(local_ray: None, graph: Path) -> None:
    with open_stores(graph, ChoiceConfig(), StoreConfig(request_timeout_s=60)) as opened:
        stores = Stores(opened.actors, StoreConfig(request_timeout_s=2), opened.share)
        process = ray.get(opened.actors[1].process_id.remote())
        os.kill(process, signal.SIGSTOP)
        try:
            unavailable = r"shard 1 gave no answer within 2 s; .* raise stores\.request_timeout_s"
            with pytest.raises(ShardUnavailableError, match=unavailable):
                stores.walk((0, 0, 0), SEEDS, KEPT)
            with pytest.raises(ShardUnavailableError, match=unavailable):
                RemoteFeatures(stores, NUM_ITEMS, WIDTH, {}).gather(np.arange(10))
        finally:
            os.kill(process, signal.SIGCONT)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_shard_is_named_and_never_walked_over(damage: str, tmp_path: Path) -> None:
    graph = publish_graph(tmp_path / "graph", small_graph(), 2)
    path = next(graph.glob("shard-00001-*/context_items.npy"))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-4:]
    else:
        content[-4] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"shard-00001-of-00002/context_items\.npy"):
        Store(graph, 1, ChoiceConfig()).open()


def test_a_damaged_shard_stops_the_start_of_the_stores(local_ray: None, tmp_path: Path) -> None:
    graph = publish_graph(tmp_path / "graph", small_graph(), 2)
    path = next(graph.glob("shard-00001-*/item_contexts.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with (
        pytest.raises(ArtifactError, match=r"shard-00001-of-00002.*SHA-256"),
        open_stores(graph, ChoiceConfig(), StoreConfig(request_timeout_s=60)),
    ):
        pass

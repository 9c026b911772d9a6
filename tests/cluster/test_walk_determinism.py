"""The neighborhood table has the same bytes however it is walked."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from pinsage.base.artifacts import Draft
from pinsage.base.errors import DataError
from pinsage.cluster import walkers
from pinsage.cluster.stores import StoreConfig
from pinsage.cluster.walkers import is_local, walk_all
from pinsage.graph.choice import ChoiceConfig, edge_chances
from pinsage.kernels.packing import pack
from pinsage.sampling.neighborhood import HardNegativeConfig, WalkConfig, walk_chunk
from tests.cluster.graphs import NUM_ITEMS, publish_graph, small_graph

pytestmark = pytest.mark.ray

SEED = 7
NAMES = ("neighbor_ids", "weights", "hard_negatives")
HARD = HardNegativeConfig(first_rank=30, last_rank=90, num_candidates=20, num_walks=150)
CHOICES = {
    "uniform": ChoiceConfig(by_weight=False),
    "chances": ChoiceConfig(half_life=20.0, degree_power=-0.5),
}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """One graph in 1, 3 and 8 shards."""
    folder, whole = tmp_path_factory.mktemp("graphs"), small_graph()
    return {
        num_shards: publish_graph(folder / f"{num_shards:012d}", whole, num_shards)
        for num_shards in (1, 3, 8)
    }


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[str, ...]]:
    """The digests of a table that one kernel call made of the whole graph."""
    whole = small_graph()
    digests = {}
    for name, choice in CHOICES.items():
        chances = edge_chances(whole, choice, whole.item_degrees)
        packed = pack(
            whole.item_starts,
            whole.item_contexts,
            whole.context_starts,
            whole.context_items,
            item_chances=chances[0],
            context_chances=chances[1],
        )
        rows = walk_chunk(packed, np.arange(NUM_ITEMS), walk=WalkConfig(), hard=HARD, seed=SEED)
        digests[name] = tuple(map(digest, (rows.ids, rows.weights, rows.hard_negatives)))
    return digests


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()


def walk(graph: Path, folder: Path, choice: str, size: int, stores: StoreConfig) -> tuple[str, ...]:
    """The digests of the table as a run writes it into a folder, perhaps not for the first time."""
    folder.mkdir(exist_ok=True)
    config = WalkConfig(items_per_chunk=size, choice=CHOICES[choice])
    walk_all(graph, Draft(folder), walk=config, hard=HARD, seed=SEED, stores=stores)
    return tuple(digest(np.load(folder / f"{name}.npy")) for name in NAMES)


@pytest.mark.parametrize(
    ("num_shards", "size", "choice", "stores"),
    [
        (1, 701, "uniform", {"mode": "local", "threads": 1}),
        (3, 100, "chances", {"mode": "local", "threads": 2}),
        (1, 350, "chances", {"mode": "sharded"}),
        (3, 65_536, "uniform", {"mode": "sharded", "threads": 2}),
        (3, 200, "chances", {"mode": "sharded", "visits_per_round": 20_000}),
        (8, 333, "uniform", {"mode": "sharded", "visits_per_round": 400_000}),
    ],
)
def test_the_table_is_the_same_for_any_threads_shards_chunks_and_mode(
    local_ray: None, graphs, expected, tmp_path, num_shards, size, choice, stores
) -> None:
    found = walk(graphs[num_shards], tmp_path / "out", choice, size, StoreConfig(**stores))
    assert found == expected[choice]


def test_a_sharded_walk_cut_short_and_resumed_in_either_way_makes_the_same_table(
    local_ray: None, graphs, expected, tmp_path
) -> None:
    folder = tmp_path / "out"
    for mode in ("sharded", "sharded", "local"):
        assert (
            walk(graphs[3], folder, "chances", 150, StoreConfig(mode=mode)) == expected["chances"]
        )
        # A run killed in the middle leaves whole files behind, of some chunks and shards.
        parts = sorted((folder / ".scratch").glob("*-000000000300-*"))
        for path in parts[::2] if len(parts) == 9 else parts:
            path.unlink()


@pytest.mark.parametrize("mode", ["local", "sharded"])
def test_walks_that_fade_edges_without_times_are_refused(local_ray: None, tmp_path, mode) -> None:
    bare = dataclasses.replace(small_graph(), item_ages=None, context_ages=None)
    graph = publish_graph(tmp_path / f"{1:012d}", bare, 2)
    with pytest.raises(DataError, match=r"walk\.choice\.half_life is set, but .* no times"):
        walk(graph, tmp_path / "out", "chances", 300, StoreConfig(mode=mode))


def test_one_process_walks_while_the_graph_fits_its_share_of_memory(monkeypatch) -> None:
    monkeypatch.setattr(walkers, "memory_bytes", lambda: 1_000)
    assert is_local("auto", 500, 0.5)
    assert not is_local("auto", 501, 0.5)
    assert is_local("local", 10_000, 0.5)
    assert not is_local("sharded", 1, 0.5)

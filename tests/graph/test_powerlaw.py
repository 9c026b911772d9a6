import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from pinsage.base.config import load_config
from pinsage.base.errors import ConfigError
from pinsage.cluster.run_config import RunConfig
from pinsage.graph import powerlaw_tables
from pinsage.graph.powerlaw import PowerLaw
from pinsage.graph.powerlaw_tables import SyntheticConfig, write_power_law

GRAPH = PowerLaw(num_items=20_000, num_contexts=6_000, num_edges=200_000, num_communities=100)
SMALL = PowerLaw(num_items=900, num_contexts=400, num_edges=6_000, num_communities=20)


def edges(graph: PowerLaw, num_parts: int = 1) -> np.ndarray:
    """All edges as `context * num_items + item`, sorted."""
    parts = [graph.edges_of_part(part, num_parts) for part in reversed(range(num_parts))]
    items, contexts = (np.concatenate(side).astype(np.int64) for side in zip(*parts, strict=True))
    return np.sort(contexts * graph.num_items + items)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }


def tables(output: Path, **settings: object) -> SyntheticConfig:
    return SyntheticConfig.model_validate({
        "output": output,
        "graph": SMALL,
        "edges_per_file": 1_500,
        "weights": True,
        "timestamps": True,
        "num_pairs": 2_000,
        **settings,
    })


@pytest.mark.parametrize("num_parts", [3, 8])
def test_the_number_of_parts_and_their_order_change_no_edge(num_parts: int) -> None:
    np.testing.assert_array_equal(edges(GRAPH, num_parts), edges(GRAPH))


def test_every_edge_is_there_once_and_the_seed_decides_which() -> None:
    made = edges(GRAPH)
    assert len(np.unique(made)) == len(made) == GRAPH.num_edges
    other = edges(GRAPH.model_copy(update={"seed": 1}))
    assert len(np.intersect1d(made, other)) < len(made) / 10


def test_parts_are_alike_in_size() -> None:
    sizes = [len(GRAPH.edges_of_part(part, 4)[0]) for part in range(4)]
    assert max(sizes) < 1.2 * min(sizes)


@pytest.mark.parametrize("side", ["items", "contexts"])
def test_few_nodes_hold_most_edges_and_degrees_fall_over_decades(side: str) -> None:
    item_ids, context_ids = GRAPH.edges_of_part(0, 1)
    ids, count = {
        "items": (item_ids, GRAPH.num_items),
        "contexts": (context_ids, GRAPH.num_contexts),
    }[side]
    degrees = np.sort(np.bincount(ids, minlength=count))[::-1]
    head = degrees[: count // 100].sum() / degrees.sum()
    assert 0.08 < head < 0.5
    assert degrees[0] > 30 * np.median(degrees)
    # A straight line, more or less: contexts fall as -0.75, items less, being ranked twice.
    ranks = np.array([count // 200, count // 10])
    slope = np.diff(np.log(degrees[ranks]))[0] / np.diff(np.log(ranks))[0]
    assert -1.0 < slope < -0.4


def test_edges_stay_in_communities_but_for_strays_and_overfull_contexts() -> None:
    item_ids, context_ids = GRAPH.edges_of_part(0, 1)
    same = GRAPH.item_communities(item_ids) == GRAPH.context_communities(context_ids)
    small = np.bincount(context_ids)[context_ids] < 50
    assert 0.78 < same[small].mean() < 0.83
    assert 0.5 < same.mean() < 0.8


def test_ids_tell_nothing_of_degree_or_community() -> None:
    degrees = np.bincount(GRAPH.edges_of_part(0, 1)[0], minlength=GRAPH.num_items)
    first, second = degrees[: GRAPH.num_items // 2], degrees[GRAPH.num_items // 2 :]
    assert 0.8 < first.sum() / second.sum() < 1.25
    communities = GRAPH.item_communities(np.arange(GRAPH.num_items))
    assert (communities[:-1] == communities[1:]).mean() < 0.05


def test_a_pair_is_two_items_of_one_community_whatever_it_is_drawn_with() -> None:
    queries, positives = SMALL.pairs(0, 3_000)
    assert (queries != positives).all()
    assert (SMALL.item_communities(queries) == SMALL.item_communities(positives)).all()
    np.testing.assert_array_equal(SMALL.pairs(1_000, 500)[1], positives[1_000:1_500])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_communities": 600}, "num_items must be at least 1200, found 1000"),
        ({"num_edges": 30_000, "num_contexts": 20}, "of the 1000 items, wanted at most half"),
        ({"stray_share": 1.5}, "less than or equal to 1"),
    ],
)
def test_a_graph_that_cannot_be_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PowerLaw(**{"num_items": 1_000, "num_communities": 10, "num_edges": 5_000} | settings)


def test_the_number_of_threads_changes_no_byte(tmp_path: Path) -> None:
    for threads in (1, 3):
        write_power_law(tables(tmp_path / str(threads), num_threads=threads))
    written = digests(tmp_path / "1")
    assert written == digests(tmp_path / "3")
    assert sum(name.startswith("edges/") for name in written) == 4
    assert sum(name.startswith("pairs/") for name in written) == 2


def test_a_resumed_run_equals_an_unbroken_one_and_keeps_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_power_law(tables(tmp_path / "unbroken"))
    calls = []

    def break_at_the_third(table: object, path: Path, **settings: object) -> None:
        calls.append(path)
        if len(calls) == 3:
            Path(path).write_bytes(b"half a fi")
            raise OSError("disk full")
        write(table, path, **settings)

    write = pq.write_table
    monkeypatch.setattr(powerlaw_tables.pq, "write_table", break_at_the_third)
    with pytest.raises(OSError, match="disk full"):
        write_power_law(tables(tmp_path / "broken", num_threads=1))
    monkeypatch.undo()
    found = len(digests(tmp_path / "broken"))
    assert not (tmp_path / "broken" / "recipe.yaml").exists()
    assert write_power_law(tables(tmp_path / "broken"))["files_found"] == found >= 2
    assert digests(tmp_path / "broken") == digests(tmp_path / "unbroken")


def test_tables_of_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    write_power_law(tables(tmp_path))
    with pytest.raises(ConfigError, match="holds tables of other settings"):
        write_power_law(tables(tmp_path, weights=False))


@pytest.mark.parametrize("string_keys", [False, True])
@pytest.mark.parametrize("extras", [False, True])
def test_ingest_reads_what_the_recipe_says(
    bench, tmp_path: Path, string_keys: bool, extras: bool
) -> None:
    config = tables(
        tmp_path / "tables",
        string_keys=string_keys,
        weights=extras,
        timestamps=extras,
        num_pairs=1_000 * extras,
        feature_width=8 * extras,
    )
    write_power_law(config)
    recipe = load_config(RunConfig, tmp_path / "tables" / "recipe.yaml")
    graph = bench.ingest(recipe.data)
    assert graph.num_items == SMALL.num_items
    assert graph.counts.repeated_edges == 0
    assert graph.counts.feature_groups.get("content", 0) == 8 * extras
    assert graph.num_edges + sum(graph.counts.left_out_edges.values()) == SMALL.num_edges
    key = "item-7" if string_keys else "7"
    item_id = graph.catalog().id_of(key)
    assert graph.catalog().metadata(item_id)["community"] == SMALL.item_communities(np.array([7]))

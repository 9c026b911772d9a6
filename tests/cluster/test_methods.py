"""The methods that need no training, opened from a published graph."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinsage.base.artifacts import publish
from pinsage.cluster.methods import feature_methods
from pinsage.evaluation import FeatureCosine
from pinsage.graph import DataConfig, Graph
from pinsage.graph.ingest import ingest

NUM_ITEMS = 20_000
"""More than are scaled together."""
WIDTHS = {"text": 5, "visual": 3}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Two groups of random features, of lengths that differ."""
    folder: Path = tmp_path_factory.mktemp("graph")
    draw = np.random.default_rng(0)
    items = {"item_id": np.arange(NUM_ITEMS)} | {
        name: list(draw.normal(size=(NUM_ITEMS, width)) * draw.integers(4, size=(NUM_ITEMS, 1)))
        for name, width in WIDTHS.items()
    }
    edges = {"item_id": np.arange(40), "context_id": np.arange(40) // 4}
    for name, table in {"items": items, "edges": edges}.items():
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    config = DataConfig.model_validate({
        "items": {
            "path": str(folder / "items.parquet"),
            "features": [{"name": name, "column": name} for name in WIDTHS],
        },
        "edges": [{"path": str(folder / "edges.parquet")}],
        "split": {"test": 0.3},
    })
    with publish(folder / "graph", stage="graph", config={}, parents={}) as draft:
        ingest(config, draft, num_shards=2, seed=0)
    return Graph.open(folder / "graph")


def test_cosines_of_groups_are_those_of_all_features_scaled_at_once(graph: Graph) -> None:
    rows = graph.features().gather(np.arange(NUM_ITEMS))
    found = feature_methods(graph)
    assert list(found) == list(WIDTHS)
    for group in WIDTHS:
        at_once = FeatureCosine(rows[:, graph.feature_columns[group]])
        assert np.array_equal(found[group].vectors, at_once.vectors)


def test_one_group_may_be_had_alone(graph: Graph) -> None:
    alone = feature_methods(graph, "visual")
    assert list(alone) == ["visual"]
    assert np.array_equal(alone["visual"].vectors, feature_methods(graph)["visual"].vectors)

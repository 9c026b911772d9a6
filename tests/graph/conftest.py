"""Tables of a handful of items, written and ingested in a temporary folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinsage.base.artifacts import publish
from pinsage.graph import DataConfig, Graph
from pinsage.graph.guess import Guess, Told, guess_tables
from pinsage.graph.ingest import Order, ingest
from pinsage.graph.structure import StructureConfig

Columns = Mapping[str, Any]
NUM_ITEMS = 50


def text_keys() -> list[str]:
    """Keys of as many items."""
    return [f"pin {number}" for number in range(NUM_ITEMS)]


@pytest.fixture
def guess(tmp_path: Path):
    """Write three tables, then look at them."""

    def look(
        items: dict[str, Any],
        edges: dict[str, Any],
        pairs: dict[str, Any] | None = None,
        **told: Any,
    ) -> Guess:
        paths = {}
        for name, columns in {"items": items, "edges": edges, "pairs": pairs}.items():
            paths[name] = None
            if columns is not None:
                paths[name] = str(tmp_path / f"{name}.parquet")
                pq.write_table(pa.table(columns), paths[name])
        return guess_tables(paths["items"], paths["edges"], paths["pairs"], Told(**told))

    return look


@dataclass
class Workbench:
    """A folder of input tables, and the graphs made of them."""

    folder: Path
    published: list[Path] = field(default_factory=list)

    def write(self, name: str, columns: Columns) -> str:
        """Write a Parquet file and give its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(dict(columns)), path)
        return str(path)

    def ingest(
        self,
        config: DataConfig,
        *,
        num_shards: int = 1,
        seed: int = 0,
        structure: StructureConfig | None = None,
        basis: Graph | None = None,
        order: Order = "given",
    ) -> Graph:
        """Publish a graph in a directory of its own, and open it with all digests checked."""
        directory = self.folder / "graph" / f"{len(self.published):012d}"
        directory.parent.mkdir(exist_ok=True)
        with publish(directory, stage="graph", config={}, parents={}) as draft:
            ingest(
                config,
                draft,
                num_shards=num_shards,
                seed=seed,
                structure=structure,
                basis=basis,
                order=order,
            )
        self.published.append(directory)
        return Graph.open(directory, check_digests=True)

    def six(self, **changed: Columns) -> DataConfig:
        """Write six items, a to f, of which f is cold; item number v has the features [v, v].

        Contexts x = {a, b, c}, y = {b, d}, z = {e}. Any table can be replaced.
        """
        tables: dict[str, Columns] = {
            "items": {
                "item_id": list("abcdef"),
                "title": [f"Item {key}" for key in "abcdef"],
                "size": pa.array([[v, v] for v in range(6)], pa.list_(pa.float32(), 2)),
            },
            "edges": {"item_id": list("abcbde"), "context_id": list("xxxyyz")},
            "pairs": {
                "query_item": list("abcd"),
                "positive_item": list("bcab"),
                "split": ["train", "train", "valid", "test"],
            },
        } | changed
        paths = {name: self.write(f"{name}.parquet", table) for name, table in tables.items()}
        return DataConfig.model_validate({
            "items": {
                "path": paths["items"],
                "title": "title",
                "features": [{"name": "size", "column": "size"}],
            },
            "edges": [{"path": paths["edges"]}],
            "pairs": {"path": paths["pairs"], "split": "split"},
        })


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


@pytest.fixture
def changed() -> Callable[[DataConfig, Mapping[str, Any]], DataConfig]:
    """Change settings by their dotted names, as `--set` does."""

    def change(config: DataConfig, settings: Mapping[str, Any]) -> DataConfig:
        tree = config.model_dump(mode="json")
        for name, value in settings.items():
            *parents, last = [int(part) if part.isdigit() else part for part in name.split(".")]
            node: Any = tree
            for parent in parents:
                node = node[parent]
            node[last] = value
        return DataConfig.model_validate(tree)

    return change

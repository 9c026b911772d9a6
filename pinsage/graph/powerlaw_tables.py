"""Tables of a power-law graph of any size, and the recipe that runs on them.

`items/`, `edges/` and `pairs/` hold numbered Parquet files. Each is a pure function of the settings
and its number, written whole or not at all: they can be written in any order and by any number of
threads, and a rerun writes only those that are missing. `recipe.yaml` comes last.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from jaxtyping import Int
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from pinsage.base.addresses import LocalPath
from pinsage.base.config import Config, dump_config
from pinsage.base.errors import ConfigError
from pinsage.base.files import whole_file
from pinsage.base.logs import Progress
from pinsage.base.seeding import Stream, stream, uniform_by_id
from pinsage.graph.powerlaw import PowerLaw

SETTINGS_FILE = "synthetic.yaml"
RECIPE_FILE = "recipe.yaml"

# What the draws are for, apart from those of `powerlaw.py`, which count from 100.
_CENTERS, _NOISE, _WEIGHTS, _TIMES = range(200, 204)

_ITEMS_PER_FILE = 2**16
_ROWS_PER_GROUP = 2**20
_FIRST_TIME_S = 1_600_000_000
_PERIOD_S = 365 * 24 * 3_600


class SyntheticConfig(Config):
    """Tables of a made-up catalog, and where to write them."""

    output: LocalPath
    """Folder for the tables."""
    name: str = "synthetic"
    """What the run of the recipe is called."""
    graph: PowerLaw = PowerLaw()
    edges_per_file: PositiveInt = 2**22
    """Edges or pairs of one Parquet file; 100 bytes of memory each while it is written."""
    string_keys: bool = False
    """Keys such as `item-12` and `context-7`; otherwise they are whole numbers."""
    weights: bool = False
    """Add a column `weight` to the edges: positive, 1 on average."""
    timestamps: bool = False
    """Add a column `timestamp` to the edges: a second of one year."""
    num_pairs: NonNegativeInt = 0
    """Labelled pairs, of two items of one community; 0 writes none, and ingest derives them."""
    feature_width: NonNegativeInt = 16
    """Width of the feature group `content`; 0 writes none."""
    feature_noise: PositiveFloat = 1.0
    """Standard deviation of an item's features around its community's center, whose own numbers
    have standard deviation 1."""
    num_threads: PositiveInt = 2
    """How many files are written at a time; changes none of them."""


def write_power_law(config: SyntheticConfig) -> dict[str, int]:
    """Write the tables and the recipe; whole files from an earlier run stay as they are.

    Returns:
        How many items, edges, pairs and files there are, and how many files were found.

    Raises:
        ConfigError: the folder holds tables of other settings.
    """
    _claim(config)
    graph = config.graph
    num_edge_files = graph.num_parts(config.edges_per_file)
    work: list[tuple[Path, Callable[[], pa.Table]]] = []

    def add(table: str, count: int, make: Callable[[int], pa.Table]) -> None:
        for part in range(count):
            path = config.output / table / f"part-{part:05d}.parquet"
            work.append((path, partial(make, part)))

    add("items", -(-graph.num_items // _ITEMS_PER_FILE), lambda part: _items(config, part))
    add("edges", num_edge_files, lambda part: _edges(config, part, num_edge_files))
    add("pairs", -(-config.num_pairs // config.edges_per_file), lambda part: _pairs(config, part))
    missing = [(path, make) for path, make in work if not path.exists()]
    with (
        Progress("synthesize", total=len(work), unit="files") as progress,
        ThreadPoolExecutor(config.num_threads) as threads,
    ):
        done = len(work) - len(missing)
        progress.set(done)
        for name in threads.map(_write, *zip(*missing, strict=True)) if missing else ():
            done += 1
            progress.set(done, name)
    with whole_file(config.output / RECIPE_FILE) as path:
        path.write_text(_recipe(config), encoding="utf-8")
    return {
        "items": graph.num_items,
        "edges": graph.num_edges,
        "pairs": config.num_pairs,
        "files": len(work),
        "files_found": len(work) - len(missing),
    }


def _claim(config: SyntheticConfig) -> None:
    """Make the folder, and note which settings its tables are of."""
    free = {"output": Path(), "num_threads": 1, "name": "synthetic"}
    settings = dump_config(config.model_copy(update=free))
    path = config.output / SETTINGS_FILE
    for folder in ("items", "edges", "pairs"):
        (config.output / folder).mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with whole_file(path) as temporary:
            temporary.write_text(settings, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != settings:
        raise ConfigError(
            f"{config.output}: holds tables of other settings, see {path}; choose another "
            "`output`, or delete that folder"
        )


def _write(path: Path, make: Callable[[], pa.Table]) -> str:
    with whole_file(path) as temporary:
        pq.write_table(make(), temporary, compression="zstd", row_group_size=_ROWS_PER_GROUP)
    return f"{path.parent.name}/{path.name}"


def _items(config: SyntheticConfig, part: int) -> pa.Table:
    graph = config.graph
    first = part * _ITEMS_PER_FILE
    ids = np.arange(first, min(first + _ITEMS_PER_FILE, graph.num_items))
    communities = graph.item_communities(ids)
    columns = {"item_id": _keys(config, "item", ids), "community": pa.array(communities)}
    if config.feature_width:
        width = config.feature_width
        distinct, places = np.unique(communities, return_inverse=True)
        centers = np.stack([
            stream(graph.seed, Stream.SYNTHETIC, _CENTERS, int(one)).standard_normal(
                width, np.float32
            )
            for one in distinct
        ])
        noise = stream(graph.seed, Stream.SYNTHETIC, _NOISE, part)
        features = noise.standard_normal((len(ids), width), np.float32)
        features *= np.float32(config.feature_noise)
        features += centers[places]
        columns["content"] = pa.FixedSizeListArray.from_arrays(
            pa.array(features.reshape(-1)), width
        )
    return pa.table(columns)


def _edges(config: SyntheticConfig, part: int, num_parts: int) -> pa.Table:
    graph = config.graph
    items, contexts = graph.edges_of_part(part, num_parts)
    columns = {
        "item_id": _keys(config, "item", items),
        "context_id": _keys(config, "context", contexts),
    }
    numbers = contexts.astype(np.int64) * graph.num_items + items
    if config.weights:
        uniform = uniform_by_id(graph.seed, Stream.SYNTHETIC, numbers, _WEIGHTS)
        columns["weight"] = pa.array(np.maximum(-np.log1p(-uniform), 1e-3).astype(np.float32))
    if config.timestamps:
        uniform = uniform_by_id(graph.seed, Stream.SYNTHETIC, numbers, _TIMES)
        columns["timestamp"] = pa.array(_FIRST_TIME_S + (uniform * _PERIOD_S).astype(np.int64))
    return pa.table(columns)


def _pairs(config: SyntheticConfig, part: int) -> pa.Table:
    first = part * config.edges_per_file
    count = min(config.edges_per_file, config.num_pairs - first)
    queries, positives = config.graph.pairs(first, count)
    return pa.table({
        "query_item": _keys(config, "item", queries),
        "positive_item": _keys(config, "item", positives),
    })


def _keys(config: SyntheticConfig, kind: str, ids: Int[np.ndarray, " n"]) -> pa.Array:
    keys = pa.array(ids, pa.int64())
    if not config.string_keys:
        return keys
    return pc.binary_join_element_wise(pa.scalar(kind), keys.cast(pa.string()), "-")


def _recipe(config: SyntheticConfig) -> str:
    """Say what `ray_jobs.pipeline` needs to run on the tables, all else by default."""
    folder = config.output.resolve()
    items: dict[str, Any] = {"path": f"{folder / 'items'}", "metadata": ["community"]}
    if config.feature_width:
        items["features"] = [{"name": "content", "column": "content"}]
    edges = {"path": f"{folder / 'edges'}"}
    edges |= {"weight": "weight"} if config.weights else {}
    edges |= {"timestamp": "timestamp"} if config.timestamps else {}
    data: dict[str, Any] = {"items": items, "edges": [edges]}
    if config.num_pairs:
        data["pairs"] = {"path": f"{folder / 'pairs'}"}
    recipe: dict[str, Any] = {"name": config.name, "output": f"{folder / 'run'}", "data": data}
    head = (
        f"# For the tables beside it: python -m ray_jobs.pipeline --config {folder / RECIPE_FILE}"
    )
    return f"{head}\n{yaml.safe_dump(recipe, sort_keys=False)}"

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pinsage.base.config import dump_config, load_config
from pinsage.cluster.run_config import RunConfig
from pinsage.graph.synthetic import write_tables
from tests.runs import ROOT

RECIPES = sorted((ROOT / "ray_jobs" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_its_resolved_form_is_a_recipe_too(
    recipe: Path, tmp_path: Path
) -> None:
    config = load_config(RunConfig, recipe)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(dump_config(config))
    assert load_config(RunConfig, resolved) == config


def test_the_committed_smoke_tables_are_what_the_generator_writes(tmp_path: Path) -> None:
    write_tables(tmp_path)
    for name in ("items", "edges", "pairs"):
        made = pq.read_table(tmp_path / f"{name}.parquet")
        assert pq.read_table(ROOT / "data" / "smoke" / f"{name}.parquet").equals(made), name

import json
from pathlib import Path

from pinsage.base.config import load_config
from pinsage.cluster.run_config import RunConfig
from pinsage.graph.powerlaw_tables import SyntheticConfig
from tests.runs import ROOT, start_job

SETTINGS = ROOT / "ray_jobs" / "recipes" / "graphs" / "power_law.yaml"


def test_the_job_writes_tables_and_a_recipe_that_loads(tmp_path: Path) -> None:
    arguments = ["--config", str(SETTINGS), "--set", f"output={tmp_path / 'made'}"]
    arguments += ["--set", "graph.num_edges=20000", "--set", "graph.seed=3"]
    output, errors = start_job("ray_jobs.synthesize", *arguments).communicate(timeout=120)
    result = json.loads(output.splitlines()[-1])
    assert result["edges"] == 20_000, errors
    recipe = load_config(RunConfig, Path(result["recipe"]))
    assert Path(recipe.data.edges[0].path) == tmp_path / "made" / "edges"
    assert Path(recipe.output) == tmp_path / "made" / "run"


def test_settings_that_no_graph_has_are_named(tmp_path: Path) -> None:
    job = start_job("ray_jobs.synthesize", "--config", str(SETTINGS), "--set", "graph.edges=1")
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 2
    assert "graph.edges: no such setting" in errors


def test_the_committed_settings_load() -> None:
    assert load_config(SyntheticConfig, SETTINGS).graph.num_edges == 1_000_000

"""What a user sees when something is wrong: one clear error, no traceback, nothing published."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.runs import ROOT, SMOKE, start_job


def run_job(module: str, tmp_path: Path, *settings: str, recipe: Path = SMOKE) -> tuple[int, str]:
    flags = [
        flag for setting in (f"output={tmp_path / 'out'}", *settings) for flag in ("--set", setting)
    ]
    job = start_job(module, "--config", str(recipe), *flags)
    _, errors = job.communicate(timeout=120)
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("out/*/*/manifest.json"))
    return job.returncode, errors


@pytest.mark.parametrize(
    ("module", "settings", "code", "words"),
    [
        (
            "ray_jobs.pipeline",
            ["train.minibatch.sise=3"],
            2,
            ["train.minibatch.sise", "did you mean size?"],
        ),
        (
            "ray_jobs.pipeline",
            ["data.items.path=data/smoke/itmes.parquet"],
            1,
            ["itmes.parquet", "no such"],
        ),
        (
            "ray_jobs.pipeline",
            ["walk.choice.half_life=10"],
            2,
            ["walk.choice.half_life wants a time on every edge"],
        ),
        ("ray_jobs.ingest", ["data.items.key=id"], 1, ["items.parquet", "'id'", "item_id"]),
        ("ray_jobs.train", [], 1, ["not published", "ray_jobs.ingest"]),
        (
            "ray_jobs.evaluate",
            ["evaluate.baselines=[combined]"],
            1,
            ["report reads graph", "not published", "ray_jobs.ingest"],
        ),
        ("serve", [], 1, ["generation.json", "ray_jobs.pipeline"]),
    ],
)
def test_an_error_says_what_where_and_what_to_do(
    tmp_path: Path, module: str, settings: list[str], code: int, words: list[str]
) -> None:
    found, errors = run_job(module, tmp_path, *settings)
    assert found == code
    for word in words:
        assert word in errors


def test_all_findings_in_the_tables_come_together_before_anything_is_written(
    tmp_path: Path,
) -> None:
    edges = pq.read_table(ROOT / "data/smoke/edges.parquet")
    bad = pa.table({
        "item_id": ["item-99999", None, *edges["item_id"].to_pylist()],
        "context_id": [*edges["context_id"].to_pylist()[:2], *edges["context_id"].to_pylist()],
    })
    pq.write_table(bad, tmp_path / "edges.parquet")
    recipe = tmp_path / "recipe.yaml"
    text = SMOKE.read_text().replace("data/smoke/edges.parquet", str(tmp_path / "edges.parquet"))
    recipe.write_text(text)
    code, errors = run_job("ray_jobs.pipeline", tmp_path, recipe=recipe)
    assert code == 1
    for word in ("edges.parquet", "1 of 6", "item-99999", "null"):
        assert word in errors


def test_a_reader_who_has_read_enough_is_no_error() -> None:
    script = "from ray_jobs._exit import exit_code; exit_code(lambda: print('line\\n' * 100_000))"
    job = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert job.stdout.readline() == "line\n"
    job.stdout.close()
    assert job.stderr.read() == ""


def test_a_broken_connection_of_ours_is_told() -> None:
    script = (
        "from ray_jobs._exit import exit_code\n"
        "def work(): raise BrokenPipeError(32, 'Broken pipe')\n"
        "raise SystemExit(exit_code(work))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "error: Broken pipe" in done.stderr

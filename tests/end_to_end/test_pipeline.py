"""The smoke recipe through every stage, on a real local Ray."""

import json
from pathlib import Path

import numpy as np
import pytest

from pinsage.base.artifacts import open_artifact
from pinsage.base.errors import ArtifactError, DataError
from pinsage.cluster import drivers
from pinsage.cluster.drivers import StageResult
from pinsage.cluster.run import Run
from pinsage.inference.export import read_embeddings
from ray_jobs.pipeline import closing_table, run_pipeline
from tests.end_to_end.conftest import Finished
from tests.runs import smoke_run

pytestmark = pytest.mark.ray


def report_of(run: Run) -> dict:
    return json.loads((run.report.directory / "report.json").read_text())


def test_every_stage_is_published_whole_and_names_its_parents(finished: Finished) -> None:
    run = finished.run
    for stage in run.stages:
        manifest = open_artifact(stage.directory, stage=stage.name, check_digests=True).manifest
        assert set(manifest.parents) == {parent.name for parent in stage.parents}
        for parent in stage.parents:
            assert manifest.parents[parent.name] == parent.open().manifest.digest
    generation = json.loads((run.output / "generation.json").read_text())
    for stage in run.stages:
        assert (run.output / generation[stage.name] / "manifest.json").exists()


def test_the_model_beats_every_baseline_on_the_made_up_catalog(finished: Finished) -> None:
    metrics = report_of(finished.run)["metrics"]
    assert set(metrics) >= {"pinsage", "popularity", "content", "item_cosine", "walk"}
    for name in ("popularity", "content", "item_cosine", "walk"):
        assert metrics["pinsage"]["hit_rate@10"] > metrics[name]["hit_rate@10"]
    assert metrics["pinsage"]["hit_rate@10"] > 5 * metrics["popularity"]["hit_rate@10"]


def test_all_edges_are_served_by_the_model_that_was_evaluated_where_nothing_is_held_out(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").symlink_to(finished.run.model.directory.parent)
    run = smoke_run(
        tmp_path,
        "data.pairs=null",
        "data.split={valid: 0, test: 0}",
        f"embed.model={finished.run.model.directory.name}",
    )
    run_pipeline(run)
    told = capsys.readouterr().out
    assert "nothing is held out to evaluate with" in told
    assert "left out" not in told
    generation = json.loads((tmp_path / "generation.json").read_text())
    assert set(generation) - {"format_version"} == {stage.name for stage in run.stages}
    assert "report" not in generation
    assert run.graph.manifest().counts["pairs"]["test"] == 0
    with pytest.raises(DataError, match="no pair has that split"):
        drivers.evaluate(run)


def test_a_rerun_finds_everything_and_changes_nothing(finished: Finished) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.run.output.rglob("*")}
    again = smoke_run(finished.run.output)
    results = [job(again) for job in drivers.JOBS.values()]
    assert all(result.was_published for result in results)
    assert {path: path.stat().st_mtime_ns for path in finished.run.output.rglob("*")} == before


def test_the_closing_table_tells_time_content_and_quality(finished: Finished) -> None:
    table = closing_table(finished.results, finished.run.output, seconds=12.3)
    for word in ("graph", "neighborhoods", "300 items", "12 s in all", "hit_rate@500", "pinsage"):
        assert word in table


def test_the_columns_of_quality_stand_in_line_whatever_methods_are_called(tmp_path: Path) -> None:
    metrics = {
        name: {"hit_rate@100000": 0.5, "hit_rate@1000000": 0.5, "scaled_mrr": 0}
        for name in ("pinsage", "v" * 40)
    }
    (tmp_path / "report.json").write_text(json.dumps({"metrics": metrics}))
    counts = {"pairs": 1, "candidates": 1}
    table = closing_table(
        [StageResult("report", tmp_path, 1.0, False, counts)], tmp_path, seconds=1
    )
    _, _rule, *rows = table.partition("method")[2].splitlines()
    assert len({row.index("0.500") for row in rows[:2]}) == 1
    assert " hit_rate@100000 " in table


@pytest.mark.parametrize("content", ["", "{}", '{"metrics": {"pinsage": {"hit_rate@1": "x"}}}'])
def test_a_damaged_report_ends_the_pipeline_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    report = StageResult("report", tmp_path, 1.0, True, {"pairs": 1, "candidates": 1})
    with pytest.raises(ArtifactError, match=f"delete {tmp_path} and run evaluate") as caught:
        closing_table([report], tmp_path, seconds=1)
    assert "\n" not in str(caught.value)


def test_a_changed_setting_publishes_beside_the_old_result(finished: Finished) -> None:
    changed = smoke_run(finished.run.output, "walk.num_walks=60")
    assert changed.graph.directory == finished.run.graph.directory
    assert changed.neighborhoods.directory != finished.run.neighborhoods.directory
    assert changed.model.directory != finished.run.model.directory


@pytest.mark.parametrize(
    "setting",
    ["train.num_workers=2", "train.prefetch=5", "embed.items_per_chunk=9", "serve.port=9000"],
)
def test_a_setting_that_cannot_change_results_changes_no_directory(
    finished: Finished, setting: str
) -> None:
    changed = smoke_run(finished.run.output, setting)
    assert [s.directory for s in changed.stages] == [s.directory for s in finished.run.stages]


def test_shards_and_chunks_do_not_change_a_byte_of_the_neighborhoods(
    finished: Finished, tmp_path: Path
) -> None:
    run = smoke_run(tmp_path, "graph.num_shards=3", "walk.items_per_chunk=64")
    drivers.ingest(run)
    drivers.walk(run)
    one, three = (r.neighborhoods.open().manifest.files for r in (finished.run, run))
    assert one == three


def test_chunks_do_not_change_embeddings(finished: Finished, copy_of_graph: Path) -> None:
    (copy_of_graph / "model").symlink_to(finished.run.model.directory.parent)
    run = smoke_run(copy_of_graph, "embed.items_per_chunk=77", "embed.num_workers=2")
    drivers.embed(run)
    np.testing.assert_allclose(
        read_embeddings(run.embeddings.directory),
        read_embeddings(finished.run.embeddings.directory),
        atol=1e-5,
    )
    counts = run.embeddings.open().manifest.counts
    assert counts["convolutions"] == 2 * 300

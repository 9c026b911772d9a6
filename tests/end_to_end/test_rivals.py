"""The baselines that are fitted, in the report of a finished run."""

import json
from pathlib import Path

import pytest

from pinsage.cluster import drivers
from pinsage.cluster.methods import factors_stage
from tests.end_to_end.conftest import Finished
from tests.runs import smoke_run

pytestmark = pytest.mark.ray


def test_factorizations_are_fitted_once_and_stand_in_the_report(
    finished: Finished, copy_of_graph: Path
) -> None:
    for stage in (finished.run.model, finished.run.embeddings):
        (copy_of_graph / stage.name).symlink_to(stage.directory.parent)
    settings = (
        "evaluate.baselines=[popularity, als, bpr]",
        "evaluate.als={factors: [4, 8], alpha: [1.0]}",
        "evaluate.bpr={factors: [4], regularization: [0.01]}",
        "evaluate.num_sheets=1",
    )
    run = smoke_run(copy_of_graph, *settings)
    report = json.loads((drivers.evaluate(run).directory / "report.json").read_text())
    assert list(report["metrics"]) == ["pinsage", "popularity", "als", "bpr"]
    for method in ("als", "bpr"):
        assert (
            report["metrics"][method]["hit_rate@10"]
            > report["metrics"]["popularity"]["hit_rate@10"]
        )
    fitted = factors_stage(run, "als").open()
    assert [point["factors"] for point in fitted.manifest.counts["tried"]] == [4, 8]
    before = fitted.path.stat().st_mtime_ns
    again = smoke_run(copy_of_graph, *settings, "evaluate.ks=[10]")
    drivers.evaluate(again)
    assert factors_stage(again, "als").directory == fitted.path
    assert fitted.path.stat().st_mtime_ns == before


def test_combined_is_an_mlp_on_content_beside_the_run(tmp_path: Path) -> None:
    run = smoke_run(
        tmp_path,
        "graph.structure={width: 8}",
        "embed={model: 0123456789ab, previous: ba9876543210}",
    )
    combined = run.combined
    assert combined.config.model.num_layers == 0
    assert combined.config.graph.structure is None
    assert combined.output == run.output
    assert combined.graph.directory != run.graph.directory
    assert combined.config.train == run.config.train
    # What the run takes as it was published is PinSage's.
    assert combined.model.directory.name != "0123456789ab"
    assert combined.previous_embeddings() is None


def test_a_report_is_named_after_all_that_its_figures_depend_on(finished: Finished) -> None:
    model = f"embed.model={finished.run.model.directory.name}"

    def report(baseline: str, *settings: str) -> str:
        run = smoke_run(finished.run.output, model, f"evaluate.baselines=[{baseline}]", *settings)
        return run.report.directory.name

    others = ("train.loss.margin=0.3", "evaluate.als={factors: [4]}", "evaluate.device=cpu")
    assert report("popularity") == report("popularity", *others)
    assert report("als") != report("als", "evaluate.als={factors: [4]}")
    assert report("als") == report("als", "evaluate.als={num_threads: 7}")
    # The model is published; what Combined is trained with is not.
    assert report("combined") != report("combined", "train.loss.margin=0.3")

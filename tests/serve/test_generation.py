import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from pinsage.base.artifacts import publish
from pinsage.base.errors import ArtifactError
from pinsage.cluster.generations import publish_generation
from pinsage.cluster.run_config import ServeConfig
from pinsage.retrieval import IndexConfig, build_index, save_index
from serve.api import build_api
from serve.generation import Generation, read_parts
from tests.serve.fakes import KEYS, NUM_ITEMS, write_generation


def test_a_generation_opens_everything_its_file_names(generation: Generation):
    assert generation.counts["items"] == NUM_ITEMS
    assert generation.catalog.keys == KEYS
    assert len(generation.index.vectors) == len(generation.neighborhoods.ids) == NUM_ITEMS
    assert generation.parts.names["graph"] == "graph/0123456789ab"


def test_quality_holds_the_numbers_of_the_report_alone(generation: Generation):
    assert generation.quality["text"] == {"hit_rate@10": 0.02, "hit_rate@100": 0.2}


def test_a_generation_without_a_report_has_no_quality(tmp_path: Path):
    assert Generation.open(write_generation(tmp_path, with_report=False)).quality == {}


def test_equal_files_name_the_same_generation_and_others_another(tmp_path: Path):
    one = read_parts(write_generation(tmp_path / "one"))
    same = read_parts(write_generation(tmp_path / "same"))
    other = read_parts(write_generation(tmp_path / "other", with_report=False))
    assert one.digest == same.digest != other.digest


def test_a_missing_file_says_to_run_the_pipeline(tmp_path: Path):
    with pytest.raises(
        ArtifactError, match=r"nothing to serve yet; run `python -m ray_jobs\.pipeline`"
    ):
        read_parts(tmp_path / "generation.json")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not JSON"),
        ("[1]", "format_version 1, found list"),
        ('{"format_version": 2}', "format_version 1, found 2"),
        ('{"format_version": 1, "graph": "g"}', "found no neighborhoods, index"),
    ],
)
def test_a_damaged_file_is_told_with_its_path(tmp_path: Path, content: str, complaint: str):
    path = tmp_path / "generation.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=complaint) as caught:
        read_parts(path)
    assert str(path) in str(caught.value)


def test_an_unpublished_part_is_named(tmp_path: Path):
    path = write_generation(tmp_path)
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(ArtifactError, match=r"its index, .*, isn't a published directory"):
        read_parts(path)


def test_parts_of_different_catalogs_are_refused(tmp_path: Path):
    path = write_generation(tmp_path)
    with publish(tmp_path / "index" / "other", stage="index", config={}, parents={}) as draft:
        vectors = np.eye(3, dtype=np.float32)
        save_index(build_index(vectors, IndexConfig(kind="exact")), draft)
    names = read_parts(path).names | {"index": "index/other"}
    publish_generation(tmp_path, {stage: tmp_path / name for stage, name in names.items()})
    with pytest.raises(ArtifactError, match=f"graph {NUM_ITEMS}, .*index 3"):
        Generation.open(path)


@pytest.mark.parametrize(
    "content", ["{}", "{", "[]", '{"metrics": {"pinsage": 1}}', "\udc80", None]
)
def test_a_damaged_report_is_no_figures_and_no_map_and_a_warning_that_says_what_to_delete(
    tmp_path: Path,
    content: str | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    path = write_generation(tmp_path)
    directory = tmp_path / "report" / "3456789abcde"
    (directory / "report.json").unlink()
    if content is not None:
        (directory / "report.json").write_bytes(content.encode(errors="surrogateescape"))
    monkeypatch.setattr(logging.getLogger("pinsage"), "propagate", True)
    generation = Generation.open(path)
    assert generation.quality == {}
    assert f"delete {directory} and run evaluate" in caplog.text
    with TestClient(build_api(generation, ServeConfig())) as client:
        reply = client.get("/v1/map")
        assert (reply.status_code, reply.json()["code"]) == (404, "no_map")
        assert client.get("/v1/generations").json()["generations"][0]["quality"] == {}


def test_a_map_of_another_catalog_is_no_map(tmp_path: Path):
    path = write_generation(tmp_path)
    file = tmp_path / "report" / "3456789abcde" / "report.json"
    content = json.loads(file.read_text())
    content["map"]["points"][0]["item_id"] = NUM_ITEMS
    file.write_text(json.dumps(content))
    with TestClient(build_api(Generation.open(path), ServeConfig())) as client:
        assert client.get("/v1/map").json()["code"] == "no_map"


def test_a_newest_file_that_was_changed_after_it_was_published_is_refused(tmp_path: Path):
    path = write_generation(tmp_path, with_model=True)
    content = json.loads(path.read_text()) | {"model": "model/000000000000"}
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"generation\.json: .* changed after it was published"):
        read_parts(path)
    for kept in (tmp_path / "generations").iterdir():
        kept.unlink()
    assert read_parts(path).names["model"] == "model/000000000000", "as it was before copies"


def test_a_model_that_is_gone_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    path = write_generation(tmp_path, with_model=True)
    shutil.rmtree(tmp_path / "model")
    monkeypatch.setattr(logging.getLogger("pinsage"), "propagate", True)
    Generation.open(path)
    assert "isn't a published directory, so nothing can be put or embedded" in caplog.text

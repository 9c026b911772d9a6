import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pinsage.base.artifacts import publish
from pinsage.base.errors import ArtifactError
from pinsage.retrieval import IndexConfig, build_index, save_index
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
    content = json.loads(path.read_text()) | {"index": "index/other"}
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=f"graph {NUM_ITEMS}, .*index 3"):
        Generation.open(path)


def test_a_report_without_metrics_is_told(tmp_path: Path):
    path = write_generation(tmp_path)
    (tmp_path / "report" / "3456789abcde" / "report.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"report\.json: no `metrics`"):
        Generation.open(path)

from pathlib import Path

import numpy as np
import pytest

from pinsage.base.errors import DataError
from pinsage.graph.ingest import look_at_inputs
from pinsage.graph.sources import find_sources


def names(folder, path):
    return [source.path.removeprefix(f"{folder}/") for source in find_sources(path)]


@pytest.fixture
def folder(tmp_path):
    for name in ("b.parquet", "a.parquet", "in/c.parquet", "in/.d.parquet", "_x/e.parquet", "f"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def test_a_directory_means_its_parquet_files_without_hidden_ones(folder):
    assert names(folder, str(folder)) == ["a.parquet", "b.parquet", "in/c.parquet"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.parquet", ["a.parquet", "b.parquet"]),
        ("?.parquet", ["a.parquet", "b.parquet"]),
        ("i*/*.parquet", ["in/c.parquet"]),
        ("[bz].parquet", ["b.parquet"]),
        ("**/*.parquet", ["_x/e.parquet", "a.parquet", "b.parquet", "in/c.parquet"]),
        ("**/c.parquet", ["in/c.parquet"]),
        ("in/**", ["in/c.parquet"]),
        ("**/in/c.*", ["in/c.parquet"]),
        ("f", ["f"]),
    ],
)
def test_a_glob_matches_inside_one_folder_only(folder, pattern, found):
    assert names(folder, f"{folder}/{pattern}") == found


def test_a_file_that_is_there_is_meant_whatever_signs_its_name_has(tmp_path):
    path = tmp_path / "d [v2]" / "what?.parquet"
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert names(tmp_path, str(path)) == ["d [v2]/what?.parquet"]
    assert names(tmp_path, str(path.parent)) == ["d [v2]/what?.parquet"]


@pytest.mark.parametrize("pattern", ["a.parquet", "*.parquet", "**/*.parquet", ""])
def test_a_uri_finds_the_files_that_a_path_finds(folder, pattern):
    by_path = [source.path for source in find_sources(f"{folder}/{pattern}")]
    by_uri = [source.path for source in find_sources(f"file://{folder}/{pattern}")]
    assert by_uri == by_path


def test_relative_paths_are_looked_for_in_the_working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [source.path for source in find_sources("in/c.parquet")] == ["in/c.parquet"]
    assert len(find_sources("*.parquet")) == 2
    assert len(find_sources("in/../*.parquet")) == 2


@pytest.mark.parametrize("path", ["no.parquet", "no/*.parquet", "*.csv", "ftp://host/a.parquet"])
def test_a_path_that_means_nothing_is_an_error_that_names_it(folder, path):
    wanted = path if "://" in path else f"{folder}/{path}"
    with pytest.raises(DataError) as caught:
        find_sources(wanted)
    assert str(caught.value).startswith(f"{wanted}: ")


def test_a_folder_without_parquet_files_is_told_from_one_that_is_not_there(tmp_path):
    (tmp_path / "edges.csv").write_text("item,context\n")
    with pytest.raises(
        DataError, match=r"in this folder is called \*\.parquet \(.* has: edges\.csv"
    ):
        find_sources(str(tmp_path))


def test_facts_change_with_any_byte_of_any_input(bench, changed):
    path = str(bench.folder / "visual.npy")
    np.save(path, np.zeros((6, 3), np.float32))
    groups = [{"name": "visual", "npy": path}]
    config = changed(bench.six(), {"items.features": groups})
    facts = look_at_inputs(config).facts
    assert facts == look_at_inputs(config).facts
    assert len(facts) == 4
    for path in map(Path, facts):
        content = path.read_bytes()
        path.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])
        assert look_at_inputs(config).facts != facts
        path.write_bytes(content)
    assert look_at_inputs(config).facts == facts


def test_facts_name_every_missing_file(bench, changed):
    config = changed(bench.six(), {"items.path": "no-items", "edges.0.path": "no-edges"})
    with pytest.raises(DataError, match=r"(?s)no-items.*no-edges"):
        look_at_inputs(config)


@pytest.mark.ray  # Not beside tests that clear what the bucket server holds.
@pytest.mark.parametrize("pattern", ["in/a.parquet", "in", "*/?.parquet", "**/*.parquet"])
def test_an_address_may_name_its_own_store(buckets, pattern):
    run, options = buckets.new_run().split("?")
    buckets.put(run, "in/a.parquet", b"x")
    (found,) = find_sources(f"{run}/{pattern}?{options}")
    assert found.path.endswith("/in/a.parquet")
    with found.filesystem.open_input_file(found.path) as file:
        assert file.read() == b"x"

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from pinsage.base.artifacts import MANIFEST
from pinsage.base.errors import ArtifactError, DataError
from pinsage.cluster import drivers
from pinsage.graph import Graph
from tests.runs import ROOT, smoke_run


def test_what_was_made_from_a_parent_that_was_made_anew_since_is_named(tmp_path: Path) -> None:
    run = smoke_run(tmp_path, "subgraph={contexts: 0.75}")
    drivers.ingest(run)
    assert drivers.ingest(run).was_published
    path = run.graph.directory / MANIFEST
    other = json.loads(path.read_text())
    other["config"]["made"] = "anew"
    path.write_text(json.dumps(other))
    child = run.training_graph.directory
    with pytest.raises(ArtifactError, match=rf"{child}: wanted one made from .* delete {child}"):
        drivers.ingest(run)
    assert child.exists()


@pytest.mark.parametrize("what", ["written anew", "gone", "joined by another"])
def test_tables_that_change_while_they_are_read_give_no_graph(tmp_path, monkeypatch, what) -> None:
    copy = tmp_path / "edges"
    copy.mkdir()
    source = Path(smoke_run(tmp_path / "out").config.data.edges[0].path)
    shutil.copy(source, copy / "one.parquet")
    run = smoke_run(tmp_path / "out", f"data.edges.0.path={copy}")
    made, content = drivers.ingest_tables, source.read_bytes()

    def ingest_and_change(*arguments, **options):
        made(*arguments, **options)
        if what != "written anew":
            shutil.copy(source, copy / "two.parquet")
        if what != "joined by another":
            (copy / "one.parquet").unlink()
        if what == "written anew":
            (copy / "one.parquet").write_bytes(content)

    monkeypatch.setattr(drivers, "ingest_tables", ingest_and_change)
    with pytest.raises(DataError, match=f"{copy}: changed while the tables were read"):
        drivers.ingest(run)
    assert not run.graph.is_done
    assert not list(run.graph.directory.parent.glob(".*.partial"))


def test_a_graph_is_as_new_as_its_newest_table_and_no_newer_than_when_it_was_read(
    tmp_path,
) -> None:
    began = time.time()
    copies = [tmp_path / f"{name}.parquet" for name in ("items", "edges")]
    data = smoke_run(tmp_path).config.data
    for source, copy in zip((data.items.path, data.edges[0].path), copies, strict=True):
        shutil.copy(source, copy)
    paths = (f"data.items.path={copies[0]}", f"data.edges.0.path={copies[1]}")
    for newest, output in ((began - 5, "old"), (began + 9_999, "future")):
        os.utime(copies[0], (began - 99_999, began - 99_999))
        os.utime(copies[1], (newest, newest))
        run = smoke_run(tmp_path / output, *paths, "data.pairs=null")
        drivers.ingest(run)
        # Whatever it took, and however it was copied since.
        for path in run.graph.directory.rglob("*"):
            os.utime(path, (began + 9_999, began + 9_999))
        as_of = Graph.open(run.graph.directory).as_of
        if newest < began:
            assert as_of == pytest.approx(newest, abs=1e-3)
        else:
            assert began <= as_of <= time.time()


@pytest.mark.ray
def test_a_graph_in_a_bucket_is_as_new_as_its_tables(tmp_path, buckets) -> None:
    run = smoke_run(buckets.new_run())
    drivers.ingest(run)
    newest = max(path.stat().st_mtime for path in (ROOT / "data/smoke").glob("*.parquet"))
    assert Graph.open(run.graph.directory).as_of == pytest.approx(newest, abs=1e-3)

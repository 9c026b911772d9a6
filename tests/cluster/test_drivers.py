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
from tests.runs import smoke_run


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


def test_a_graph_tells_when_its_tables_were_read_however_long_it_took(tmp_path) -> None:
    began = time.time()
    run = smoke_run(tmp_path)
    later = run.inputs.found_at + 3600
    drivers.ingest(run)
    for path in run.graph.directory.rglob("*"):
        os.utime(path, (later, later))
    assert began <= Graph.open(run.graph.directory).tables_read_at <= time.time()


@pytest.mark.ray
def test_a_graph_in_a_bucket_tells_when_its_tables_were_read(tmp_path, buckets) -> None:
    run = smoke_run(buckets.new_run())
    found_at = run.inputs.found_at
    time.sleep(2)
    drivers.ingest(run)
    assert Graph.open(run.graph.directory).tables_read_at == found_at

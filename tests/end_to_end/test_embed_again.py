"""Embedding with a model, and from embeddings, that an earlier run published."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pinsage.base.errors import ArtifactError
from pinsage.cluster import drivers
from pinsage.inference.export import read_embeddings
from tests.end_to_end.conftest import Finished
from tests.runs import smoke_run

pytestmark = pytest.mark.ray


def test_unchanged_items_are_taken_from_the_previous_embeddings(finished: Finished) -> None:
    output, model = finished.run.output, finished.run.model.directory.name
    kept = smoke_run(output, f"embed.model={model}", "embed.keep_rows=true")
    assert kept.model.directory == finished.run.model.directory
    drivers.embed(kept)
    previous = kept.embeddings.directory.name
    again = smoke_run(output, f"embed.model={model}", f"embed.previous={previous}")
    result = drivers.embed(again)
    assert result.directory not in {finished.run.embeddings.directory, kept.embeddings.directory}
    assert result.counts["convolutions"] == 0
    np.testing.assert_array_equal(
        read_embeddings(result.directory), read_embeddings(finished.run.embeddings.directory)
    )


def test_previous_embeddings_that_were_changed_are_named(finished: Finished) -> None:
    output, model = finished.run.output, finished.run.model.directory.name
    settings = (f"embed.model={model}", "embed.keep_rows=true", "embed.dtype=float16")
    kept = smoke_run(output, *settings)
    directory = drivers.embed(kept).directory
    hidden = directory / "hidden-1.npy"
    hidden.write_bytes(b"\0" + hidden.read_bytes()[1:])
    again = smoke_run(output, *settings, f"embed.previous={directory.name}")
    try:
        with pytest.raises(
            ArtifactError, match=r"hidden-1\.npy: its SHA-256 is not the manifest's"
        ):
            drivers.embed(again)
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("embed.model=0123456789ab", "embed.model: no model published"),
        ("embed.previous=../graph", "embed.previous: no embeddings published"),
        ("embed.num_neighbors=3", "made with embed.num_neighbors None, found 3"),
        ("embed.dtype=float16", "made with embed.dtype float32, found float16"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    finished: Finished, setting: str, message: str
) -> None:
    output, model = finished.run.output, finished.run.model.directory.name
    previous = finished.run.embeddings.directory.name
    settings = [f"embed.model={model}", f"embed.previous={previous}", setting]
    with pytest.raises(ArtifactError, match=message):
        drivers.embed(smoke_run(output, *settings))


def test_embeddings_without_rows_are_no_beginning_and_that_is_known_at_once(
    finished: Finished,
) -> None:
    previous = finished.run.embeddings.directory.name
    again = smoke_run(finished.run.output, f"embed.previous={previous}")
    with pytest.raises(ArtifactError, match=r"without embed\.keep_rows"):
        again.check_previous()


def test_an_old_model_embeds_a_changed_graph_in_the_directions_it_knows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ["graph.structure={width: 16}", "train.schedule.epochs=1", "embed.keep_rows=true"]
    first = smoke_run(tmp_path / "output", *settings)
    for job in (drivers.ingest, drivers.walk, drivers.train, drivers.embed):
        job(first)
    edges = pq.read_table("data/smoke/edges.parquet")
    pq.write_table(edges.slice(3), tmp_path / "edges.parquet")
    changed = [
        *settings,
        f"data.edges=[{{path: {tmp_path}/edges.parquet, item: item_id, context: context_id}}]",
        f"embed.model={first.model.directory.name}",
        f"embed.previous={first.embeddings.directory.name}",
    ]
    basis = first.graph.directory.name
    run = smoke_run(tmp_path / "output", *changed, f"graph.structure.basis={basis}")
    for job in (drivers.ingest, drivers.walk, drivers.embed):
        job(run)
    assert run.graph.open().manifest.parents["graph"] == first.graph.open().manifest.digest
    convolutions = run.embeddings.open().manifest.counts["convolutions"]
    assert 0 < convolutions < 300
    assert not [record for record in caplog.records if "other directions" in record.message]

    own = smoke_run(tmp_path / "output", *changed)
    for job in (drivers.ingest, drivers.walk, drivers.embed):
        job(own)
    assert own.embeddings.open().manifest.counts["convolutions"] == 600
    assert any("other directions" in record.message for record in caplog.records)
    with pytest.raises(ArtifactError, match=r"graph\.structure\.basis: .* use the same"):
        drivers.ingest(
            smoke_run(tmp_path / "output", f"graph.structure={{width: 8, basis: {basis}}}")
        )

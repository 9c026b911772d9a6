"""The embedding stage: cut anyhow, or on workers, it publishes the same bytes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pinsage.base import shared
from pinsage.base.addresses import folder_of
from pinsage.base.artifacts import Draft, publish
from pinsage.base.errors import ArtifactError, NotFiniteError, ResourceError
from pinsage.cluster.embedder import do_chunks, embeds_here
from pinsage.graph import Graph
from pinsage.graph.rows import RowFile
from pinsage.graph.schema import ITEMS_FILE
from pinsage.inference.embedder import Embedder
from pinsage.inference.export import read_context_embeddings, read_embeddings
from pinsage.inference.marks import Marks
from pinsage.inference.update import PRINTS_FILE, item_keys_of
from pinsage.model.checkpoint import save_model
from pinsage.model.encoder import ModelConfig, PinSage
from tests.buckets import BucketServer
from tests.cluster.embeddings import NUM_ITEMS, Inputs, assert_same


def test_a_receipt_counts_every_convolution_once(unbroken: Path, inputs: Inputs) -> None:
    counts = Draft(unbroken).path / "manifest.json"
    assert read_embeddings(unbroken).shape == (NUM_ITEMS, 8)
    text = counts.read_text()
    assert f'"convolutions": {2 * NUM_ITEMS}' in text
    assert text.count('"digest"') == 3


def test_chunks_change_no_byte(unbroken: Path, inputs: Inputs) -> None:
    settings = {"contexts": True, "keep_rows": True, "items_per_chunk": 10_000}
    assert_same(inputs.embed(inputs.folder / "chunks", **settings), unbroken)


def test_a_chunk_that_is_marked_is_not_done_again(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray runs a task again whose worker is lost after the mark and before the answer.
    batch = {"start": np.array([0, 100]), "stop": np.array([100, 200])}
    spec = inputs.spec(Draft(tmp_path))
    for _ in range(2):
        given = do_chunks(batch, spec, "run", "pass-0")
        assert not any(given["error"])
        monkeypatch.setattr(Embedder, "do", lambda *_: pytest.fail("done again"))
    assert len(list(spec.folder.glob("pass-0-*.done"))) == 2


@pytest.mark.ray
def test_a_mark_of_rows_that_the_bucket_does_not_hold_counts_for_nothing(
    inputs: Inputs, buckets: BucketServer, tmp_path: Path
) -> None:
    # Its prefix was deleted after an earlier run, and this node's scratch was not.
    directory = folder_of(buckets.new_run(), tmp_path) / "embeddings/out"
    spec = inputs.spec(Draft(directory.with_name(".out.partial")))
    marks = Marks(spec.folder)
    marks.set("pass-0", (0, 100), {"rows": 100, "convolutions": 0})
    given = do_chunks({"start": np.array([0]), "stop": np.array([100])}, spec, "run", "pass-0")
    assert not any(given["error"])
    assert RowFile(spec.folder / "projected-0.npy").read()[:100].any(axis=1).all()
    assert shared.is_stored(marks.path("pass-0", (0, 100)))


def test_contexts_are_the_unit_length_means_of_their_items(unbroken: Path, inputs: Inputs) -> None:
    graph, items = Graph.open(inputs.graph).adjacency(), read_embeddings(unbroken)
    contexts = read_context_embeddings(unbroken)
    for context in range(0, graph.num_contexts, 97):
        own = graph.context_items[slice(*graph.context_starts[context : context + 2])]
        mean = items[own].mean(axis=0)
        np.testing.assert_allclose(contexts[context], mean / np.linalg.norm(mean), atol=1e-5)


def test_half_precision_is_what_single_precision_rounds_to(unbroken: Path, inputs: Inputs) -> None:
    half = inputs.embed(inputs.folder / "half", dtype="float16")
    rounded = read_embeddings(unbroken).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(read_embeddings(half), rounded)
    assert not (half / PRINTS_FILE).exists()


def test_a_model_of_other_features_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    with publish(tmp_path / "model", stage="model", config={}, parents={}) as draft:
        save_model(PinSage(ModelConfig(num_layers=0, embedding_width=4), 3), draft)
    other = Inputs(tmp_path, inputs.graph, inputs.neighborhoods, tmp_path / "model")
    with pytest.raises(ArtifactError, match="wants 3 features an item, found 17"):
        other.embed(tmp_path / "out")


def test_a_gpu_without_room_is_told_of_with_what_to_do(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("pinsage.inference.embedder.LayerwiseEncoder.run", full)
    with pytest.raises(ResourceError, match=r"CUDA out of memory.*CUDA_VISIBLE_DEVICES="):
        inputs.embed(tmp_path / "out")


def test_rows_of_the_pass_before_are_read_from_the_file_as_it_is_now(
    inputs: Inputs, tmp_path: Path
) -> None:
    # On some shared folders an older map never shows what other machines have written since.
    embedder = Embedder(inputs.spec(Draft(tmp_path)))
    embedder.begin("pass-0")
    (file,) = embedder.written_by("pass-0")
    before = file.read()
    other = RowFile(tmp_path / "other.npy")
    other.make(*before.shape)
    other.write(0, np.ones((1, before.shape[1]), np.float32))
    other.path.replace(file.path)
    assert file.read()[0, 0] == 0
    embedder.see_rows_of("pass-0")
    assert file.read()[0, 0] == 1


def with_features_of_item_7(inputs: Inputs, folder: Path, value: float) -> Inputs:
    """Other features, in row 2 of shard 1 of 3."""
    shutil.copytree(inputs.graph, folder / "graph")
    features = next((folder / "graph").glob("shard-00001-*/features.npy"))
    np.load(features, mmap_mode="r+")[2] = value
    return Inputs(folder, folder / "graph", inputs.neighborhoods, inputs.model)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_no_numbers_are_told_of(
    inputs: Inputs, tmp_path: Path, value: float
) -> None:
    key = item_keys_of(inputs.graph / ITEMS_FILE)[7].as_py()
    with pytest.raises(NotFiniteError, match=rf"of 40000 items .* item_key {key!r}; look for"):
        with_features_of_item_7(inputs, tmp_path, value).embed(tmp_path / "out")


@pytest.mark.ray
def test_an_error_of_a_worker_is_told_as_it_was_raised(
    local_ray: None, inputs: Inputs, tmp_path: Path
) -> None:
    with pytest.raises(NotFiniteError, match="wanted embeddings of finite numbers"):
        with_features_of_item_7(inputs, tmp_path, np.nan).embed(tmp_path / "out", num_workers=1)


@pytest.mark.ray
def test_workers_publish_the_bytes_of_one_process(
    local_ray: None, unbroken: Path, inputs: Inputs
) -> None:
    settings = {"contexts": True, "keep_rows": True, "num_workers": 2, "items_per_chunk": 8_192}
    for threads in (1, 3):
        two = inputs.embed(
            inputs.folder / f"with-{threads}-threads", **settings, threads_per_worker=threads
        )
        assert_same(two, unbroken)


def test_a_catalog_is_embedded_here_only_while_that_is_faster_than_starting_workers() -> None:
    model = torch.nn.Linear(1_000, 1_000, bias=False)
    assert embeds_here(None, 1_000_000, model)
    assert not embeds_here(None, 1_000_001, model)
    assert not embeds_here(1, 10, model)

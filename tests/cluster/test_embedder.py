"""The embedding stage: cut anyhow, killed anywhere, or on workers, it publishes the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from pinsage.base import shared
from pinsage.base.addresses import folder_of
from pinsage.base.artifacts import Artifact, Draft, open_artifact, publish
from pinsage.base.errors import ArtifactError, NotFiniteError
from pinsage.cluster.embedder import do_chunks, embed_all, embeds_here
from pinsage.cluster.run_config import RayConfig
from pinsage.graph import Graph
from pinsage.graph.ingest import ingest
from pinsage.graph.rows import RowFile
from pinsage.graph.schema import ITEMS_FILE
from pinsage.graph.synthetic import write_tables
from pinsage.inference.embedder import Embedder, EmbedSpec
from pinsage.inference.export import read_context_embeddings, read_embeddings
from pinsage.inference.layerwise import EmbedConfig
from pinsage.inference.marks import Marks
from pinsage.inference.update import PRINTS_FILE, hidden_name, item_keys_of
from pinsage.model.checkpoint import save_model
from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.sampling.neighborhood import WalkConfig, pack_graph, walk_chunk
from tests.buckets import BucketServer

NUM_ITEMS = 40_000


@dataclass(frozen=True)
class Inputs:
    """A small catalog's graph and neighborhoods, and a model with random weights."""

    folder: Path
    graph: Path
    neighborhoods: Path
    model: Path

    def spec(self, draft: Draft, **settings: object) -> EmbedSpec:
        return EmbedSpec(
            graph=self.graph,
            neighborhoods=self.neighborhoods,
            model=self.model,
            folder=draft.scratch,
            parts=draft.path,
            config=EmbedConfig.model_validate(settings),
        )

    def embed(self, directory: Path, **settings: object) -> Path:
        """Publish embeddings."""
        with publish(directory, stage="embeddings", config={}, parents={}) as draft:
            embed_all(self.spec(draft, **settings), draft, RayConfig())
        return directory


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    config = write_tables(folder / "tables", num_items=NUM_ITEMS, num_contexts=10_000)
    with publish(folder / "graph", stage="graph", config={}, parents={}) as draft:
        ingest(config, draft, num_shards=3, seed=0)
    graph = Graph.open(folder / "graph")
    packed = pack_graph(graph.adjacency(), WalkConfig().choice)
    walk = WalkConfig(num_walks=20, num_neighbors=8)
    table = walk_chunk(packed, np.arange(NUM_ITEMS), walk=walk, hard=None, seed=0)
    with publish(folder / "near", stage="neighborhoods", config={}, parents={}) as draft:
        draft.write_array("neighbor_ids.npy", table.ids)
        draft.write_array("weights.npy", table.weights)
        draft.write_array("hard_negatives.npy", table.hard_negatives)
    torch.manual_seed(0)
    shape = ModelConfig(num_layers=2, projected_width=16, embedding_width=8)
    with publish(folder / "model", stage="model", config={}, parents={}) as draft:
        save_model(PinSage(shape, graph.feature_width), draft)
    return Inputs(folder, folder / "graph", folder / "near", folder / "model")


@pytest.fixture(scope="module")
def unbroken(inputs: Inputs) -> Path:
    return inputs.embed(inputs.folder / "unbroken", contexts=True, keep_rows=True)


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def assert_same(found: Path, expected: Path) -> None:
    """All files are equal, and the manifests but for the name of the directory."""
    one, other = bytes_of(found), bytes_of(expected)
    for files, directory in ((one, found), (other, expected)):
        files["manifest.json"] = files["manifest.json"].replace(directory.name.encode(), b"")
    assert one == other


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


KILLED = """
import sys
from pathlib import Path
from pinsage.base.artifacts import publish
from pinsage.cluster.embedder import embed_all
from pinsage.cluster.run_config import RayConfig
from pinsage.inference.embedder import EmbedSpec
from pinsage.inference.layerwise import EmbedConfig
graph, near, model, out = map(Path, sys.argv[1:])
with publish(out, stage="embeddings", config={}, parents={}) as draft:
    config = EmbedConfig(contexts=True, keep_rows=True, items_per_chunk=1)
    embed_all(EmbedSpec(graph, near, model, draft.scratch, draft.path, config), draft, RayConfig())
"""


@pytest.mark.parametrize("num_marks", [3, 12])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    unbroken: Path, inputs: Inputs, tmp_path: Path, num_marks: int
) -> None:
    scratch = tmp_path / ".out.partial" / ".scratch"
    paths = [inputs.graph, inputs.neighborhoods, inputs.model, tmp_path / "out"]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *map(str, paths)])
    while len(list(scratch.glob("*.done"))) < num_marks:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.0005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    marks = {path: path.stat().st_mtime_ns for path in scratch.glob("*.done")}
    assert len(marks) >= num_marks
    draft = Draft(tmp_path / ".out.partial")
    settings = {"contexts": True, "keep_rows": True, "items_per_chunk": 1}
    embed_all(inputs.spec(draft, **settings), draft, RayConfig())
    assert {path: path.stat().st_mtime_ns for path in marks} == marks
    shutil.copytree(draft.path, tmp_path / "copy")
    with publish(tmp_path / "out", stage="embeddings", config={}, parents={}) as again:
        embed_all(inputs.spec(again, **settings), again, RayConfig())
    assert_same(tmp_path / "out", unbroken)


def test_rows_that_a_restarted_machine_has_lost_are_made_again(
    unbroken: Path, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"contexts": True, "keep_rows": True, "items_per_chunk": 1}
    compute = Embedder.compute

    def break_off(self: Embedder, name: str, start: int, stop: int) -> np.ndarray:
        if name == "pass-2":
            raise KeyboardInterrupt
        return compute(self, name, start, stop)

    monkeypatch.setattr(Embedder, "compute", break_off)
    with pytest.raises(KeyboardInterrupt):
        inputs.embed(tmp_path / "out", **settings)
    monkeypatch.setattr(Embedder, "compute", compute)
    scratch = Draft(tmp_path / ".out.partial").scratch
    lost = [*scratch.glob("projected-*.npy"), *scratch.glob("hidden-*.npy")]
    assert lost
    for path in lost:
        np.load(path, mmap_mode="r+")[:] = 0
    monkeypatch.setattr("pinsage.inference.marks.boot_id", lambda: "another")
    assert_same(inputs.embed(tmp_path / "out", **settings), unbroken)


def test_rows_to_be_published_that_a_restarted_machine_has_lost_are_made_again(
    unbroken: Path, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"contexts": True, "keep_rows": True}
    draft = Draft(tmp_path / ".out.partial")
    embed_all(inputs.spec(draft, **settings), draft, RayConfig())
    np.load(draft.path / hidden_name(1), mmap_mode="r+")[:] = 0
    monkeypatch.setattr("pinsage.inference.marks.boot_id", lambda: "another")
    assert_same(inputs.embed(tmp_path / "out", **settings), unbroken)


def break_off(
    inputs: Inputs,
    out: Path,
    at: tuple[str, int],
    parents: dict[str, Artifact],
    *,
    is_copied: bool = True,
    **settings: object,
) -> Path:
    """Embed up to a row of a pass, and give the scratch, or a copy in its place."""
    compute = Embedder.compute

    def until(self: Embedder, name: str, start: int, stop: int) -> np.ndarray:
        if name == at[0] and start >= at[1]:
            raise KeyboardInterrupt
        return compute(self, name, start, stop)

    with (
        pytest.MonkeyPatch.context() as patched,
        pytest.raises(KeyboardInterrupt),
        publish(out, stage="embeddings", config={}, parents=parents) as draft,
    ):
        patched.setattr(Embedder, "compute", until)
        embed_all(inputs.spec(draft, **settings), draft, RayConfig())
    draft = Draft(out.with_name(f".{out.name}.partial"))
    if is_copied:
        shutil.copytree(draft.path, tmp := out.with_name("copy"))
        shutil.rmtree(draft.path)
        tmp.rename(draft.path)
    return draft.scratch


@pytest.mark.parametrize(
    ("at", "lost"),
    [
        (("pass-2", 0), "projected-1.npy"),
        (("pass-2", 0), "hidden-1.npy"),
        (("pass-1", 20_000), "projected-0.npy"),
        (("pass-1", 20_000), "projected-1.npy"),
        (("contexts", 0), "embeddings.npy"),
    ],
)
def test_rows_that_a_copy_of_a_running_job_lacks_are_made_again(
    unbroken: Path, inputs: Inputs, tmp_path: Path, at: tuple[str, int], lost: str
) -> None:
    settings = {"contexts": True, "keep_rows": True, "items_per_chunk": 1}
    scratch = break_off(inputs, tmp_path / "out", at, {}, **settings)
    np.load(scratch / lost, mmap_mode="r+")[5_000:9_000] = 0
    assert_same(inputs.embed(tmp_path / "out", **settings), unbroken)


def test_rows_are_not_read_again_by_a_run_that_goes_on_where_another_was_killed(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"items_per_chunk": 1}
    break_off(inputs, tmp_path / "out", ("pass-2", 0), {}, is_copied=False, **settings)
    monkeypatch.delattr(Embedder, "holds")
    inputs.embed(tmp_path / "out", **settings)


def test_a_part_that_a_copy_of_a_running_job_lacks_is_made_again(
    unbroken: Path, inputs: Inputs, tmp_path: Path
) -> None:
    settings = {"contexts": True, "keep_rows": True, "items_per_chunk": 1}
    scratch = break_off(inputs, tmp_path / "out", ("contexts", 0), {}, **settings)
    next(scratch.parent.glob("part-*.parquet")).unlink()
    assert_same(inputs.embed(tmp_path / "out", **settings), unbroken)


@pytest.mark.parametrize("damage", ["gone", "cut", "a bit"])
@pytest.mark.parametrize("kind", ["part", "contexts"])
def test_a_part_that_was_lost_or_damaged_since_a_run_was_killed_is_made_again(
    unbroken: Path, inputs: Inputs, tmp_path: Path, kind: str, damage: str
) -> None:
    settings = {"contexts": True, "keep_rows": True}
    draft = Draft(tmp_path / ".out.partial")
    embed_all(inputs.spec(draft, **settings), draft, RayConfig())
    part = max(draft.path.glob(f"{kind}-*.parquet"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes(content if damage == "a bit" else content[:1_000])
    assert_same(inputs.embed(tmp_path / "out", **settings), unbroken)


def test_a_damaged_note_of_what_was_done_makes_all_anew(
    unbroken: Path, inputs: Inputs, tmp_path: Path
) -> None:
    settings = {"contexts": True, "keep_rows": True, "items_per_chunk": 1}
    scratch = break_off(inputs, tmp_path / "out", ("pass-2", 0), {}, is_copied=False, **settings)
    (scratch / "pass-1.done").write_text('{"rows": 3', encoding="utf-8")
    assert_same(inputs.embed(tmp_path / "out", **settings), unbroken)


def test_only_chunks_that_lack_rows_are_made_again_of_a_pass_that_is_not_done(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"items_per_chunk": 1}
    scratch = break_off(inputs, tmp_path / "out", ("pass-1", 20_480), {}, **settings)
    np.load(scratch / "projected-1.npy", mmap_mode="r+")[5_000] = 0
    made = []
    compute = Embedder.compute

    def note(self: Embedder, name: str, start: int, stop: int) -> np.ndarray:
        made.append((name, start))
        return compute(self, name, start, stop)

    monkeypatch.setattr(Embedder, "compute", note)
    inputs.embed(tmp_path / "out", **settings)
    again = [start for name, start in made if name == "pass-1" and start < 20_480]
    assert again == [4_096]
    assert "pass-0" not in dict(made)


def test_embeddings_are_of_one_model_though_it_was_trained_again_while_they_were_made(
    inputs: Inputs, tmp_path: Path
) -> None:
    others = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = PinSage(ModelConfig(num_layers=2, projected_width=16, embedding_width=8), 17)
        directory = tmp_path / str(seed) / "model"
        with publish(directory, stage="model", config={}, parents={}) as draft:
            save_model(model, draft)
        others.append(Inputs(tmp_path, inputs.graph, inputs.neighborhoods, directory))
    parents = [{"model": open_artifact(other.model, stage="model")} for other in others]
    break_off(others[0], tmp_path / "out", ("pass-2", 0), parents[0])
    with publish(tmp_path / "out", stage="embeddings", config={}, parents=parents[1]) as draft:
        embed_all(others[1].spec(draft), draft, RayConfig())
    np.testing.assert_array_equal(
        read_embeddings(tmp_path / "out"), read_embeddings(others[1].embed(tmp_path / "alone"))
    )


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


@pytest.mark.ray
def test_rows_that_a_killed_run_had_moved_come_from_the_bucket_again(
    local_ray: None, buckets: BucketServer, unbroken: Path, inputs: Inputs, tmp_path: Path
) -> None:
    directory = folder_of(buckets.new_run(), tmp_path) / "embeddings/out"
    settings = {"contexts": True, "keep_rows": True, "num_workers": 1}
    draft = Draft(directory.with_name(".out.partial"))
    embed_all(inputs.spec(draft, **settings), draft, RayConfig())
    assert draft.has(hidden_name(1))
    assert_same(inputs.embed(directory, **settings), unbroken)


def test_a_catalog_is_embedded_here_only_while_that_is_faster_than_starting_workers() -> None:
    model = torch.nn.Linear(1_000, 1_000, bias=False)
    assert embeds_here(None, 1_000_000, model)
    assert not embeds_here(None, 1_000_001, model)
    assert not embeds_here(1, 10, model)

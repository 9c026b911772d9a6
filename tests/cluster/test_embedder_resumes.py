"""The embedding stage, killed anywhere, its draft lost or damaged, publishes the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pinsage.base.addresses import folder_of
from pinsage.base.artifacts import Artifact, Draft, open_artifact, publish
from pinsage.cluster.embedder import embed_all
from pinsage.cluster.run_config import RayConfig
from pinsage.inference.embedder import Embedder
from pinsage.inference.export import read_embeddings
from pinsage.inference.update import hidden_name
from pinsage.model.checkpoint import save_model
from pinsage.model.encoder import ModelConfig, PinSage
from tests.buckets import BucketServer
from tests.cluster.embeddings import Inputs, assert_same

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
def test_rows_that_a_killed_run_had_moved_come_from_the_bucket_again(
    local_ray: None, buckets: BucketServer, unbroken: Path, inputs: Inputs, tmp_path: Path
) -> None:
    directory = folder_of(buckets.new_run(), tmp_path) / "embeddings/out"
    settings = {"contexts": True, "keep_rows": True, "num_workers": 1}
    draft = Draft(directory.with_name(".out.partial"))
    embed_all(inputs.spec(draft, **settings), draft, RayConfig())
    assert draft.has(hidden_name(1))
    assert_same(inputs.embed(directory, **settings), unbroken)

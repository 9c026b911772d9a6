"""What `python -m ray_jobs.status` tells of an output folder."""

import fcntl
import json
import os
import threading
from pathlib import Path

import pytest

from pinsage.base.artifacts import Artifact, fingerprint, open_artifact, publish
from pinsage.base.errors import ArtifactError
from pinsage.cluster.generations import digest_of, publish_generation
from pinsage.cluster.lineage import InputState, read_output
from pinsage.cluster.lineage_text import piece_text, status_json, status_text
from tests.runs import start_job


def write(output: Path, stage: str, config: dict, *parents: Artifact) -> Artifact:
    """Publish a stage of one file."""
    made_from = {one.manifest.stage: one for one in parents}
    prints = {name: one.path.name for name, one in made_from.items()}
    directory = output / stage / fingerprint(stage, config, prints)
    with publish(directory, stage=stage, config=config, parents=made_from) as draft:
        draft.write_json("content.json", config)
        draft.counts |= {"items": 1_234}
    return open_artifact(directory, stage=stage)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "edges.parquet"
    path.write_bytes(b"12345")
    return path


@pytest.fixture
def output(tmp_path: Path, table: Path) -> Path:
    """A graph of one table, two neighborhoods that differ in one setting, one of them served."""
    folder = tmp_path / "run"
    facts = {"path": str(table), "size_bytes": 5, "sha256": "ab" * 32}
    graph = write(folder, "graph", {"inputs": {str(table): [facts]}, "seed": 0})
    few = write(folder, "neighborhoods", {"walk": {"num_walks": 10, "restart": 0.5}}, graph)
    write(folder, "neighborhoods", {"walk": {"num_walks": 20, "restart": 0.5}}, graph)
    names = {stage.parent.name: f"{stage.parent.name}/{stage.name}" for stage in (few.path,)}
    (folder / "generation.json").write_text(json.dumps({"format_version": 1} | names))
    return folder


def test_a_served_piece_is_traced_to_its_input_files(output: Path, table: Path) -> None:
    found = read_output(output)
    (served,) = [one for one in found.pieces if one.served]
    graph = found.find("graph", str(served.parents["graph"]))
    assert graph is not None
    assert [(file.path, file.state) for file in graph.inputs] == [(str(table), InputState.SAME)]
    told = status_text(found).partition("Where the newest generation came from:")[2]
    assert told.index("neighborhoods/") < told.index("graph/") < told.index(str(table))


def test_what_tells_two_pieces_of_a_stage_apart_is_said_and_the_rest_is_not(output: Path) -> None:
    text = status_text(read_output(output))
    assert "walk.num_walks=10" in text
    assert "walk.num_walks=20" in text
    assert "restart" not in text


def test_an_input_file_that_changed_or_went_is_told(output: Path, table: Path) -> None:
    table.write_bytes(b"123456")
    assert "changed since" in status_text(read_output(output))
    table.unlink()
    assert "not there now" in status_text(read_output(output))


def test_a_damaged_piece_is_told_with_its_cure(output: Path) -> None:
    damaged = next(output.glob("graph/*/content.json"))
    damaged.write_text("{}")
    text = status_text(read_output(output))
    assert f"! graph/{damaged.parent.name}: content.json has 2 bytes" in text
    assert "python -m ray_jobs.ingest" in text
    (damaged.parent / "manifest.json").write_text("{")
    assert "manifest.json is damaged" in status_text(read_output(output))


def test_what_is_being_written_is_told_from_what_a_killed_run_left(output: Path) -> None:
    for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        draft = output / "model" / f".{name}.partial"
        draft.mkdir(parents=True)
        (draft / "weights").write_bytes(b"123")
        draft.with_suffix(".lock").touch()
    lock = os.open(output / "model" / ".aaaaaaaaaaaa.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    running, stopped = read_output(output).unfinished
    os.close(lock)
    assert (running.is_running, stopped.is_running) == (True, False)
    assert stopped.size_bytes == 3


def test_one_piece_is_shown_by_the_beginning_of_its_fingerprint(output: Path) -> None:
    found = read_output(output)
    piece = found.pieces[-1]
    text = piece_text(found, found.named(piece.fingerprint[:8]))
    for word in (piece.digest, "num_walks: 20", "items: 1234", "edges.parquet"):
        assert word in text
    with pytest.raises(ArtifactError, match="3 published directories begin with ''"):
        found.named("")


def test_json_holds_all_of_it(output: Path) -> None:
    content = json.loads(status_json(read_output(output)))
    assert [one["stage"] for one in content["pieces"]] == ["graph", *["neighborhoods"] * 2]
    assert content["pieces"][0]["inputs"][0]["state"] == "as it was read"


def test_the_command_ends_with_1_where_something_is_damaged(output: Path, tmp_path: Path) -> None:
    next(output.glob("graph/*/content.json")).unlink()
    job = start_job("ray_jobs.status", "--output", str(output))
    text, _ = job.communicate(timeout=120)
    assert (job.returncode, "content.json is missing" in text) == (1, True)
    job = start_job("ray_jobs.status", "--output", str(tmp_path / "nowhere"))
    _, errors = job.communicate(timeout=120)
    assert (job.returncode, "no such folder" in errors) == (1, True)


def test_a_draft_with_a_manifest_is_unfinished_and_nothing_else(output: Path) -> None:
    draft = output / "graph" / ".0123456789ab.partial"
    draft.mkdir()
    (draft / "manifest.json").write_text("{}")
    found = read_output(output)
    assert [one.fingerprint for one in found.unfinished] == ["0123456789ab"]
    assert "0123456789ab" not in [one.fingerprint for one in found.pieces]
    assert not any(one.fingerprint.startswith(".") for one in found.pieces)


def test_an_output_may_be_read_while_it_is_being_written(output: Path) -> None:
    ends = threading.Event()

    def write_on() -> None:
        for number in range(10_000):
            with publish(
                output / "graph" / f"{number:012x}", stage="graph", config={}, parents={}
            ) as draft:
                for name in range(8):
                    draft.write_json(f"{name}.json", name)
            if ends.is_set():
                return

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        for _ in range(60):
            read_output(output)
    finally:
        ends.set()
        writer.join()


def test_what_a_rollback_serves_and_what_was_served_before_it_are_marked(output: Path) -> None:
    pieces = [f"{one.stage}/{one.fingerprint}" for one in read_output(output).pieces]
    old, new = [name for name in pieces if name.startswith("neighborhoods/")]
    newest = write(output, "neighborhoods", {"walk": {"num_walks": 40, "restart": 0.5}})
    write(output, "neighborhoods", {"walk": {"num_walks": 80, "restart": 0.5}})
    served, previous, _ = [
        digest_of(publish_generation(output, {"neighborhoods": path}).read_bytes())
        for path in (output / old, output / new, newest.path)
    ]
    decision = {"format_version": 1, "generation": served, "previous": previous, "at": "now"}
    (output / "serving.json").write_text(json.dumps(decision))
    found = read_output(output)
    marked = {f"{one.stage}/{one.fingerprint}" for one in found.pieces if one.served}
    assert marked == {old, new, f"neighborhoods/{newest.path.name}"}
    assert f"served is {served}, and before it {previous}" in status_text(found)
    (output / "generations" / f"{served}.json").unlink()
    assert f"! generation {served}: serving.json names it" in status_text(read_output(output))


def test_where_nobody_knows_what_is_served_nothing_is_marked_as_if_one_did(output: Path) -> None:
    for content in ("{", "{}", "[]"):
        (output / "serving.json").write_text(content)
        with pytest.raises(
            ArtifactError, match=r"serving\.json: damaged .*serve\.switch --config RECIPE --to"
        ):
            read_output(output)

"""What an unfinished run leaves behind, picked up by one with other chunks."""

from pathlib import Path

import numpy as np
import pytest

from pinsage.base.artifacts import Draft
from pinsage.cluster import drivers
from pinsage.cluster.run import Run
from pinsage.cluster.walkers import walk_all
from tests.runs import smoke_run

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Run:
    made = smoke_run(tmp_path_factory.mktemp("resume"))
    drivers.ingest(made)
    drivers.walk(made)
    return made


def test_a_walk_resumed_with_other_chunks_makes_the_same_table(run: Run, tmp_path: Path) -> None:
    draft = Draft(tmp_path)
    for size in (40, 300, 70):
        walk = run.config.walk.model_copy(update={"items_per_chunk": size})
        walk_all(run.graph.directory, draft, walk=walk, hard=run.config.hard_negatives, seed=0)
        for name in ("neighbor_ids", "weights", "hard_negatives"):
            found = (tmp_path / f"{name}.npy").read_bytes()
            assert found == (run.neighborhoods.directory / f"{name}.npy").read_bytes(), size
        for part in list(draft.scratch.glob("*-000000000000-*")):
            part.unlink()


def test_a_walk_goes_on_without_repeating_whole_chunks(run: Run, tmp_path: Path) -> None:
    draft = Draft(tmp_path)
    walk = run.config.walk.model_copy(update={"items_per_chunk": 100})
    walk_all(run.graph.directory, draft, walk=walk, hard=None, seed=0)
    parts = {path: path.stat().st_mtime_ns for path in draft.scratch.iterdir()}
    lost = [path for path in parts if "000000000100-000000000200" in path.name]
    assert len(lost) == 3
    for path in lost:
        path.unlink()
    walk_all(run.graph.directory, draft, walk=walk, hard=None, seed=0)
    after = {path: path.stat().st_mtime_ns for path in draft.scratch.iterdir()}
    assert {path for path in parts if after[path] != parts[path]} == set(lost)
    assert np.load(tmp_path / "neighbor_ids.npy").shape == (300, 10)


@pytest.mark.parametrize("damage", ["a bit", "cut", "empty"])
def test_a_part_that_was_damaged_since_a_walk_was_killed_is_walked_again(
    run: Run, tmp_path: Path, damage: str
) -> None:
    draft, hard = Draft(tmp_path), run.config.hard_negatives
    walk = run.config.walk.model_copy(update={"items_per_chunk": 100})
    walk_all(run.graph.directory, draft, walk=walk, hard=hard, seed=0)
    part = min(draft.scratch.glob("neighbor_ids-*"))
    content = bytearray(part.read_bytes())
    content[500] ^= 1
    part.write_bytes({"a bit": content, "cut": content[:500], "empty": b""}[damage])
    walk_all(run.graph.directory, draft, walk=walk, hard=hard, seed=0)
    for name in ("neighbor_ids", "weights", "hard_negatives"):
        found = (tmp_path / f"{name}.npy").read_bytes()
        assert found == (run.neighborhoods.directory / f"{name}.npy").read_bytes()

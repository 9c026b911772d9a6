"""Ranks that go on from one checkpoint, though each of them might find another."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed

from pinsage.base.errors import ArtifactError
from pinsage.cluster.resume import FROM_START, agreed_step, checkpoint_of, newest_step
from pinsage.training import Checkpoints
from pinsage.training.state import PROGRESS

WORLD_SIZE = 2
CPU = torch.device("cpu")


def folder_at(path: Path, *steps: int) -> Checkpoints:
    """A folder of checkpoints that say how far they are, and nothing else."""
    folder = Checkpoints(path, keep=9, settings={})
    for step in steps:
        progress = {"step": step, "losses": [], "validations": []}
        folder.save(step, lambda draft, progress=progress: draft.write_json(PROGRESS, progress))
    return folder


def one_rank(rank: int, path: Path, told: Path) -> None:
    """Agree with the other rank; leaves what it came to."""
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{told}/meeting",
        rank=rank,
        world_size=WORLD_SIZE,
        timeout=timedelta(seconds=120),
    )
    folder = Checkpoints(path / str(rank), keep=9, settings={})
    try:
        step = agreed_step(lambda: newest_step(folder, print), rank=rank, device=CPU)
        found = json.dumps(step)
    except ArtifactError as error:
        found = f"raised: {error}"
    (told / f"{rank}.txt").write_text(found)
    distributed.destroy_process_group()


def agreed_by_two(path: Path) -> list[str]:
    told = path / "told"
    told.mkdir()
    mp.spawn(one_rank, (path, told), nprocs=WORLD_SIZE)
    return [(told / f"{rank}.txt").read_text() for rank in range(WORLD_SIZE)]


def test_ranks_that_see_different_checkpoints_go_on_from_that_of_rank_0(tmp_path: Path) -> None:
    folder_at(tmp_path / "0", 2, 4)
    folder_at(tmp_path / "1", 2)
    assert agreed_by_two(tmp_path) == ["4", "4"]


def test_a_rank_0_that_cannot_choose_leaves_no_other_waiting(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "0", 2)
    (folder.path(2) / PROGRESS).unlink()
    folder_at(tmp_path / "1", 2)
    first, second = agreed_by_two(tmp_path)
    assert "none of its 1 checkpoints is whole" in first
    assert second == "null"


def test_a_rank_alone_chooses_for_itself_and_tells_of_damage(tmp_path: Path) -> None:
    folder = folder_at(tmp_path, 2, 4)
    (folder.path(4) / PROGRESS).unlink()
    warnings: list[str] = []
    assert agreed_step(lambda: newest_step(folder, warnings.append), rank=0, device=CPU) == 2
    (warning,) = warnings
    assert "training goes on from step-000000002" in warning


@pytest.mark.parametrize("rank", [0, 1])
def test_the_agreed_checkpoint_is_taken_though_newer_ones_are_there(
    tmp_path: Path, rank: int
) -> None:
    folder = folder_at(tmp_path, 2, 4)
    assert checkpoint_of(folder, 2, rank=rank) == folder.path(2)
    assert checkpoint_of(folder, FROM_START, rank=rank) is None

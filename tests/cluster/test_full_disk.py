"""A disk that is full is an error, not the end of the process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pinsage.base.arrays import write_summed
from pinsage.base.artifacts import Draft
from pinsage.cluster.walkers import join_parts, part_path

CHUNKS = [(0, 5), (5, 12)]
CUTS = dict(zip(CHUNKS, (1, 2), strict=True))


def write_parts(folder: Path, whole: np.ndarray) -> None:
    """The first chunk by one process, the second by two shards."""
    ids = np.arange(5, 12)
    for name in ("neighbor_ids", "weights", "hard_negatives"):
        write_summed(part_path(folder, name, CHUNKS[0]), whole[:5])
        for shard in range(2):
            rows = whole[ids[ids % 2 == shard]]
            write_summed(part_path(folder, name, CHUNKS[1], shard, 2), rows)


@pytest.mark.parametrize("width", [3, 0])
def test_parts_of_processes_and_of_shards_are_joined_in_the_order_of_items(
    tmp_path: Path, width: int
) -> None:
    whole = np.arange(12 * width, dtype=np.int32).reshape(12, width)
    write_parts(tmp_path, whole)
    join_parts(tmp_path, CUTS, Draft(tmp_path), "neighbor_ids")
    np.save(tmp_path / "plain.npy", whole)
    assert (tmp_path / "neighbor_ids.npy").read_bytes() == (tmp_path / "plain.npy").read_bytes()


def test_a_part_that_is_gone_is_an_error(tmp_path: Path) -> None:
    write_parts(tmp_path, np.ones((12, 3), np.float32))
    part_path(tmp_path, "weights", CHUNKS[1], 1, 2).unlink()
    with pytest.raises(FileNotFoundError, match="weights-"):
        join_parts(tmp_path, CUTS, Draft(tmp_path), "weights")
    assert not (tmp_path / "weights.npy").exists()


def test_a_disk_that_fills_while_parts_are_joined_is_an_error(tmp_path: Path) -> None:
    parts, small = tmp_path / "parts", tmp_path / "small"
    parts.mkdir()
    small.mkdir()
    write_parts(parts, np.ones((12, 10_000), np.float32))
    script = """
import pathlib, sys
from pinsage.base.artifacts import Draft
from pinsage.cluster.walkers import join_parts
parts, small = map(pathlib.Path, sys.argv[1:])
try:
    join_parts(parts, {(0, 5): 1, (5, 12): 2}, Draft(small), "neighbor_ids")
except OSError as error:
    print(error, list(small.iterdir()))
"""
    # A small disk that only this process sees.
    mount = 'mount -t tmpfs -o size=64k tmpfs "$1" && shift && exec "$@"'
    alone = ["unshare", "-rm", "sh", "-c", mount, "sh", str(small)]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system mounts nothing for us")
    done = subprocess.run(
        [*alone, sys.executable, "-c", script, str(parts), str(small)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "[Errno 28] No space left on device []\n")

"""Arrays are opened by many threads at once."""

import gc
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pinsage.base.arrays import map_array, read_array, read_summed, write_summed
from pinsage.base.errors import ArtifactError


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns while headers are parsed, as a collection's callbacks let them."""

    def let_others_run(*_: object) -> None:
        time.sleep(0)

    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(let_others_run)
    gc.set_threshold(1)
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.callbacks.remove(let_others_run)


@pytest.mark.usefixtures("switching")
def test_threads_open_arrays_at_once(tmp_path: Path):
    path, wanted = tmp_path / "rows.npy", np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(path, wanted)
    ready = threading.Barrier(8)

    def open_many(_: int) -> None:
        ready.wait()
        for _ in range(100):
            np.testing.assert_array_equal(map_array(path)[1], wanted[1])
            np.testing.assert_array_equal(read_array(path)[1], wanted[1])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(open_many, range(8)))


def test_a_changed_map_leaves_the_file_alone(tmp_path: Path):
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros(3))
    mapped = map_array(path, changeable=True)
    mapped[0] = 1
    assert read_array(path).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="read-only"):
        map_array(path)[0] = 1


@pytest.mark.parametrize("what", ["an empty file", "an archive"])
def test_what_holds_no_array_is_refused(tmp_path: Path, what: str):
    path = tmp_path / "rows.npy"
    with path.open("wb") as file:
        if what == "an archive":
            np.savez(file, rows=np.zeros(3))
    for open_array in (read_array, map_array):
        with pytest.raises(ValueError, match=r"the file is "):
            open_array(path)


def test_python_objects_are_refused(tmp_path: Path):
    path = tmp_path / "objects.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    for open_array in (read_array, map_array):
        with pytest.raises(ValueError, match=r"[Oo]bject"):
            open_array(path)


def test_no_flipped_bit_of_a_summed_file_is_read(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.npy", np.arange(60, dtype=np.int32).reshape(20, 3)
    write_summed(path, rows)
    np.testing.assert_array_equal(read_summed(path), rows)
    whole = path.read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"rows\.npy: damaged"):
            read_summed(path)
    for cut in (0, 3, 4, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ArtifactError, match="damaged"):
            read_summed(path)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_an_empty_array_is_summed_too(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write_summed(tmp_path / "rows.npy", np.zeros(shape, np.float32))
    assert read_summed(tmp_path / "rows.npy").shape == shape

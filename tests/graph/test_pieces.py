import errno
from pathlib import Path

import numpy as np
import pytest

from pinsage.graph.pieces import has_piece, open_piece, save_piece


def test_a_piece_that_the_disk_has_no_room_for_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = np.save, []

    def fail_at_the_second(path: Path, *arguments: object, **options: object) -> None:
        saved.append(path)
        save(path, *arguments, **options)
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", fail_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        save_piece(tmp_path / "part", {"one": np.arange(3), "two": np.arange(3)})
    assert not list(tmp_path.iterdir())


def test_a_piece_that_is_there_is_kept(tmp_path: Path) -> None:
    for values in ([1, 2], [3]):
        save_piece(tmp_path / "part", {"values": np.array(values)}, {"first": values[0]})
    assert has_piece(tmp_path / "part")
    found = open_piece(tmp_path / "part")
    assert (found.arrays["values"].tolist(), found.facts) == ([1, 2], {"first": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["part"]

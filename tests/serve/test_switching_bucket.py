"""A server whose generations stand in a bucket lets go of the copies it needs no more."""

from pathlib import Path

import pytest

from pinsage.base.addresses import StorageConfig, folder_of
from pinsage.base.copies import make_room, set_limit
from serve.generations import listed
from tests.buckets import BucketServer
from tests.serve.fakes import NUM_ITEMS, beside, write_further, write_generation
from tests.serve.replica import ITEM, Server


@pytest.fixture
def folders(buckets: BucketServer, tmp_path: Path) -> tuple[Path, Path]:
    """One output in a bucket, as who writes and who serves know it; a generation is there."""
    address = buckets.new_run()
    writer, output = (folder_of(address, tmp_path / name) for name in ("writer", "server"))
    write_generation(writer)
    return writer, output


def test_copies_of_generations_that_are_served_no_more_go_and_come_back(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    writer, output = folders
    # Nothing stays that nobody holds.
    set_limit(output, StorageConfig(cache_gib=1e-9))
    writes = {name: tmp_path / name for name in ("writes", "votes")}
    server = Server(output, **writes)
    first = server.served

    def copied() -> set[str]:
        make_room(output)
        return {path.name for path in (output / "index").iterdir() if path.name[0] != "."}

    assert copied() == {"23456789abcd"}
    second, third = write_further(writer, 3), write_further(writer, 5)
    assert server.ask(generation=second) == (200, "served")
    assert copied() == {"23456789abcd", f"{3:012x}"}
    assert server.ask(generation=third) == (200, "served")
    assert copied() == {f"{3:012x}", f"{5:012x}"}
    assert server.ask(previous=True) == (200, "served")
    assert server.nearest() == beside(ITEM, 3)
    assert server.ask(generation=first) == (200, "served")
    assert server.nearest() == beside(ITEM, 1)
    assert copied() == {"23456789abcd", f"{3:012x}"}


def test_a_list_of_what_could_be_served_fetches_no_graph(folders: tuple[Path, Path]) -> None:
    writer, output = folders
    write_further(writer, 3)
    assert [one.counts["items"] for one in listed(output)] == [NUM_ITEMS] * 2
    assert not (output / "graph").exists()

"""Publishing into a bucket of an emulator of Google's storage, and opening what is there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pinsage.base.addresses import Place, check_address, folder_of
from pinsage.base.artifacts import is_published, list_published, open_artifact, publish
from pinsage.base.copies import remove
from pinsage.base.errors import ArtifactError, StorageError
from pinsage.base.storage import list_objects, remove_tree
from tests.buckets import GoogleServer


@pytest.fixture(scope="module")
def server() -> Iterator[GoogleServer]:
    with GoogleServer() as server:
        yield server


def write(directory: Path) -> None:
    with publish(directory, stage="numbers", config={}, parents={}) as draft:
        for number in range(3):
            draft.write_array(f"part/{number}.npy", np.full(9 * 2**20, number, np.uint8))


def test_what_one_machine_publishes_another_one_opens_and_removes(
    server: GoogleServer, tmp_path: Path
) -> None:
    address = server.new_run()
    here, there = (folder_of(address, tmp_path / name) / "numbers/a" for name in ("here", "there"))
    write(here)
    opened = open_artifact(there, stage="numbers", check_digests=True)
    assert opened.manifest == open_artifact(here, stage="numbers").manifest
    assert (np.load(there / "part/2.npy") == 2).all()
    assert list_published(there.parent) == [there]
    with pytest.raises(ArtifactError, match="published already"):
        write(there)
    remove(there)
    assert not is_published(here)
    assert not list_objects(Place(address, ""))


def test_what_is_not_there_may_be_removed(server: GoogleServer) -> None:
    remove_tree(Place(server.new_run(), "numbers/none"))


def test_a_bucket_that_does_not_exist_is_named(server: GoogleServer, tmp_path: Path) -> None:
    address = server.new_run(bucket="elsewhere")
    with pytest.raises(StorageError, match=r"gs://anonymous@elsewhere/run-\d+.*cannot write"):
        write(folder_of(address, tmp_path) / "numbers/a")


def test_a_server_that_is_gone_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinsage.base.storage._ATTEMPTS", 1)
    with GoogleServer() as gone:
        address = f"{gone.new_run()}&retry_limit_seconds=1"
    with pytest.raises(StorageError, match=r"cannot .* it .*Could not connect"):
        open_artifact(folder_of(address, tmp_path) / "numbers/a", stage="numbers")


def test_only_a_user_without_secrets_may_stand_in_an_address() -> None:
    assert check_address("gs://anonymous@public/run") == "gs://anonymous@public/run"
    for address in ("gs://someone@public/run", "s3://anonymous@public/run"):
        with pytest.raises(ValueError, match="without credentials"):
            check_address(address)

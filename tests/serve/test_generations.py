import json
from pathlib import Path

import pytest

from pinsage.base.errors import ArtifactError
from pinsage.cluster.generations import GENERATION, GENERATIONS, publish_generation
from serve.generation import Generation, read_parts
from serve.generations import (
    UnknownGenerationError,
    decide,
    find,
    first_parts,
    listed,
    newest_digest,
    wanted_digest,
)
from serve.pointer import POINTER, Pointer, read_pointer
from tests.serve.fakes import NUM_ITEMS, beside, write_further, write_generation

OLD, NEW, NEWER = "0" * 12, "1" * 12, "2" * 12


@pytest.fixture
def output(tmp_path: Path) -> Path:
    write_generation(tmp_path)
    return tmp_path


def pointer(generation: str, newest: str) -> Pointer:
    return Pointer(generation=generation, newest=newest, at="2026-01-01T00:00:00+00:00")


def test_a_published_generation_stays_when_a_newer_one_is_published(output: Path):
    first = read_parts(output / GENERATION)
    second = write_further(output, 3)
    assert newest_digest(output) == second != first.digest
    assert find(output, first.digest).names == first.names
    again = publish_generation(
        output, {name: output / where for name, where in first.names.items()}
    )
    assert read_parts(again).digest == first.digest
    assert {one.digest for one in listed(output)} == {first.digest, second}
    assert sorted(path.stem for path in (output / GENERATIONS).iterdir()) == sorted({
        first.digest,
        second,
    })


def test_a_generation_from_before_each_had_its_own_file_is_kept_when_the_next_is_published(
    output: Path,
):
    first = read_parts(output / GENERATION).digest
    (output / GENERATIONS / f"{first}.json").unlink()
    assert find(output, first).digest == first
    write_further(output, 3)
    assert find(output, first).digest == first


def test_the_list_tells_counts_quality_and_damage(output: Path):
    first = newest_digest(output)
    second = write_further(output, 3)
    (output / "index" / f"{3:012x}" / "manifest.json").unlink()
    by_digest = {one.digest: one for one in listed(output)}
    assert by_digest[first].counts["items"] == NUM_ITEMS
    assert by_digest[first].quality["text"] == {"hit_rate@10": 0.02, "hit_rate@100": 0.2}
    assert by_digest[first].damage is None
    assert "isn't a published directory" in by_digest[second].damage


@pytest.mark.parametrize("metrics", [None, [], 5, {"pinsage": [1]}])
def test_a_damaged_report_keeps_no_generation_from_being_gone_back_to(
    output: Path, metrics: object
):
    digest = newest_digest(output)
    (report,) = output.glob("report/*/report.json")
    report.write_text(json.dumps({"metrics": metrics}))
    (found,) = [one for one in listed(output) if one.digest == digest]
    assert (found.quality, found.damage) == ({}, None)


@pytest.mark.parametrize(
    "digest", ["../generation", "..", "", "generation", "0" * 12, f"{GENERATIONS}/x", "\0"]
)
def test_what_is_not_a_published_digest_is_found_nowhere(output: Path, digest: str):
    (output / GENERATIONS / "notes.json").write_text("{}")
    with pytest.raises(UnknownGenerationError, match=newest_digest(output)):
        find(output, digest)


def test_a_file_that_was_changed_after_it_was_published_is_refused(output: Path):
    digest = newest_digest(output)
    write_further(output, 3)
    path = output / GENERATIONS / f"{digest}.json"
    path.write_text(path.read_text().replace("0123456789ab", "000000000003"))
    with pytest.raises(ArtifactError, match="changed after it was published"):
        find(output, digest)


def test_parts_that_were_not_made_from_each_other_are_refused(output: Path):
    path = output / "neighborhoods" / "123456789abc" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"parents": {"graph": "f" * 64}}))
    with pytest.raises(ArtifactError, match="neighborhoods was made from another graph"):
        Generation.open(output / GENERATION)


def test_the_further_generations_of_these_tests_answer_as_they_say(output: Path):
    path = find(output, write_further(output, 5, width=7, group="words")).path
    opened = Generation.open(path)
    found, _ = opened.index.search(opened.index.vectors[4:5], 3)
    keys = {opened.catalog.keys[item_id] for item_id in found[0] if item_id != 4}
    assert keys == beside(4, 5)
    assert opened.index.vectors.shape[1] == 7
    assert "words" in opened.graph.feature_columns


@pytest.mark.parametrize(
    ("decided", "newest", "first", "follow", "wanted"),
    [
        (None, NEW, None, "pointer", NEW),
        (None, None, None, "pointer", None),
        # What runs goes on as it began, and what replaces a part of it begins as it did.
        (None, NEW, OLD, "pointer", OLD),
        (None, NEW, OLD, "newest", NEW),
        (None, None, OLD, "newest", OLD),
        (pointer(OLD, NEW), NEW, None, "pointer", OLD),
        (pointer(OLD, NEW), NEWER, None, "pointer", OLD),
        (pointer(OLD, NEW), NEWER, NEW, "pointer", OLD),
        # A rollback holds until something newer is published.
        (pointer(OLD, NEW), NEW, NEW, "newest", OLD),
        (pointer(OLD, NEW), NEWER, NEW, "newest", NEWER),
        (pointer(OLD, NEW), None, NEW, "newest", OLD),
    ],
)
def test_which_generation_is_to_be_served(decided, newest, first, follow, wanted):
    assert wanted_digest(decided, newest, first=first, follow=follow) == wanted


def test_a_server_begins_with_what_was_decided_and_without_that_with_the_newest(output: Path):
    path = output / GENERATION
    first = newest_digest(output)
    second = write_further(output, 3)
    assert first_parts(path).digest == second
    assert first_parts(path, first=first).digest == first
    decide(output, first, previous=second)
    assert first_parts(path).digest == first
    third = write_further(output, 4)
    assert first_parts(path).digest == first
    assert first_parts(path, follow="newest").digest == third


def test_a_decision_for_what_is_gone_is_told_with_a_way_out(output: Path):
    decide(output, OLD, previous=None)
    with pytest.raises(ArtifactError, match=rf"{OLD} is published.*serving\.json asks for it"):
        first_parts(output / GENERATION)


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_a_torn_decision_is_a_clear_error_at_every_length(output: Path, cut: int):
    decide(output, newest_digest(output), previous=None)
    path = output / POINTER
    whole = path.read_bytes().rstrip()
    path.write_bytes(whole[:cut])
    with pytest.raises(ArtifactError, match=r"serving\.json: damaged.*serve\.switch --to"):
        read_pointer(output)
    with pytest.raises(ArtifactError, match="damaged"):
        first_parts(output / GENERATION)

import gc
import threading
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path

import pytest

from pinsage.base.errors import ArtifactError
from pinsage.cluster.generations import GENERATION, GENERATIONS
from pinsage.cluster.run_config import ServeConfig
from serve.answers import Answers
from serve.current import Current
from serve.generation import Generation
from serve.generations import decide, newest_digest
from serve.metrics import Metrics
from serve.pointer import POINTER, read_pointer
from serve.switching import Opening, Switcher
from tests.serve.fakes import KEYS, beside, write_further, write_generation
from tests.serve.replica import ITEM, Server


@pytest.fixture
def output(tmp_path: Path) -> Path:
    write_generation(tmp_path)
    return tmp_path


def test_a_switch_changes_everything_at_once_and_back_again(output: Path):
    first = newest_digest(output)
    server = Server(output)
    second = write_further(output, 3, width=5, group="words")
    assert server.served == first
    assert server.nearest() == beside(ITEM, 1)
    methods = [method["name"] for method in server.client.get("/v1/generation").json()["methods"]]
    assert methods == ["pinsage", "text", "walk"]

    assert server.ask(generation=second) == (200, "served")
    assert server.served == second
    assert server.nearest() == beside(ITEM, 3)
    description = server.client.get("/openapi.json").json()
    parameters = description["paths"]["/v1/items/{item_key}/similar"]["get"]["parameters"]
    (method,) = [found for found in parameters if found["name"] == "method"]
    assert method["schema"]["enum"] == ["pinsage", "words", "walk"]
    assert server.client.get(f"/v1/items/{KEYS[ITEM]}/similar?method=text").status_code == 422

    assert server.ask(previous=True) == (200, "served")
    assert server.served == first
    assert server.nearest() == beside(ITEM, 1)
    told = server.client.get("/v1/generations").json()
    assert (told["served"], told["previous"]) == (first, second)
    marks = {
        one["generation"]: (one["is_served"], one["is_previous"]) for one in told["generations"]
    }
    assert marks == {first: (True, False), second: (False, True)}


def test_a_server_that_is_started_again_serves_what_was_decided(output: Path):
    first = newest_digest(output)
    second = write_further(output, 3)
    server = Server(output)
    assert server.served == second
    server.ask(generation=first)
    write_further(output, 4)
    assert Server(output).served == first


def test_every_other_server_follows_a_decision(output: Path):
    server, other = Server(output), Server(output)
    second = write_further(output, 3)
    server.ask(generation=second)
    assert other.served != second
    assert other.switcher.follow()
    assert not other.switcher.follow()
    assert other.served == second
    assert other.nearest() == beside(ITEM, 3)
    other.ask(previous=True)
    server.switcher.follow()
    assert server.served == other.served != second


def test_a_first_decision_made_elsewhere_can_be_taken_back(output: Path):
    server = Server(output)
    first, second = server.served, write_further(output, 3)
    decide(output, second, previous=None)
    assert server.switcher.follow()
    assert read_pointer(output).previous == first
    assert server.ask(previous=True) == (200, "served")
    assert server.served == first


@pytest.mark.parametrize("how", ["cut", "unpublished", "a folder"])
def test_a_generation_whose_files_are_not_there_is_listed_and_refused(output: Path, how: str):
    server = Server(output)
    second = write_further(output, 3)
    path = output / GENERATIONS / f"{second}.json"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        path = output / "graph" / f"{3:012x}" / "manifest.json"
        path.unlink()
    if how == "a folder":
        path.mkdir()
    told = server.client.get("/v1/generations").json()["generations"]
    assert next(one["damage"] for one in told if one["generation"] == second)
    assert server.ask(generation=second) == (409, "damaged_generation")


@pytest.mark.parametrize("damage", ["index.json", "vectors.npy", "manifest.json"])
def test_a_damaged_generation_is_refused_and_nothing_changes(output: Path, damage: str):
    first = newest_digest(output)
    server = Server(output)
    second = write_further(output, 3)
    path = output / "index" / f"{3:012x}" / damage
    path.write_bytes(path.read_bytes()[:-7] + b"damaged")
    assert server.ask(generation=second) == (409, "damaged_generation")
    assert server.served == first
    assert server.nearest() == beside(ITEM, 1)
    assert read_pointer(output) is None
    assert not server.switcher.follow()


def test_a_rollback_to_a_generation_whose_model_is_gone_changes_nothing(tmp_path: Path):
    write_generation(tmp_path, with_model=True)
    server = Server(tmp_path)
    second = write_further(tmp_path, 3, with_model=True)
    server.ask(generation=second)
    assert server.client.put("/v1/items/new", json={}).status_code == 200
    (tmp_path / "model" / "456789abcdef" / "manifest.json").unlink()
    assert server.ask(previous=True) == (409, "damaged_generation")
    assert server.served == second == read_pointer(tmp_path).generation


def test_what_cannot_be_switched_to_is_told_apart(output: Path):
    server = Server(output)
    assert server.ask(generation="f" * 12) == (404, "unknown_generation")
    assert server.ask(previous=True) == (409, "no_previous_generation")
    for wrong in ({}, {"generation": "../x"}, {"generation": "f" * 12, "previous": True}):
        assert server.ask(**wrong) == (422, "invalid_request")


def test_a_server_that_cannot_follow_serves_on_says_so_and_follows_the_next_decision(output: Path):
    first = newest_digest(output)
    server = Server(output)
    second = write_further(output, 3)
    (output / "index" / f"{3:012x}" / "index.json").write_text("{}")
    decide(output, second, previous=first)
    assert not server.switcher.follow()
    assert server.served == first
    assert second in server.client.get("/v1/generations").json()["trouble"]
    assert "pinsage_generation_behind 1.0" in server.client.get("/metrics").text
    server.switcher.check()

    third = write_further(output, 4)
    decide(output, third, previous=first)
    assert server.switcher.follow()
    assert server.served == third
    assert server.client.get("/v1/generations").json()["trouble"] is None
    assert "pinsage_generation_behind 0.0" in server.client.get("/metrics").text


def test_a_rollback_does_not_go_to_what_could_not_be_served(output: Path):
    first = newest_digest(output)
    server = Server(output)
    second = write_further(output, 3)
    (output / "index" / f"{3:012x}" / "index.json").write_text("{}")
    decide(output, second, previous=first)
    server.switcher.follow()
    server.ask(generation=write_further(output, 4))
    assert server.ask(previous=True) == (200, "served")
    assert server.served == first


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_rollback_does_not_go_to_what_is_served(output: Path, *, is_lost: bool):
    first = newest_digest(output)
    server = Server(output)
    if is_lost:
        decide(output, "f" * 12, previous=first)
        server.switcher.follow()
    assert server.ask(generation=first) == (200, "served")
    assert read_pointer(output).generation == first
    assert server.ask(previous=True) == (409, "no_previous_generation")


def test_what_cannot_be_found_is_told_without_where_the_folder_is(output: Path):
    server = Server(output)
    decide(output, "f" * 12, previous=None)
    server.switcher.follow()
    told = server.client.get("/v1/generations")
    assert "f" * 12 in told.json()["trouble"]
    assert str(output) not in told.text


def test_a_damaged_decision_is_told_and_mended_by_the_next_one(output: Path):
    first = newest_digest(output)
    server = Server(output)
    second = write_further(output, 3)
    (output / POINTER).write_text('{"generation"')
    assert not server.switcher.follow()
    assert server.served == first
    assert "damaged" in server.client.get("/v1/generations").json()["trouble"]
    reply = server.client.post("/v1/generation", json={"previous": True})
    assert reply.json()["code"] == "no_previous_generation"
    assert "Nobody knows what was served before" in reply.json()["detail"]
    assert server.ask(generation=second) == (200, "served")
    assert read_pointer(output).generation == second
    assert server.client.get("/v1/generations").json()["trouble"] is None


def test_newer_generations_go_live_by_themselves_only_where_that_is_asked_for(output: Path):
    first = newest_digest(output)
    steady, eager = Server(output), Server(output, follow="newest")
    second = write_further(output, 3)
    assert not steady.switcher.follow()
    assert steady.served == first
    assert eager.switcher.follow()
    assert eager.served == second
    # A rollback holds, until something newer is published.
    eager.ask(previous=True)
    assert not eager.switcher.follow()
    assert eager.served == first
    third = write_further(output, 4)
    assert eager.switcher.follow()
    assert eager.served == third


def test_a_decision_made_while_another_generation_was_being_opened_counts(
    output: Path, monkeypatch: pytest.MonkeyPatch
):
    first = newest_digest(output)
    server = Server(output)
    second, third = write_further(output, 3), write_further(output, 4)
    opened = Generation.open

    def slow(path: Path) -> Generation:
        monkeypatch.undo()
        decide(output, third, previous=first)
        return opened(path)

    monkeypatch.setattr(Generation, "open", slow)
    assert server.ask(generation=second) == (409, "switch_overtaken")
    assert server.served == first
    assert server.switcher.follow()
    assert server.served == third


def test_what_was_opened_when_it_was_no_longer_wanted_is_kept_where_a_rollback_goes_to_it(
    output: Path, monkeypatch: pytest.MonkeyPatch
):
    first = newest_digest(output)
    server = Server(output)
    second = write_further(output, 3)
    decide(output, second, previous=first)
    opened = Generation.open

    def slow(path: Path) -> Generation:
        # Meanwhile it was taken back elsewhere.
        decide(output, first, previous=second)
        return opened(path)

    monkeypatch.setattr(Generation, "open", slow)
    assert not server.switcher.follow()
    assert server.served == first

    def never(path: Path) -> Generation:
        raise AssertionError(f"{path} is open already")

    monkeypatch.setattr(Generation, "open", never)
    assert server.ask(previous=True) == (200, "served")
    assert server.served == second


def test_a_switch_that_takes_longer_than_a_request_may_goes_on_after_its_answer(
    output: Path, monkeypatch: pytest.MonkeyPatch
):
    server = Server(output, boundary={"request_timeout_s": 0.2})
    second = write_further(output, 3)
    opened, may_open = Generation.open, threading.Event()

    def slow(path: Path) -> Generation:
        assert may_open.wait(60)
        return opened(path)

    monkeypatch.setattr(Generation, "open", slow)
    assert server.ask(generation=second) == (202, "opening")
    assert server.served != second
    may_open.set()
    # It waits for the one that is under way.
    server.switcher.begin(second).result(60)
    assert server.served == second
    assert server.nearest() == beside(ITEM, 3)


def test_a_switch_that_fails_after_its_answer_is_told_until_something_is_put_in_force(
    output: Path, monkeypatch: pytest.MonkeyPatch
):
    server = Server(output, boundary={"request_timeout_s": 0.2})
    second = write_further(output, 3)
    may_open = threading.Event()

    def failed() -> object:
        return server.client.get("/v1/generations").json()["failed"]

    def damaged(path: Path) -> Generation:
        assert may_open.wait(60)
        raise ArtifactError(f"{path.parent}/index is torn")

    with monkeypatch.context() as patched:
        patched.setattr(Generation, "open", damaged)
        assert server.ask(generation=second) == (202, "opening")
        assert failed() is None
        may_open.set()
        assert server.ask(generation=second) == (409, "damaged_generation")
    told = failed()
    assert told["generation"] == second
    assert "index is torn" in told["reason"]
    assert str(output) not in told["reason"]
    assert server.ask(generation=second) == (200, "served")
    assert failed() is None


def test_what_was_written_since_is_put_in_force_with_a_generation_and_again_on_the_way_back(
    output: Path,
):
    config, metrics = ServeConfig(), Metrics()
    first = Answers(Generation.open(output / GENERATION), config)
    second = write_further(output, 3)
    current = Current(first, metrics)
    made: list[Answers] = []

    def applied(answers: Answers) -> Answers:
        made.append(copy(answers))
        return made[-1]

    opening = Opening(lambda parts: Answers(Generation.open(parts.path), config), applied)
    switcher = Switcher(current, first, output, opening, metrics, follow="pointer")
    switcher.switch(second)
    # Once opened, and once more while it was put in force.
    assert [answers.digest for answers in made] == [second, second]
    assert current.now is made[-1]
    switcher.switch(first.digest)
    assert current.now is made[-1]
    assert current.now.digest == first.digest


@pytest.fixture
def mapped(output: Path) -> Iterator[Callable[[], set[int]]]:
    """Tells which steps' files are mapped into this process, without any search for cycles."""
    gc.disable()

    def steps() -> set[int]:
        maps = Path("/proc/self/maps").read_text()
        return {step for step in range(2, 9) if f"{output}/index/{step:012x}" in maps}

    yield steps
    gc.enable()


def test_the_one_before_stays_open_and_what_came_before_is_let_go(
    output: Path, mapped: Callable[[], set[int]]
):
    server = Server(output)
    digests = [write_further(output, step) for step in (2, 3, 4)]
    for digest in digests:
        server.ask(generation=digest)
        server.nearest()
    assert mapped() == {3, 4}
    server.ask(previous=True)
    assert server.nearest() == beside(ITEM, 3)
    assert mapped() == {3, 4}

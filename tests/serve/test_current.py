import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from pinsage.cluster.run_config import ServeConfig
from serve.answers import Answers
from serve.api import build_api
from serve.current import Current
from serve.generation import Generation
from serve.metrics import Metrics
from tests.serve.fakes import write_generation


@pytest.fixture(scope="module")
def two(generation: Generation, tmp_path_factory: pytest.TempPathFactory) -> list[Answers]:
    path: Path = tmp_path_factory.mktemp("other")
    other = Generation.open(write_generation(path, with_report=False))
    return [Answers(opened, ServeConfig()) for opened in (generation, other)]


def test_the_next_request_is_answered_from_what_was_put_in_force(
    generation: Generation, two: list[Answers]
):
    app = build_api(generation, ServeConfig())
    # Typed as anything: what type a test client's answers have hangs on the versions installed.
    client: Any = TestClient(app)
    for answers in [two[1], two[0], two[1]]:
        app.state.current.replace(lambda _, answers=answers: answers)
        reply = client.get("/v1/generation")
        assert reply.headers["x-pinsage-generation"] == answers.digest
        assert reply.json()["generation"] == answers.digest
        assert f'generation="{answers.digest}"}} 1.0' in client.get("/metrics").text


def test_of_many_changes_at_once_none_is_lost(two: list[Answers]):
    # Each change reads what is in force and puts what follows it in force; a lost one would show.
    current = Current(two[0], Metrics())
    changes = 200

    def turn(now: Answers) -> Answers:
        return two[1 - two.index(now)]

    def turn_often() -> None:
        for _ in range(changes):
            current.replace(turn)

    threads = [threading.Thread(target=turn_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    current.replace(turn)
    assert current.now is two[1]


def test_a_change_that_fails_changes_nothing(two: list[Answers]):
    current = Current(two[0], Metrics())

    def fail(_: Answers) -> Answers:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        current.replace(fail)
    assert current.now is two[0]
    assert current.replace(lambda _: two[1]) is two[1]

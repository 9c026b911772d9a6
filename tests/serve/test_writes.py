"""Written items are in every answer, deleted ones in none: against brute force over the living."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pinsage.cluster.run_config import ServeConfig
from serve.answers import Answers
from serve.current import Current
from serve.embedding import Description
from serve.generation import Generation
from serve.live import Writes
from serve.metrics import Metrics
from serve.problems import ProblemError
from serve.schemas_feed import HomefeedRequest
from serve.schemas_items import PutRequest
from tests.serve.fakes import KEYS, NUM_CONTEXTS, WALK_STEPS, WALK_WEIGHTS, write_generation

K = 6
NEW_KEYS = ["new", "a/new", "n\u00fc"]
CONFIG = ServeConfig()


@dataclass(frozen=True)
class Truth:
    """What is known of one item, without any index."""

    title: str
    year: int | None
    embedding: np.ndarray
    text: np.ndarray
    neighbors: Mapping[str, float]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    path = write_generation(tmp_path_factory.mktemp("run"), with_model=True)
    return Answers(Generation.open(path), CONFIG)


@pytest.fixture(scope="module")
def published(base: Answers) -> dict[str, Truth]:
    graph = base._generation.graph
    text = graph.features().gather(np.arange(len(KEYS)))[:, :2]
    found = {}
    for item_id, key in enumerate(KEYS):
        steps = zip(WALK_STEPS, WALK_WEIGHTS, strict=True)
        found[key] = Truth(
            base.item(key).title,
            1800 + item_id,
            np.asarray(base._generation.index.vectors[item_id]),
            text[item_id],
            {KEYS[(item_id + step) % len(KEYS)]: weight for step, weight in steps}
            if item_id < len(KEYS) - 1
            else {},
        )
    return found


def replica(base: Answers, folder: Path) -> tuple[Current, Writes]:
    current = Current(base, Metrics())
    return current, Writes(folder, current)


requests = st.builds(
    PutRequest,
    title=st.none() | st.sampled_from(["Emma", "Something new"]),
    metadata=st.fixed_dictionaries({}, optional={"year": st.none() | st.integers(1800, 1840)}),
    features=st.fixed_dictionaries(
        {}, optional={"text": st.lists(st.integers(-3, 3), min_size=2, max_size=2)}
    ),
    contexts=st.lists(st.integers(0, NUM_CONTEXTS + 2).map("shelf-{}".format), max_size=4),
)
writes_to_make = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([*KEYS[:4], KEYS[14], KEYS[-1], *NEW_KEYS]),
        st.none() | requests,
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    derandomize=True,
)
@given(made=writes_to_make)
def test_every_answer_is_what_brute_force_over_the_living_gives(
    base: Answers,
    published: dict[str, Truth],
    tmp_path_factory: pytest.TempPathFactory,
    made: list[tuple[int, str, PutRequest | None]],
):
    folder = tmp_path_factory.mktemp("writes")
    replicas = [replica(base, folder) for _ in range(2)]
    truth = dict(published)
    for at, key, request in made:
        writes = replicas[at][1]
        if request is None:
            assert writes.delete(key)[0].was_there is (key in truth)
            truth.pop(key, None)
        else:
            assert writes.put(key, request)[0].is_new is (key not in truth)
            truth[key] = truth_of(base, key, request)
    restarted = replica(base, folder)
    for current, writes in (*replicas, restarted):
        writes.catch_up()
        check(current.now, truth)
        assert writes.applied(current.now) is current.now
        # A replica that has seen none of it yet, brought up to date at once.
        check(writes.applied(base), truth)
    assert base.num_writes == 0


def truth_of(base: Answers, key: str, request: PutRequest) -> Truth:
    known = KEYS.index(key) if key in KEYS else None
    (found,) = base.embedder.embed([Description(request.features, request.contexts, known)])
    text = np.asarray(request.features.get("text", [0, 0]), np.float32)
    return Truth(
        request.title or key,
        request.metadata.get("year"),
        found.embedding,
        text / (np.linalg.norm(text) or 1),
        {KEYS[i]: w for i, w in zip(found.neighbor_ids, found.neighbor_weights, strict=True)},
    )


def check(answers: Answers, truth: dict[str, Truth]) -> None:
    keys = [key for key in (*KEYS[:6], KEYS[-1], *NEW_KEYS) if key in truth]
    banned = [KEYS[1], NEW_KEYS[0]]
    few = answers.wanted({"year": {"lt": 1810}}, banned)
    for method, score in SCORES.items():
        for key in keys:
            for wanted, passes in ((answers.wanted(None), lambda _: True), (few, passes_few)):
                (text,) = answers.similar([key], K, method, wanted)
                others = {
                    other: s
                    for other in truth
                    if other != key
                    and passes(truth[other].year)
                    and (wanted is not few or other not in banned)
                    and (s := score(truth, key, other)) is not None
                }
                assert_best(orjson.loads(text)["items"], others, truth)
    for key in (*KEYS[:6], *NEW_KEYS):
        assert (answers.items.id_of(key) is not None) is (key in truth)
        if key not in truth:
            for ask in (lambda k=key: answers.item(k), lambda k=key: answers.why(k, KEYS[20])):
                with pytest.raises(ProblemError, match="no item"):
                    ask()
            continue
        assert answers.item(key).title == truth[key].title
        assert answers.item(key).metadata.get("year") == truth[key].year
        assert key in {item.key for item in answers.search(truth[key].title, 50)}
        if key != KEYS[20]:
            told = answers.why(KEYS[20], key)
            assert told.scores["pinsage"] == pytest.approx(
                float(truth[KEYS[20]].embedding @ truth[key].embedding), abs=1e-5
            )
    shown = [*answers.starting_points(100), *answers.search("e", 100)]
    feed = answers.homefeed(HomefeedRequest.model_validate({"recent": [{"key": KEYS[20]}]}))
    assert {item.key for item in (*shown, *feed.items)} <= set(truth)
    assert sum(answers.num_items.values()) == len(truth)


def passes_few(year: int | None) -> bool:
    return year is not None and year < 1810


def by_text(truth: dict[str, Truth], key: str, other: str) -> float | None:
    one, two = truth[key].text, truth[other].text
    return float(one @ two) if one.any() and two.any() else None


def by_embedding(truth: dict[str, Truth], key: str, other: str) -> float | None:
    one, two = truth[key].embedding, truth[other].embedding
    return float(one @ two) if one.any() and two.any() else None


SCORES: dict[str, Any] = {
    "pinsage": by_embedding,
    "text": by_text,
    "walk": lambda truth, key, other: truth[key].neighbors.get(other),
}


def assert_best(
    items: list[dict[str, Any]], others: Mapping[str, float], truth: dict[str, Truth]
) -> None:
    """The items are the best of the others, up to ties and rounding."""
    assert len(items) == min(K, len(others))
    assert len({item["key"] for item in items}) == len(items)
    for item in items:
        assert abs(item["score"] - others[item["key"]]) < 1e-5
        assert item["title"] == truth[item["key"]].title
    best = sorted(others.values(), reverse=True)[: len(items)]
    np.testing.assert_allclose([item["score"] for item in items], best, atol=1e-5)

from types import SimpleNamespace

import numpy as np
import pytest
import ray

from pinsage.base.errors import ResourceError, WorkerTimeoutError
from pinsage.cluster.producers import (
    MinibatchStream,
    PlacedProducer,
    start_producers,
    with_nearby,
)
from pinsage.cluster.session import require_cpus
from pinsage.sampling.minibatch import MinibatchBuilder, MinibatchConfig
from pinsage.sampling.pair_sources import FixedPairs
from tests.worlds import own_number, ring

pytestmark = pytest.mark.ray

NUM_ITEMS, STEPS = 60, 5


class RingSpec:
    """Stands in for `ProducerSpec`: builds from memory instead of published files."""

    def builder(self) -> MinibatchBuilder:
        queries = np.arange(40)
        return MinibatchBuilder(
            pairs=FixedPairs(queries, (queries + 5) % NUM_ITEMS),
            features=own_number(NUM_ITEMS),
            neighborhoods=ring(NUM_ITEMS),
            config=MinibatchConfig(size=8, shared_negatives=7, max_hard_negatives=2),
            num_layers=2,
            seed=3,
        )


def stream(
    producers: list, first_step: int = 0, timeout_s: float = 60, parts: int = 1
) -> MinibatchStream:
    return MinibatchStream(
        producers,
        node=producers[0].node,
        first_step=first_step,
        last_step=2 * STEPS,
        steps_per_epoch=STEPS,
        world_rank=0,
        world_size=1,
        prefetch=3,
        timeout_s=timeout_s,
        parts=parts,
    )


@pytest.fixture
def producers(local_ray: None):
    placed = start_producers(RingSpec(), num_per_node=2)
    assert len(placed) == 2
    yield placed
    for producer in placed:
        ray.kill(producer.actor)


def test_the_stream_gives_every_step_in_order_whoever_builds_it(producers: list) -> None:
    builder = RingSpec().builder()
    found = list(stream(producers, first_step=2))
    assert len(found) == 2 * STEPS - 2
    for step, minibatch in enumerate(found, start=2):
        wanted = builder.build(*divmod(step, STEPS), world_rank=0, world_size=1)
        np.testing.assert_array_equal(minibatch.features, wanted.features)
        np.testing.assert_array_equal(minibatch.hard_negatives, wanted.hard_negatives)


def test_a_step_in_parts_has_the_pairs_of_the_whole(producers: list) -> None:
    builder = RingSpec().builder()
    parts = [
        minibatch.seed_ids[minibatch.queries]
        for minibatch in stream(producers, first_step=2 * STEPS - 2, parts=3)
    ]
    assert len(parts) == 2 * 3
    for step in range(2):
        whole = builder.build(1, STEPS - 2 + step, world_rank=0, world_size=1)
        found = np.concatenate(parts[3 * step : 3 * step + 3])
        np.testing.assert_array_equal(found, whole.seed_ids[whole.queries])


@pytest.mark.parametrize("number", [1, 2])
def test_what_killed_producers_were_asked_for_is_built_all_the_same(
    producers: list, number: int
) -> None:
    unbroken = [minibatch.features for minibatch in stream(producers)]
    broken = stream(producers)
    found = [next(broken).features]
    for producer in producers[:number]:
        ray.kill(producer.actor, no_restart=False)
    found += [minibatch.features for minibatch in broken]
    assert len(found) == len(unbroken)
    for one, two in zip(found, unbroken, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_minibatch_that_was_lost_after_it_was_built_is_built_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(epoch: int, step: int, *, world_rank: int, world_size: int) -> int:
        asked.append(step)
        return step

    def get(reference: int, *, timeout: float) -> int:
        if asked.count(0) == 1:
            raise ray.exceptions.ObjectLostError("ab" * 28, None, "")
        return reference

    asked: list[int] = []
    fake = SimpleNamespace(get=get, exceptions=ray.exceptions)
    monkeypatch.setattr("pinsage.cluster.producers.ray", fake)
    actor = SimpleNamespace(build=SimpleNamespace(remote=build))
    minibatches = stream([PlacedProducer(actor, "here"), PlacedProducer(actor, "here")])
    assert next(minibatches) == 0
    assert asked.count(0) == 2


def test_a_node_that_came_late_has_producers_of_its_own(producers: list) -> None:
    here = producers[0].node
    assert with_nearby(producers, RingSpec(), here, num=1) == producers
    elsewhere = [PlacedProducer(producer.actor, "elsewhere") for producer in producers]
    *others, nearby = with_nearby(elsewhere, RingSpec(), here, num=1)
    assert others == elsewhere
    assert nearby.node == here
    minibatch = ray.get(nearby.actor.build.remote(0, 1, world_rank=0, world_size=1), timeout=60)
    wanted = RingSpec().builder().build(0, 1, world_rank=0, world_size=1)
    np.testing.assert_array_equal(minibatch.features, wanted.features)


def test_a_producer_that_does_not_answer_is_named(local_ray: None) -> None:
    @ray.remote(num_cpus=1_000)
    class Never:
        def build(self, epoch: int, step: int, *, world_rank: int, world_size: int) -> None: ...

    waiting = stream([PlacedProducer(Never.remote(), "here")], timeout_s=0.2)
    with pytest.raises(WorkerTimeoutError, match=r"producer 0 .* train\.request_timeout_s"):
        next(waiting)


def test_what_kept_a_producer_from_starting_is_told(local_ray: None) -> None:
    @ray.remote(num_cpus=0)
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no such table")

        def build(self, epoch: int, step: int, *, world_rank: int, world_size: int) -> None: ...

    waiting = stream([PlacedProducer(Broken.remote(), "here")], timeout_s=3)
    with pytest.raises(WorkerTimeoutError, match=r"producer 0 .*lost: ValueError: no such table"):
        next(waiting)


def test_asking_for_more_cpus_than_there_are_fails_at_once(local_ray: None) -> None:
    with pytest.raises(ResourceError, match=r"training wants 1000 CPUs.*train\.num_workers"):
        require_cpus(1_000, purpose="training", setting="train.num_workers")

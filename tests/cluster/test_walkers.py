from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from pinsage.base.artifacts import Draft
from pinsage.base.errors import ResourceError
from pinsage.cluster.walkers import walk_all
from pinsage.sampling.neighborhood import WalkConfig
from tests.cluster.graphs import publish_graph, small_graph


def test_a_process_that_is_lost_in_every_walk_is_told_of_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_call: object, *, timeout: float) -> int:
        raise ray.exceptions.ActorDiedError

    walker = SimpleNamespace(walk=SimpleNamespace(remote=lambda *_: None))
    placed: list[object] = []

    def options(*, scheduling_strategy: object) -> SimpleNamespace:
        placed.append(scheduling_strategy)
        return SimpleNamespace(remote=lambda *_: walker)

    fake = SimpleNamespace(get=lost, kill=lambda _actor: None, exceptions=ray.exceptions)
    monkeypatch.setattr("pinsage.cluster.walkers.ray", fake)
    monkeypatch.setattr("pinsage.cluster.walkers.place_beside_caller", lambda: "beside")
    monkeypatch.setattr("pinsage.cluster.walkers.WalkerActor", SimpleNamespace(options=options))
    graph = publish_graph(tmp_path / "graph", small_graph(), 1)
    with pytest.raises(ResourceError, match=r"from items 0 to 701 .* lower walk\.items_per_chunk"):
        walk_all(graph, Draft(tmp_path / "near"), walk=WalkConfig(), hard=None, seed=0)
    assert placed == ["beside"], "where the memory is that was asked"

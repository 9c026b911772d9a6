"""Steps of a build on a cluster: the same graph, and errors that come through."""

import pytest

from pinsage.base.logs import Progress
from pinsage.cluster import drivers
from pinsage.cluster.builders import ClusterTasks
from tests.runs import smoke_run

pytestmark = pytest.mark.ray


def test_a_graph_built_by_tasks_of_a_cluster_has_the_same_bytes(tmp_path, local_ray):
    small = ("graph.build.rows_per_part=1000", "graph.build.edges_per_bucket=900")
    structure = "graph.structure={width: 8, passes: 2}"
    alone = drivers.ingest(smoke_run(tmp_path / "alone", structure))
    spread = drivers.ingest(
        smoke_run(tmp_path / "spread", structure, "graph.build.spread=true", *small)
    )
    assert spread.directory.name == alone.directory.name
    manifests = [(one.directory / "manifest.json").read_bytes() for one in (alone, spread)]
    assert manifests[0] == manifests[1]


def test_errors_of_steps_on_the_cluster_come_through_however_many_end_at_once(local_ray):
    def fail(number):
        raise ArithmeticError(f"step {number}")

    # Ray has been seen to end the whole process here, after a few dozen times.
    for _ in range(50):
        with pytest.raises(ArithmeticError, match="step"):
            ClusterTasks(Progress("build", 1, "steps"))(fail, [0, 1, 2], "fail")

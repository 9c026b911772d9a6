"""One finished run of the smoke recipe for all end-to-end tests."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from pinsage.cluster.drivers import JOBS, StageResult
from pinsage.cluster.run import Run
from tests.runs import smoke_run


@dataclass(frozen=True)
class Finished:
    """A run, and what each of its jobs said."""

    run: Run
    results: list[StageResult]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Finished:
    """Every stage of the smoke recipe, published."""
    run = smoke_run(tmp_path_factory.mktemp("finished"))
    results = [job(run) for job in JOBS.values()]
    run.publish_generation()
    return Finished(run, results)


@pytest.fixture
def copy_of_graph(finished: Finished, tmp_path: Path) -> Path:
    """A new output folder that shares the finished run's graph and neighborhoods."""
    for stage in (finished.run.graph, finished.run.neighborhoods):
        link = tmp_path / stage.name
        link.symlink_to(stage.directory.parent, target_is_directory=True)
    return tmp_path

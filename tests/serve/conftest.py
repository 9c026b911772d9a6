from pathlib import Path

import pytest

from serve.generation import Generation
from tests.serve.fakes import write_generation


@pytest.fixture(scope="session")
def generation_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generation(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def generation(generation_path: Path) -> Generation:
    return Generation.open(generation_path)

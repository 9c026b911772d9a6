import json
from pathlib import Path

import pytest

from pinsage.base.artifacts import MANIFEST
from pinsage.base.errors import ArtifactError
from pinsage.cluster import drivers
from tests.runs import smoke_run


def test_what_was_made_from_a_parent_that_was_made_anew_since_is_named(tmp_path: Path) -> None:
    run = smoke_run(tmp_path, "subgraph={contexts: 0.75}")
    drivers.ingest(run)
    assert drivers.ingest(run).was_published
    path = run.graph.directory / MANIFEST
    other = json.loads(path.read_text())
    other["config"]["made"] = "anew"
    path.write_text(json.dumps(other))
    child = run.training_graph.directory
    with pytest.raises(ArtifactError, match=rf"{child}: wanted one made from .* delete {child}"):
        drivers.ingest(run)
    assert child.exists()

"""What one process makes of a run is what Ray's actors make of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pinsage.base.artifacts import publish
from pinsage.cluster import drivers
from pinsage.cluster.alone import embed_alone, train_alone
from pinsage.cluster.embedder import EmbedSpec
from pinsage.cluster.session import threads_for
from pinsage.graph import Graph
from pinsage.inference.export import read_embeddings
from tests.end_to_end.conftest import Finished
from tests.runs import smoke_run


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_training_alone_gives_the_same_model_in_every_byte(
    finished: Finished, copy_of_graph: Path
) -> None:
    run = smoke_run(copy_of_graph)
    task = drivers.train_task(run, Graph.open(run.graph.directory), 2_400)
    train_alone(task, num_threads=threads_for(None, 1))
    drivers.train(run)
    assert run.model.open().manifest.files == finished.run.model.open().manifest.files


def test_embedding_alone_gives_the_same_embeddings(finished: Finished, tmp_path: Path) -> None:
    run = finished.run
    directory = tmp_path / "embeddings" / "alone"
    with publish(directory, stage="embeddings", config={}, parents={}) as draft:
        embed_alone(
            EmbedSpec(
                graph=run.graph.directory,
                neighborhoods=run.neighborhoods.directory,
                model=run.model.directory,
                folder=draft.scratch,
                parts=draft.path,
                config=run.config.embed.model_copy(update={"items_per_chunk": 77}),
            ),
            draft,
        )
    np.testing.assert_allclose(
        read_embeddings(directory), read_embeddings(run.embeddings.directory), atol=1e-5
    )

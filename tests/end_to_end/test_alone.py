"""What one process trains is what Ray's workers train."""

from pathlib import Path

import pytest
import torch

from pinsage.cluster import drivers
from pinsage.cluster.alone import train_alone
from pinsage.cluster.session import threads_for
from tests.end_to_end.conftest import Finished
from tests.runs import smoke_run

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_training_alone_gives_the_same_model_in_every_byte(
    finished: Finished, copy_of_graph: Path
) -> None:
    run = smoke_run(copy_of_graph)
    task = drivers.train_task(run)
    train_alone(task, num_threads=threads_for(None, 1))
    (last,) = task.folder.published()[-1:]
    written = last.stat()
    train_alone(task, num_threads=threads_for(None, 1))
    assert last.stat() == written, "what is trained to its end is not written again"
    drivers.train(run)
    assert run.model.open().manifest.files == finished.run.model.open().manifest.files

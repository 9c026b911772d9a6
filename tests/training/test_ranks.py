"""In-batch negatives with several processes, whose step must be that of one."""

from datetime import timedelta
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch import distributed

from pinsage.model.encoder import ModelConfig, PinSage
from pinsage.model.loss import LossConfig
from pinsage.sampling.minibatch import MinibatchBuilder, MinibatchConfig
from pinsage.sampling.pair_sources import FixedPairs
from pinsage.training.step import TrainingStep, make_optimizer
from tests.worlds import random_world

WORLD_SIZE = 3


def gradients(world_rank: int, world_size: int) -> list[torch.Tensor]:
    """One rank's, of the same step of the same model; eight pairs give unequal shares."""
    features, neighborhoods = random_world(0)
    items = torch.arange(40).numpy()
    builder = MinibatchBuilder(
        pairs=FixedPairs(items, (items // 3 * 3 + 1) % 40),
        features=features,
        neighborhoods=neighborhoods,
        config=MinibatchConfig(size=8, shared_negatives=6, max_hard_negatives=0),
        num_layers=1,
        seed=0,
    )
    torch.manual_seed(0)
    model = PinSage(ModelConfig(num_layers=1, projected_width=8, embedding_width=8), 6)
    step = TrainingStep(
        model,
        make_optimizer(model),
        LossConfig(kind="softmax", in_batch_negatives=True),
        device=torch.device("cpu"),
        world_size=world_size,
    )
    share = builder.build(0, 1, world_rank=world_rank, world_size=world_size)
    told = step.run(share, learning_rate=0.0, wants_to_stop=lambda: world_rank == 1)
    assert told.is_last == (world_size > 1), "all ranks know that one was asked to stop"
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def one_rank(number: int, folder: Path) -> None:
    """Compute one rank's gradients beside the others'; -1 is rank 0, in the test's own process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=number + 1,
        world_size=WORLD_SIZE,
        timeout=timedelta(seconds=120),
    )
    torch.save(gradients(number + 1, WORLD_SIZE), folder / f"{number + 1}.pt")
    distributed.destroy_process_group()
    torch.set_num_threads(before)


def test_in_batch_negatives_of_three_workers_give_the_gradient_of_one(tmp_path: Path) -> None:
    whole = gradients(0, 1)
    others = mp.spawn(one_rank, (tmp_path,), nprocs=WORLD_SIZE - 1, join=False)
    one_rank(-1, tmp_path)
    others.join()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD_SIZE)]
    assert len(whole) == 7
    for place, wanted in enumerate(whole):
        averaged = torch.stack([of_rank[place] for of_rank in found]).mean(dim=0)
        torch.testing.assert_close(averaged, wanted, rtol=1e-4, atol=1e-6)

"""Layer 5: one update, the schedule, the loop, and what a resume needs."""

from pinsage.training.loop import TrainConfig, train
from pinsage.training.state import TrainingState, load_state, save_state
from pinsage.training.step import TrainingStep, make_optimizer

__all__ = [
    "TrainConfig",
    "TrainingState",
    "TrainingStep",
    "load_state",
    "make_optimizer",
    "save_state",
    "train",
]

"""Layer 5: one update, the schedule, the loop, and what a resume needs."""

from pinsage.training.checkpoints import BackgroundSaver, Checkpoints
from pinsage.training.loop import Hooks, TrainConfig, best_step, is_finished, train
from pinsage.training.state import Snapshot, TrainingState, load_progress, load_state, save_state
from pinsage.training.step import TrainingStep, make_optimizer

__all__ = [
    "BackgroundSaver",
    "Checkpoints",
    "Hooks",
    "Snapshot",
    "TrainConfig",
    "TrainingState",
    "TrainingStep",
    "best_step",
    "is_finished",
    "load_progress",
    "load_state",
    "make_optimizer",
    "save_state",
    "train",
]

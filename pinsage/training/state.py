"""What a resume needs beside the model: where training stands, and the optimizer's moments."""

import copy
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pinsage.base.artifacts import Draft
from pinsage.base.errors import ArtifactError
from pinsage.model.checkpoint import WEIGHTS, save_model
from pinsage.model.encoder import PinSage

OPTIMIZER = "optimizer.safetensors"
PROGRESS = "progress.json"

LOG_STEPS = 10
"""Steps that one line of the training log sums up."""


@dataclass(frozen=True)
class Validation:
    """One look at held-out pairs.

    Attributes:
        step: steps done by then.
        hit_rate: share of the sampled pairs whose positive ranks in the top k.
    """

    step: int
    hit_rate: float


@dataclass
class TrainingState:
    """How far training has come.

    Attributes:
        step: steps done, over the whole run.
        losses: mean loss a pair of each finished epoch.
        epoch_loss: sum of the step losses of the epoch under way.
        logged_loss: sum of the step losses that the next line of the training log is for, or at a
            multiple of `LOG_STEPS` this one.
        validations: in the order they were made.
    """

    step: int
    losses: list[float]
    epoch_loss: float = 0.0
    logged_loss: float = 0.0
    validations: list[Validation] = field(default_factory=list)

    def add(self, loss: float, *, steps_per_epoch: int) -> None:
        """Count one more step, and its loss."""
        if self.step % LOG_STEPS == 0:
            self.logged_loss = 0.0
        self.step += 1
        self.epoch_loss += loss
        self.logged_loss += loss
        if self.step % steps_per_epoch == 0:
            self.losses.append(self.epoch_loss / steps_per_epoch)
            self.epoch_loss = 0.0


class Snapshot:
    """A copy of all that a resume needs, written while training goes on.

    It has memory of its own, as large as the weights and the moments, used again by every copy.
    """

    def __init__(self, model: PinSage, optimizer: torch.optim.Optimizer) -> None:
        """Set memory aside.

        Args:
            model: the network that trains.
            optimizer: over its parameters.
        """
        self._model = model
        self._optimizer = optimizer
        self._copy = copy.deepcopy(model).to("cpu")
        self._moments: dict[str, torch.Tensor] = {}
        self._state: TrainingState | None = None

    def take(self, state: TrainingState) -> None:
        """Copy everything as it is now."""
        with torch.no_grad():
            self._copy.load_state_dict(self._model.state_dict())
            for name, value in _moments(self._model, self._optimizer).items():
                if name in self._moments:
                    self._moments[name].copy_(value)
                else:
                    self._moments[name] = value.to("cpu", copy=True).contiguous()
        self._state = copy.deepcopy(state)

    def write(self, draft: Draft) -> None:
        """Write the copy."""
        if self._state is None:
            raise ValueError("nothing was copied yet; call `take` before `write`")
        save_model(self._copy, draft)
        with draft.file(OPTIMIZER) as path:
            save_file(self._moments, path)
        draft.write_json(PROGRESS, asdict(self._state))


def save_state(
    state: TrainingState, model: PinSage, optimizer: torch.optim.Optimizer, draft: Draft
) -> None:
    """Write everything that makes a resumed run equal an unbroken one."""
    snapshot = Snapshot(model, optimizer)
    snapshot.take(state)
    snapshot.write(draft)


def load_state(directory: Path, model: PinSage, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Put the weights and moments of `save_state` back in place.

    Raises:
        ArtifactError: a file is missing, or is of another network.
    """
    try:
        model.load_state_dict(load_file(directory / WEIGHTS))
        _load_moments(load_file(directory / OPTIMIZER), model, optimizer)
        return load_progress(directory)
    except (OSError, RuntimeError, KeyError, SafetensorError) as error:
        raise ArtifactError(
            f"{directory}: not a checkpoint of this network ({error}); delete it to start anew"
        ) from error


def load_progress(directory: Path) -> TrainingState:
    """Read how far training had come.

    Raises:
        ArtifactError: the file is missing, or is not a state.
    """
    path = directory / PROGRESS
    try:
        progress = json.loads(path.read_text(encoding="utf-8"))
        validations = [Validation(**found) for found in progress.pop("validations")]
        return TrainingState(**progress, validations=validations)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: not a training state ({error}); delete its folder") from error


def _moments(model: PinSage, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}/{key}": value.detach()
        for parameter, entry in optimizer.state.items()
        for key, value in entry.items()
    }


def _load_moments(
    moments: dict[str, torch.Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    parameters = dict(model.named_parameters())
    for name, value in moments.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        # A fused optimizer keeps its step counts beside the parameters too.
        optimizer.state[parameter][key] = value.to(parameter.device)

"""What a resume needs beside the model: where training stands, and the optimizer's moments."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pinsage.base.artifacts import Draft
from pinsage.base.errors import ArtifactError
from pinsage.model.checkpoint import WEIGHTS, save_model
from pinsage.model.encoder import PinSage

_OPTIMIZER = "optimizer.safetensors"
_PROGRESS = "progress.json"


@dataclass
class TrainingState:
    """How far training has come.

    Attributes:
        step: steps done, over the whole run.
        losses: mean loss a pair of each finished epoch.
        epoch_loss: sum of the step losses of the epoch under way.
    """

    step: int
    losses: list[float]
    epoch_loss: float = 0.0


def save_state(
    state: TrainingState, model: PinSage, optimizer: torch.optim.Optimizer, draft: Draft
) -> None:
    """Write everything that makes a resumed run equal an unbroken one."""
    save_model(model, draft)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    moments = {
        f"{names[id(parameter)]}/{key}": value.detach().cpu().contiguous()
        for parameter, entry in optimizer.state.items()
        for key, value in entry.items()
    }
    with draft.file(_OPTIMIZER) as path:
        save_file(moments, path)
    draft.write_json(_PROGRESS, asdict(state))


def load_state(directory: Path, model: PinSage, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Put the weights and moments of `save_state` back in place.

    Raises:
        ArtifactError: a file is missing, or is of another network.
    """
    try:
        model.load_state_dict(load_file(directory / WEIGHTS))
        _load_moments(load_file(directory / _OPTIMIZER), model, optimizer)
        progress = json.loads((directory / _PROGRESS).read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{directory}: not a checkpoint of this network ({error}); delete it to start anew"
        ) from error
    return TrainingState(**progress)


def _load_moments(
    moments: dict[str, torch.Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    parameters = dict(model.named_parameters())
    for name, value in moments.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        # A fused optimizer keeps its step counts beside the parameters too.
        optimizer.state[parameter][key] = value.to(parameter.device)

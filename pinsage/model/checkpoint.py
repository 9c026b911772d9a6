"""A model on disk: weights in safetensors, its shape beside them."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pinsage.base import copies
from pinsage.base.artifacts import Draft
from pinsage.base.errors import ArtifactError
from pinsage.model.encoder import ModelConfig, PinSage

WEIGHTS = "weights.safetensors"
SHAPE = "model.json"


def save_model(model: PinSage, draft: Draft) -> None:
    """Write the weights and what is needed to build the network again."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in _tensors(model).items()}
    with draft.file(WEIGHTS) as path:
        save_file(tensors, path)
    shape = {"model": model.config.model_dump(), "feature_width": len(model.input_shift)}
    draft.write_json(SHAPE, shape)


def load_model(directory: Path) -> PinSage:
    """Build the network that `save_model` wrote there.

    Raises:
        ArtifactError: a file is missing or does not fit the network.
    """
    copies.hold(directory)
    try:
        shape = json.loads((directory / SHAPE).read_text(encoding="utf-8"))
        model = PinSage(ModelConfig.model_validate(shape["model"]), shape["feature_width"])
        model.load_state_dict(load_file(directory / WEIGHTS))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"{directory}: no whole model there ({error}); train again") from error
    return model


def _tensors(model: PinSage) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())

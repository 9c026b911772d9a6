"""Embeddings layer by layer, each layer once per item (paper, section 3.4).

Layer k takes two passes over the items. The first projects every item once, what neighbors are
pooled from. The second pools, joins with the item's own row and normalizes. Between passes, rows
lie in memory-mapped files with one row an item, so a pass streams in bounded memory. Any process
may do any range of items: each writes its own rows only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import PositiveFloat, PositiveInt

from pinsage.base.config import Config
from pinsage.model.encoder import PinSage
from pinsage.model.inputs import to_tensor
from pinsage.model.pooling import pool
from pinsage.sampling.block import renormalized
from pinsage.sampling.minibatch import FeatureSource
from pinsage.sampling.neighborhood import Neighborhoods


class EmbedConfig(Config):
    """How the items are spread over workers."""

    items_per_chunk: PositiveInt = 4_096
    """Items a worker takes at a time; what a killed run repeats."""
    num_workers: PositiveInt = 1
    """Actors that each hold the model."""
    cpus_per_worker: PositiveFloat = 0.5
    """CPUs that Ray counts for each of them."""
    threads_per_worker: PositiveInt | None = None
    """CPU threads of a worker's matrix products; none shares the machine's cores out evenly."""
    num_neighbors: PositiveInt | None = None
    """T at inference; none means all that the neighborhood table keeps."""


@dataclass(frozen=True)
class Pass:
    """One pass over all items.

    Attributes:
        kind: `project` or `convolve`.
        layer: counted from 0, from the features up.
    """

    kind: Literal["project", "convolve"]
    layer: int

    @property
    def name(self) -> str:
        """Name of the file that holds the pass's rows."""
        return f"{self.kind}-{self.layer}"


def passes(num_layers: int) -> list[Pass]:
    """List the passes in the order they depend on each other.

    >>> [step.name for step in passes(2)]
    ['project-0', 'convolve-0', 'project-1', 'convolve-1']
    """
    kinds: tuple[Literal["project"], Literal["convolve"]] = ("project", "convolve")
    return [Pass(kind, layer) for layer in range(num_layers) for kind in kinds]


class LayerwiseEncoder:
    """The model, the tables, and the folder where rows lie between passes."""

    def __init__(
        self,
        model: PinSage,
        features: FeatureSource,
        neighborhoods: Neighborhoods,
        folder: Path,
        *,
        num_neighbors: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Hold the parts; the model is put into evaluation mode."""
        self._device = device or torch.device("cpu")
        self._model = model.to(self._device).eval()
        self._features = features
        self._neighborhoods = neighborhoods
        self._num_neighbors = num_neighbors or neighborhoods.ids.shape[1]
        self._folder = folder

    def allocate(self, step: Pass) -> None:
        """Make the file that a pass fills; one that is there already is kept."""
        path = self._folder / f"{step.name}.npy"
        if path.exists():
            return
        convolution = self._model.convolutions()[step.layer]
        layer = convolution.neighbor if step.kind == "project" else convolution.joint
        shape = (self._features.num_items, layer.out_features)
        temporary = path.with_suffix(".new")
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape).flush()
        temporary.rename(path)

    @torch.inference_mode()
    def run(self, step: Pass, start: int, stop: int) -> None:
        """Do one pass for the items in [start, stop)."""
        convolution = self._model.convolutions()[step.layer]
        hidden = self._hidden(step.layer, start, stop)
        if step.kind == "project":
            rows = convolution.project(hidden)
        else:
            rows = convolution.combine(hidden, self._pooled(step.layer, start, stop))
        self._open(step.name, "r+")[start:stop] = rows.cpu().numpy()

    @torch.inference_mode()
    def embed(self, start: int, stop: int) -> Float32[np.ndarray, "items width"]:
        """Turn the last layer's rows of the items in [start, stop) into embeddings."""
        hidden = self._hidden(self._model.config.num_layers, start, stop)
        return self._model.head(hidden).float().cpu().numpy()

    def _hidden(self, layer: int, start: int, stop: int) -> torch.Tensor:
        """Read what goes into a layer: scaled features, or the rows of the layer below."""
        if layer == 0:
            features = self._features.gather(np.arange(start, stop))
            return self._model.scale_features(to_tensor(features, self._device))
        rows = self._open(f"convolve-{layer - 1}", "r")[start:stop]
        return to_tensor(np.array(rows), self._device)

    def _pooled(self, layer: int, start: int, stop: int) -> torch.Tensor:
        """Pool the projected rows of each item's neighbors, read where they lie."""
        width = self._num_neighbors
        ids = np.array(self._neighborhoods.ids[start:stop, :width])
        weights = renormalized(np.array(self._neighborhoods.weights[start:stop, :width]))
        projected = self._open(f"project-{layer}", "r")
        cpu = torch.device("cpu")
        return pool(
            to_tensor(projected, cpu),
            to_tensor(np.maximum(ids, 0), cpu),
            to_tensor(weights, cpu),
            pooling=self._model.config.pooling,
        ).to(self._device)

    def _open(self, name: str, mode: Literal["r", "r+"]) -> Float32[np.ndarray, "items width"]:
        return np.load(self._folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False)

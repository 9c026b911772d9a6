"""Embeddings layer by layer, each layer once per item (paper, section 3.4).

With K convolutions there are K + 1 passes over the items. Pass 0 projects every item's features,
what the first convolution pools from. Pass k pools the rows that pass k - 1 projected, which ends
convolution k, and projects the result for the next one; the last pass ends in embeddings instead.
Between passes, rows lie in memory-mapped files, one row an item, so a pass streams in bounded
memory. Any process may do any range of items: each writes its own rows only.
"""

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
        """Hold the parts; the model is put into evaluation mode.

        Args:
            model: trained weights.
            features: layer-0 rows of every item.
            neighborhoods: who pools from whom.
            folder: where rows lie between passes.
            num_neighbors: T; none means all that the table keeps.
            device: where the model computes; none means the CPU.
        """
        self._device = device or torch.device("cpu")
        self._model = model.to(self._device).eval()
        self._features = features
        self._neighborhoods = neighborhoods
        self._num_neighbors = num_neighbors or neighborhoods.ids.shape[1]
        self._folder = folder

    @property
    def num_passes(self) -> int:
        """Passes over all items: one more than there are convolutions."""
        return len(self._model.layers) + 1

    def allocate(self, number: int) -> None:
        """Make the files that a pass fills; those that are there already are kept."""
        if number == len(self._model.layers):
            return
        layer = self._model.convolutions()[number]
        self._make_file(f"projected-{number}", layer.neighbor.out_features)
        if number > 0:
            self._make_file(f"hidden-{number}", layer.neighbor.in_features)

    @torch.inference_mode()
    def run(self, number: int, start: int, stop: int) -> Float32[np.ndarray, "chunk width"] | None:
        """Do one pass for the items in [start, stop).

        Returns:
            Their embeddings from the last pass; None from the others, whose rows go to files.
        """
        hidden = self._features_of(start, stop)
        if number > 0:
            below = hidden if number == 1 else self._rows(f"hidden-{number - 1}", start, stop)
            layer = self._model.convolutions()[number - 1]
            hidden = layer.combine(below, self._pooled(number - 1, start, stop))
        if number == len(self._model.layers):
            return self._model.head(hidden).float().cpu().numpy()
        if number > 0:
            self._open(f"hidden-{number}", writable=True)[start:stop] = hidden.cpu().numpy()
        projected = self._model.convolutions()[number].project(hidden)
        self._open(f"projected-{number}", writable=True)[start:stop] = projected.cpu().numpy()
        return None

    def _features_of(self, start: int, stop: int) -> torch.Tensor:
        rows = to_tensor(self._features.gather(np.arange(start, stop)), self._device)
        return self._model.scale_features(rows)

    def _pooled(self, layer: int, start: int, stop: int) -> torch.Tensor:
        """Pool the projected rows of each item's neighbors, read where they lie."""
        width = self._num_neighbors
        ids = np.array(self._neighborhoods.ids[start:stop, :width])
        weights = renormalized(np.array(self._neighborhoods.weights[start:stop, :width]))
        cpu = torch.device("cpu")
        return pool(
            to_tensor(self._open(f"projected-{layer}"), cpu),
            to_tensor(np.maximum(ids, 0), cpu),
            to_tensor(weights, cpu),
            pooling=self._model.config.pooling,
        ).to(self._device)

    def _rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        return to_tensor(np.array(self._open(name)[start:stop]), self._device)

    def _open(self, name: str, *, writable: bool = False) -> Float32[np.ndarray, "items width"]:
        mode: Literal["r+", "r"] = "r+" if writable else "r"
        return np.load(self._folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False)

    def _make_file(self, name: str, width: int) -> None:
        path = self._folder / f"{name}.npy"
        if path.exists():
            return
        temporary = path.with_suffix(".new")
        shape = (self._features.num_items, width)
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape).flush()
        temporary.rename(path)

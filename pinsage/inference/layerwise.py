"""Embeddings layer by layer, each layer once per item (paper, section 3.4).

With K convolutions there are K + 1 passes over the items. Pass 0 projects every item's features,
what the first convolution pools from. Pass k pools the rows that pass k - 1 projected, which ends
convolution k, and projects the result for the next one; the last pass ends in embeddings instead.
Between passes, rows lie in files, one row an item, so a pass streams in bounded memory. Any process
may do any range of items: each writes its own rows only.

An update (`Update`) does the same passes, but computes only the rows that changes reach.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64
from pydantic import PositiveFloat, PositiveInt

from pinsage.base.config import Config
from pinsage.graph.rows import RowFile
from pinsage.inference.update import Update
from pinsage.model.encoder import PinSage
from pinsage.model.inputs import to_tensor
from pinsage.model.threads import one_thread_each
from pinsage.sampling.block import renormalized
from pinsage.sampling.minibatch import FeatureSource
from pinsage.sampling.neighborhood import Neighborhoods

BLOCK = 2_048
"""Items whose rows are multiplied at a time, by one thread: few enough for its cache. Matrix
products of other sizes may round in other ways, so ranges that begin and end at multiples of it
give the same bits however they are cut."""


class EmbedConfig(Config):
    """What is embedded and kept, and how the items are spread over workers."""

    num_neighbors: PositiveInt | None = None
    """T at inference; none means all that the neighborhood table keeps."""
    dtype: Literal["float32", "float16"] = "float32"
    """How embeddings are written; they are computed in float32."""
    contexts: bool = False
    """Embed contexts too: the mean of their items' embeddings, at unit length."""
    model: str | None = None
    """Fingerprint of a published model, a folder in `<output>/model`, to embed with instead of
    training one on this graph; the graph must have the same feature columns."""
    previous: str | None = None
    """Fingerprint of published embeddings, a folder in `<output>/embeddings`, made by the same
    model with `keep_rows`: what no change reaches is taken from there."""
    keep_rows: bool = False
    """Publish what a later run needs to have these embeddings as its `previous`: 24 bytes an item,
    and for every convolution but the last a row of float32 as wide as the embedding."""
    num_workers: PositiveInt | None = None
    """Actors that each hold the model. None: this process alone while the matrix products of the
    whole catalog take less than about half a minute, since starting a worker takes ten seconds;
    else one actor."""
    cpus_per_worker: PositiveFloat = 0.5
    """CPUs that Ray counts for each of them."""
    start_timeout_s: PositiveFloat = 25.0
    """How long to wait for room for the workers; more where nodes are added on demand."""
    threads_per_worker: PositiveInt | None = None
    """CPU threads of a worker: each does 2,048 items at a time, in memory of its own. None shares
    the machine's cores out evenly."""
    items_per_chunk: PositiveInt = 65_536
    """Items a worker takes at a time, rounded up to a multiple of 2,048; what a killed run
    repeats."""


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
        update: Update | None = None,
    ) -> None:
        """Hold the parts; the model is put into evaluation mode.

        Args:
            model: trained weights.
            features: layer-0 rows of every item.
            neighborhoods: who pools from whom.
            folder: where rows lie between passes.
            num_neighbors: T; none means all that the table keeps.
            device: where the model computes; none means the CPU.
            update: what to compute; none means everything.

        Raises:
            ValueError: the model wants other features than there are.
        """
        self._device = device or torch.device("cpu")
        self._model = model.to(self._device).eval()
        self._layers = model.convolutions()
        self._features = features
        self._neighborhoods = neighborhoods
        self._num_neighbors = num_neighbors or neighborhoods.ids.shape[1]
        self._update = update
        self._projected = [RowFile(folder / f"projected-{k}.npy") for k in range(self.num_layers)]
        self._hidden = [RowFile(folder / f"hidden-{k}.npy") for k in range(self.num_layers)]

    @property
    def num_layers(self) -> int:
        """Convolutions, K."""
        return len(self._layers)

    @property
    def num_passes(self) -> int:
        """Passes over all items: one more than there are convolutions."""
        return self.num_layers + 1

    def allocate(self, number: int) -> None:
        """Make the files that a pass fills; those that are there already are kept."""
        if number < self.num_layers:
            layer, num_items = self._layers[number], self._features.num_items
            self._projected[number].make(num_items, layer.neighbor.out_features)
            if number > 0:
                self._hidden[number].make(num_items, layer.neighbor.in_features)

    def release(self, number: int, *, keep_hidden: bool = False) -> None:
        """Drop the rows that only pass `number`, now done for all items, has read."""
        if number > 0:
            self._projected[number - 1].drop()
        if number > 1 and not keep_hidden:
            self._hidden[number - 1].drop()

    def files_of(self, number: int) -> list[RowFile]:
        """List the files that a pass before the last fills: what it hands on, and hidden rows."""
        return [self._projected[number], *(self._hidden[number : number + 1] if number else [])]

    def made(self, number: int, start: int, stop: int) -> Float32[np.ndarray, "chunk width"]:
        """Give what a pass before the last has handed on: the rows to pool from."""
        return self._projected[number].read()[start:stop]

    def hidden_file(self, number: int) -> Path:
        """Name the file of the rows that convolution `number` gives, of those below the last."""
        return self._hidden[number].path

    def count_convolutions(self, number: int, start: int, stop: int) -> int:
        """Count the convolutions of one pass for the items in [start, stop)."""
        if number == 0:
            return 0
        if self._update is None:
            return stop - start
        return int(np.count_nonzero(self._update.changed[number][start:stop]))

    def run(self, number: int, start: int, stop: int) -> Float32[np.ndarray, "chunk width"] | None:
        """Do one pass for the items in [start, stop), whose rows are not synced to the disk yet.

        Returns:
            Their embeddings from the last pass; None from the others, whose rows go to files.
        """
        starts = range(start, stop, BLOCK)
        stops = [*starts[1:], stop]
        with one_thread_each() as threads:
            blocks = list(threads.map(partial(self._do_block, number), starts, stops))
        embeddings = [rows for rows in blocks if rows is not None]
        return np.concatenate(embeddings) if number == self.num_layers else None

    @torch.inference_mode()
    def _do_block(
        self, number: int, start: int, stop: int
    ) -> Float32[np.ndarray, "block width"] | None:
        if number == self.num_layers:
            return self._embed(start, stop)
        for file, rows in self._hand_on(number, start, stop):
            file.write(start, rows)
        return None

    def _embed(self, start: int, stop: int) -> Float32[np.ndarray, "block width"]:
        """Do the last pass: rows of embeddings."""
        item_ids = np.arange(start, stop)
        if self._update is None:
            return self._head(item_ids)
        changed = self._update.changed[self.num_layers][start:stop]
        if changed.all():
            return self._head(item_ids)
        old = self._update.old_embeddings(item_ids[~changed])
        rows = np.empty((stop - start, old.shape[1]), np.float32)
        rows[~changed] = old
        if changed.any():
            rows[changed] = self._head(item_ids[changed])
        return rows

    def _hand_on(
        self, number: int, start: int, stop: int
    ) -> Iterator[tuple[RowFile, Float32[np.ndarray, "block width"]]]:
        """Do a pass before the last: hidden rows, and what the next convolution pools from.

        Yields:
            Rows, and the file that they go into from `start` on.
        """
        item_ids = np.arange(start, stop)
        project = self._layers[number].project
        if self._update is None:
            hidden = self._hidden_rows(number, item_ids)
            if number > 0:
                yield self._hidden[number], _array(hidden)
            yield self._projected[number], _array(project(hidden))
            return
        if number > 0:
            rows = self._update.old_hidden(number, start, stop)
            changed = self._update.changed[number][start:stop]
            if changed.any():
                rows[changed] = _array(self._hidden_rows(number, item_ids[changed]))
            yield self._hidden[number], rows
        pooled_from = self._update.pooled_from[number][start:stop]
        if pooled_from.any():
            # The rows above need not be read again.
            known = (
                to_tensor(rows[pooled_from], self._device)
                if number > 0
                else self._known_rows(0, item_ids[pooled_from])
            )
            width = self._layers[number].neighbor.out_features
            projected = np.zeros((stop - start, width), np.float32)
            projected[pooled_from] = _array(project(known))
            yield self._projected[number], projected

    def _head(self, item_ids: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n width"]:
        embeddings = _array(self._model.head(self._hidden_rows(self.num_layers, item_ids)))
        # Features are read again of those alone that may say nothing: an edge has a neighborhood.
        alone = np.flatnonzero(np.asarray(self._neighborhoods.ids[item_ids, 0]) < 0)
        if len(alone):
            rows = torch.from_numpy(self._features.gather(item_ids[alone]))
            embeddings[alone[~self._model.known(rows).numpy()]] = 0.0
        return embeddings

    def _hidden_rows(self, number: int, item_ids: Int64[np.ndarray, " n"]) -> torch.Tensor:
        """Compute what convolution `number` gives; scaled features for 0."""
        if number == 0:
            return self._known_rows(0, item_ids)
        # A slice of a mapped file copies faster than rows picked one by one.
        whole = len(item_ids) and item_ids[-1] - item_ids[0] == len(item_ids) - 1
        rows = slice(item_ids[0], item_ids[-1] + 1) if whole else item_ids
        ids = np.array(self._neighborhoods.ids[rows, : self._num_neighbors])
        weights = renormalized(np.array(self._neighborhoods.weights[rows, : self._num_neighbors]))
        cpu = torch.device("cpu")
        return self._layers[number - 1].pool_and_combine(
            self._known_rows(number - 1, item_ids),
            to_tensor(self._projected[number - 1].read(), cpu),
            to_tensor(np.maximum(ids, 0), cpu),
            to_tensor(weights, cpu),
            self._model.config.pooling,
        )

    def _known_rows(self, number: int, item_ids: Int64[np.ndarray, " n"]) -> torch.Tensor:
        """Read what an earlier pass has written; scaled features for 0."""
        if number == 0:
            rows = to_tensor(self._features.gather(item_ids), self._device)
            return self._model.scale_features(rows)
        return to_tensor(self._hidden[number].read()[item_ids], self._device)


def _array(rows: torch.Tensor) -> Float32[np.ndarray, "n width"]:
    return rows.float().cpu().numpy()

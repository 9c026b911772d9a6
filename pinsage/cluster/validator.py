"""The hit-rate of held-out pairs while training goes on."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64

from pinsage.base.errors import DataError, NotFiniteError
from pinsage.base.seeding import Sample, Stream, stream
from pinsage.evaluation.baselines import EmbeddingCosine
from pinsage.evaluation.metrics import hit_rate
from pinsage.evaluation.ranking import rank_pairs
from pinsage.graph import Graph
from pinsage.inference.layerwise import LayerwiseEncoder
from pinsage.kernels.reindex import Scratch
from pinsage.model.encoder import PinSage
from pinsage.model.inputs import to_device_block, to_tensor
from pinsage.sampling.block import Block, build_blocks, cut_rows
from pinsage.sampling.neighborhood import Neighborhoods
from pinsage.training.validation import ValidationConfig

_SEEDS_PER_CALL = 2_048


@dataclass(frozen=True)
class ValidationSample:
    """Which pairs are looked at, among which items.

    Attributes:
        queries: places in `candidates`.
        positives: places in `candidates`.
        candidates: ascending item ids that the positives are ranked among.
    """

    queries: Int64[np.ndarray, " pairs"]
    positives: Int64[np.ndarray, " pairs"]
    candidates: Int64[np.ndarray, " candidates"]


def draw_sample(graph: Graph, config: ValidationConfig, *, seed: int) -> ValidationSample:
    """Draw the pairs and the candidates: the same ones for the same seed.

    Raises:
        DataError: the graph has no pair of split valid.
    """
    pairs = graph.pairs("valid")
    if not len(pairs):
        raise DataError(
            f"{graph.artifact.path}: train.validation looks at pairs of split valid, but there are "
            "none; change data.pairs or data.split, or set train.validation=null"
        )
    rng = stream(seed, Stream.SAMPLE, Sample.VALIDATION)
    chosen = np.sort(rng.choice(len(pairs), min(config.sample, len(pairs)), replace=False))
    queries, positives = pairs.queries[chosen], pairs.positives[chosen]
    candidates = np.arange(graph.num_items)
    if graph.num_items > config.max_catalog:
        drawn = rng.choice(graph.num_items, config.max_catalog, replace=False)
        asked = np.unique(np.concatenate([queries, positives]))
        # In the order drawn: sorted ones would leave out those with the largest ids.
        rest = drawn[~np.isin(drawn, asked)][: max(config.max_catalog - len(asked), 0)]
        candidates = np.union1d(asked, rest)
    return ValidationSample(
        np.searchsorted(candidates, queries), np.searchsorted(candidates, positives), candidates
    )


class Validator:
    """Embeds the candidates with the weights of the moment, and ranks the sampled pairs."""

    def __init__(
        self,
        *,
        graph: Path,
        neighborhoods: Path,
        config: ValidationConfig,
        num_neighbors: int | None,
        folder: Path,
        seed: int,
        device: torch.device,
    ) -> None:
        """Open the published files.

        Args:
            graph: published directory.
            neighborhoods: published directory.
            config: how to look.
            num_neighbors: T of training; none means all that the table keeps.
            folder: where rows lie between passes; removed after every look.
            seed: the run's seed.
            device: where the model is.
        """
        opened = Graph.open(graph)
        # As inference will: valid pairs may be of items that training does not see.
        self._features = opened.features_at_inference()
        self._neighborhoods = Neighborhoods.open(neighborhoods, at_inference=True)
        self._sample = draw_sample(opened, config, seed=seed)
        self._k = config.k
        self._num_neighbors = num_neighbors
        self._folder = folder
        self._device = device

    def hit_rate(self, model: PinSage) -> float:
        """Look once; the model goes on training as if nothing had been.

        Raises:
            NotFiniteError: the weights have run away.
        """
        everything = len(self._sample.candidates) == self._features.num_items
        was_training = model.training
        try:
            embeddings = self._embed_all(model) if everything else self._embed_sample(model)
        finally:
            model.train(was_training)
        if not np.isfinite(embeddings).all():
            raise NotFiniteError(
                "validation: wanted embeddings of finite numbers, found NaN or infinite ones; "
                "lower train.schedule.learning_rate or look for extreme feature values"
            )
        ranks = rank_pairs(
            EmbeddingCosine(embeddings), self._sample.queries, self._sample.positives
        )
        return hit_rate(ranks, self._k)

    def _embed_all(self, model: PinSage) -> Float32[np.ndarray, "items width"]:
        """Layer by layer, as inference does."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        encoder = LayerwiseEncoder(
            model,
            self._features,
            self._neighborhoods,
            self._folder,
            num_neighbors=self._num_neighbors,
            device=self._device,
        )
        for number in range(encoder.num_passes):
            encoder.allocate(number)
            embeddings = encoder.run(number, 0, self._features.num_items)
        shutil.rmtree(self._folder)
        assert embeddings is not None
        return embeddings

    @torch.inference_mode()
    def _embed_sample(self, model: PinSage) -> Float32[np.ndarray, "candidates width"]:
        """By blocks, as training does."""
        model.eval()
        found = []
        for start in range(0, len(self._sample.candidates), _SEEDS_PER_CALL):
            seeds = self._sample.candidates[start : start + _SEEDS_PER_CALL]
            blocks, input_ids = self._blocks(seeds, model.config.num_layers)
            embeddings = model(
                to_tensor(self._features.gather(input_ids), self._device),
                [to_device_block(block, self._device) for block in blocks],
            )
            found.append(embeddings.float().cpu().numpy())
        return np.concatenate(found)

    def _blocks(
        self, seeds: Int64[np.ndarray, " seeds"], num_layers: int
    ) -> tuple[list[Block], Int64[np.ndarray, " inputs"]]:
        """Go from seeds to features, copying only what they read of a table that may be huge."""
        table = self._neighborhoods
        width = self._num_neighbors or table.ids.shape[1]
        met, *rows = cut_rows(seeds, table.ids, table.weights, width, num_layers=num_layers)
        scratch = Scratch.of(len(met))
        places = np.searchsorted(met, seeds)
        blocks, inputs = build_blocks(places, *rows, num_layers=num_layers, scratch=scratch)
        return blocks, met[inputs]

"""Items that are described in a request, embedded by the generation's model."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pinsage.base.artifacts import open_artifact
from pinsage.graph.schema import CONTEXT_KEY, CONTEXTS_FILE
from pinsage.inference.fresh import FreshEncoder, NewItem
from pinsage.model.checkpoint import load_model
from pinsage.sampling.neighborhood import WalkConfig
from serve.generation import Generation
from serve.problems import Code, ProblemError, invalid


@dataclass(frozen=True)
class Embedded:
    """What the model makes of a described item.

    Attributes:
        embedding: unit length.
        neighbor_ids: its neighborhood, most visited first.
        neighbor_weights: their importance weights.
        unknown_contexts: contexts that the graph doesn't have, as given.
    """

    embedding: list[float]
    neighbor_ids: list[int]
    neighbor_weights: list[float]
    unknown_contexts: list[str]


class Embedder:
    """The model and the graph, opened when they are first asked for."""

    def __init__(self, generation: Generation) -> None:
        """Hold what is served; nothing is opened yet."""
        self._generation = generation
        self._opening = threading.Lock()
        self._opened: tuple[FreshEncoder, pa.ChunkedArray] | None = None

    def embed(self, features: Mapping[str, Sequence[float]], contexts: Sequence[str]) -> Embedded:
        """Embed one item.

        Args:
            features: content features by group; a group left out is zero.
            contexts: keys of the contexts it is in.

        Raises:
            ProblemError: there is no model, or the features don't fit it.
        """
        encoder, context_keys = self.open()
        checked = {
            name: _vector(name, values, encoder.content_widths) for name, values in features.items()
        }
        wanted = list(dict.fromkeys(contexts))
        places = pc.index_in(context_keys, value_set=pa.array(wanted, pa.large_string()))
        found = np.flatnonzero(places.is_valid().to_numpy())
        met = set(pc.unique(places).drop_null().to_pylist())
        fresh = encoder.embed([NewItem(found, len(wanted), checked)])
        ids, weights = fresh.neighbor_ids[0], fresh.neighbor_weights[0]
        return Embedded(
            embedding=fresh.embeddings[0].astype(float).tolist(),
            neighbor_ids=ids[ids >= 0].tolist(),
            neighbor_weights=weights[ids >= 0].astype(float).tolist(),
            unknown_contexts=[key for place, key in enumerate(wanted) if place not in met],
        )

    @property
    def is_open(self) -> bool:
        """Whether the model is open."""
        return self._opened is not None

    def open(self) -> tuple[FreshEncoder, pa.ChunkedArray]:
        """Give the model and the contexts' keys, opened once.

        Raises:
            ProblemError: there is no model.
        """
        with self._opening:
            if self._opened is None:
                self._opened = _open(self._generation)
            return self._opened


def _open(generation: Generation) -> tuple[FreshEncoder, pa.ChunkedArray]:
    parts = generation.parts
    if "model" not in parts.names:
        raise ProblemError(Code.NO_MODEL, "This generation was published without its model.")
    model = load_model(open_artifact(parts.directory("model"), stage="model").path)
    walked = open_artifact(parts.directory("neighborhoods"), stage="neighborhoods").manifest.config
    num_neighbors = None
    if "embeddings" in parts.names:
        embedded = open_artifact(parts.directory("embeddings"), stage="embeddings")
        num_neighbors = embedded.manifest.config["num_neighbors"]
    encoder = FreshEncoder(
        model,
        generation.graph,
        generation.neighborhoods,
        walk=WalkConfig.model_validate(walked["walk"]),
        seed=walked["seed"],
        num_neighbors=num_neighbors,
    )
    keys = pq.read_table(generation.graph.artifact.path / CONTEXTS_FILE)[CONTEXT_KEY]
    return encoder, keys.cast(pa.large_string())


def _vector(name: str, values: Sequence[float], widths: Mapping[str, int]) -> np.ndarray:
    where = f"body.features.{name}"
    if name not in widths:
        raise invalid(where, f"no such feature group; there are: {', '.join(widths) or 'none'}")
    if len(values) != widths[name]:
        raise invalid(where, f"wanted {widths[name]} numbers, found {len(values)}")
    with np.errstate(over="ignore"):
        vector = np.asarray(values, dtype=np.float64).astype(np.float32)
    if not np.isfinite(vector).all():
        raise invalid(where, "wanted finite 32-bit numbers")
    return vector

"""Items that are described in a request, embedded by the generation's model."""

import logging
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from pinsage.base.artifacts import open_artifact
from pinsage.base.errors import ArtifactError
from pinsage.graph.schema import CONTEXT_KEY, CONTEXTS_FILE
from pinsage.inference.fresh import FreshEncoder, NewItem
from pinsage.model.checkpoint import load_model
from pinsage.sampling.neighborhood import WalkConfig
from serve.generation import Generation
from serve.problems import Code, ProblemError, invalid

logger = logging.getLogger("pinsage.serve")


@dataclass(frozen=True)
class Description:
    """An item, described.

    Attributes:
        features: content features by group; a group left out is zero.
        contexts: keys of the contexts it is in; repeats count once.
        item_id: its id, if the graph has it.
    """

    features: Mapping[str, Sequence[float]]
    contexts: Sequence[str]
    item_id: int | None = None


@dataclass(frozen=True)
class Embedded:
    """What the model makes of a described item.

    Attributes:
        embedding: unit length.
        features: its layer-0 row.
        neighbor_ids: its neighborhood, most visited first.
        neighbor_weights: their importance weights.
        context_ids: its contexts that the graph has, ascending.
        unknown_contexts: those that it doesn't have, as given.
    """

    embedding: Float32[np.ndarray, " width"]
    features: Float32[np.ndarray, " features"]
    neighbor_ids: Int64[np.ndarray, " neighbors"]
    neighbor_weights: Float32[np.ndarray, " neighbors"]
    context_ids: Int64[np.ndarray, " contexts"]
    unknown_contexts: list[str]

    @property
    def is_finite(self) -> bool:
        """Whether the model's numbers could hold it; huge features make them overflow."""
        return bool(np.isfinite(self.embedding).all())


class ModelError(ArtifactError):
    """What items are embedded with is damaged or gone."""


@contextmanager
def needs_model() -> Iterator[None]:
    """Answer a request with a problem where the model turns out to be damaged on disk."""
    try:
        yield
    except ModelError as error:
        logger.exception("items can't be embedded")
        raise ProblemError(
            Code.MODEL_UNAVAILABLE,
            "Items can't be embedded now: what was published of the model is damaged or gone. "
            "The server's log says more; answers about published items go on.",
        ) from error


class Embedder:
    """The model and the graph, opened when they are first asked for."""

    def __init__(self, generation: Generation) -> None:
        """Hold what is served; nothing is opened yet."""
        self._generation = generation
        self._opening = threading.Lock()
        self._opened: tuple[FreshEncoder, pa.ChunkedArray] | None = None

    @property
    def has_model(self) -> bool:
        """Whether the generation was published with its model."""
        return "model" in self._generation.parts.names

    def check(self, features: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
        """Bring features to the model's numbers, by group.

        Raises:
            ModelError: what was published is damaged.
            ProblemError: there is no model, or they don't fit it.
        """
        widths = self.open()[0].content_widths
        return {name: _vector(name, values, widths) for name, values in features.items()}

    def missing(self, features: Collection[str]) -> list[str]:
        """Name the feature groups that are not among some."""
        return [name for name in self.open()[0].content_widths if name not in features]

    def embed(self, described: Sequence[Description]) -> list[Embedded]:
        """Embed some items at once; of one that overflows, the embedding isn't finite.

        Raises:
            ModelError: what was published is damaged.
            ProblemError: there is no model, or the features of one don't fit it.
        """
        found = self._embedded(described)
        if len(found) == 1 or all(one.is_finite for one in found):
            return found
        # Padding reads the first item with no weight, and no weight of infinity is NaN.
        return [one for alone in described for one in self._embedded([alone])]

    def embed_one(self, described: Description) -> Embedded:
        """Embed an item.

        Raises:
            ModelError: what was published is damaged.
            ProblemError: there is no model, or the features don't fit it.
        """
        (found,) = self.embed([described])
        if not found.is_finite:
            raise overflow()
        return found

    @property
    def is_open(self) -> bool:
        """Whether the model is open."""
        return self._opened is not None

    def open(self) -> tuple[FreshEncoder, pa.ChunkedArray]:
        """Give the model and the contexts' keys, opened once.

        Raises:
            ModelError: what was published is damaged; it is looked at again the next time.
            ProblemError: there is no model.
        """
        with self._opening:
            if self._opened is None:
                with _as_published():
                    self._opened = _open(self._generation)
            return self._opened

    def warm_up(self) -> None:
        """Open the model, and have compiled what embeds an item with a context.

        Raises:
            ModelError: what was published is damaged.
            ProblemError: there is no model.
        """
        _, context_keys = self.open()
        self.embed([Description({}, [key.as_py() for key in context_keys[:1]])])

    def _embedded(self, described: Sequence[Description]) -> list[Embedded]:
        encoder, context_keys = self.open()
        checked = [self.check(one.features) for one in described]
        given = [list(dict.fromkeys(one.contexts)) for one in described]
        met = _ids_by_key(context_keys, {key for keys in given for key in keys})
        context_ids = [
            np.array(sorted(met[key] for key in keys if key in met), dtype=np.int64)
            for keys in given
        ]
        new = [
            NewItem(ids, len(keys), features, one.item_id)
            for ids, keys, features, one in zip(context_ids, given, checked, described, strict=True)
        ]
        with _as_published():
            fresh = encoder.embed(new)
        found = []
        for place, keys in enumerate(given):
            is_there = fresh.neighbor_ids[place] >= 0
            found.append(
                Embedded(
                    embedding=fresh.embeddings[place],
                    features=fresh.features[place],
                    neighbor_ids=fresh.neighbor_ids[place][is_there].astype(np.int64),
                    neighbor_weights=fresh.neighbor_weights[place][is_there],
                    context_ids=context_ids[place],
                    unknown_contexts=[key for key in keys if key not in met],
                )
            )
        return found


@contextmanager
def _as_published() -> Iterator[None]:
    """Blame what was published for what goes wrong with it."""
    try:
        yield
    except (ArtifactError, OSError, ValueError, LookupError) as error:
        raise ModelError(f"what items are embedded with is damaged or gone: {error}") from error


def _open(generation: Generation) -> tuple[FreshEncoder, pa.ChunkedArray]:
    parts = generation.parts
    if "model" not in parts.names:
        raise ProblemError(Code.NO_MODEL, "This generation was published without its model.")
    published = open_artifact(parts.directory("model"), stage="model", check_digests=True)
    model = load_model(published.path)
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


def _ids_by_key(context_keys: pa.ChunkedArray, wanted: set[str]) -> dict[str, int]:
    """Find the ids of contexts by their keys, those that there are."""
    keys = sorted(wanted)
    places = pc.index_in(context_keys, value_set=pa.array(keys, pa.large_string()))
    ids = np.flatnonzero(places.is_valid().to_numpy())
    return {
        keys[place]: int(i) for i, place in zip(ids, places.drop_null().to_pylist(), strict=True)
    }


def overflow() -> ProblemError:
    """Make the problem for an item whose embedding isn't finite."""
    return invalid("body.features", "wanted smaller numbers, with which the model can calculate")


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

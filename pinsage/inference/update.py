"""What changes reach: the rows to compute anew after new or changed items, edges or features.

Every item has three prints, 64 bits each: of its key, of its features, and of its neighborhood with
the neighbors named by their keys. Equal prints mean equal content, but for one chance in 2^64, so
graphs need not be compared, and ids may differ between them. Convolution k of an item changes if
its neighborhood did, or row k - 1 of itself or of a neighbor; row 0 is its features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Int, Int64, UInt64

from pinsage.base import shared
from pinsage.base.arrays import map_array
from pinsage.base.artifacts import Artifact, open_artifact
from pinsage.base.errors import ArtifactError
from pinsage.base.files import whole_file
from pinsage.inference.export import STAGE, PartsReader
from pinsage.kernels.prints import row_prints, text_prints
from pinsage.sampling.minibatch import FeatureSource
from pinsage.sampling.neighborhood import Neighborhoods

PRINTS_FILE = "prints.npy"
KEY, FEATURES, NEIGHBORHOOD = range(3)
"""Columns of the prints."""

_SUFFIX = "-update.npy"

_ROWS = 65_536
"""Items looked at at a time."""

Mask = Bool[np.ndarray, " items"]


def hidden_name(number: int) -> str:
    """Name the published file of convolution `number`'s rows."""
    return f"hidden-{number}.npy"


def print_items(
    item_keys: pa.Array,
    features: FeatureSource,
    neighborhoods: Neighborhoods,
    *,
    num_neighbors: int | None,
) -> UInt64[np.ndarray, "items 3"]:
    """Print every item's key, features and neighborhood.

    Args:
        item_keys: by item id; texts or integers.
        features: layer-0 rows.
        neighborhoods: who pools from whom.
        num_neighbors: T at inference; none means all that the table keeps.
    """
    prints = np.empty((len(item_keys), 3), np.uint64)
    keys = _print_keys(item_keys)
    prints[:, KEY] = keys
    width = num_neighbors or neighborhoods.ids.shape[1]
    for start, stop in _chunks(len(item_keys)):
        rows = features.gather(np.arange(start, stop))
        none = np.zeros(stop - start, np.uint64)
        prints[start:stop, FEATURES] = row_prints(rows.view(np.uint32), none)
        ids = np.asarray(neighborhoods.ids[start:stop, :width])
        weights = np.ascontiguousarray(neighborhoods.weights[start:stop, :width])
        named = np.where(ids >= 0, keys[ids], np.uint64(0))
        prints[start:stop, NEIGHBORHOOD] = row_prints(
            weights.view(np.uint32), row_prints(named.view(np.uint32), none)
        )
    return prints


@dataclass(frozen=True)
class PreviousEmbeddings:
    """Published embeddings, and what they were made from."""

    artifact: Artifact
    scratch: Path | None = None
    """As of `PartsReader`."""

    @classmethod
    def open(cls, directory: Path, scratch: Path | None = None) -> "PreviousEmbeddings":
        """Open what an earlier run published with `keep_rows`.

        Raises:
            ArtifactError: the directory is unfinished or damaged, or has no prints.
        """
        artifact = open_artifact(directory, stage=STAGE)
        if PRINTS_FILE not in artifact.manifest.files:
            raise ArtifactError(
                f"{directory}: made without embed.keep_rows, so nothing tells which of its items "
                "have changed; embed that graph with embed.keep_rows=true first, or leave "
                "embed.previous out"
            )
        return cls(artifact, scratch)

    @cached_property
    def prints(self) -> UInt64[np.ndarray, "old_items 3"]:
        """What every item was made from."""
        return map_array(self.artifact.path / PRINTS_FILE)

    @cached_property
    def embeddings(self) -> PartsReader:
        """What came of it."""
        return PartsReader(self.artifact.path, self.scratch)

    @cached_property
    def hidden(self) -> dict[int, Float32[np.ndarray, "old_items width"]]:
        """Map the rows that each convolution but the last gave."""
        names = [name for name in self.artifact.manifest.files if name.startswith("hidden-")]
        return {
            number: map_array(self.artifact.path / hidden_name(number))
            for number in range(1, len(names) + 1)
        }


@dataclass(frozen=True)
class Update:
    """Which rows are computed; all others are the previous embeddings' own.

    Attributes:
        previous: where they come from.
        old_rows: every item's row there; -1 for a new item.
        changed: for every layer from 0 to K, whose rows differ.
        pooled_from: for every layer below K, whose rows the next convolution pools from.
    """

    previous: PreviousEmbeddings
    old_rows: Int64[np.ndarray, " items"]
    changed: Sequence[Bool[np.ndarray, " items"]]
    pooled_from: Sequence[Bool[np.ndarray, " items"]]

    def save(self, folder: Path) -> None:
        """Write all but the previous embeddings, for other processes to load."""
        arrays = {"old_rows": self.old_rows, "changed": np.array(self.changed)}
        arrays["pooled_from"] = np.array(self.pooled_from, bool).reshape(-1, len(self.old_rows))
        for name, array in arrays.items():
            with whole_file(folder / f"{name}{_SUFFIX}") as path, path.open("wb") as out:
                np.save(out, array, allow_pickle=False)
            shared.push(folder / f"{name}{_SUFFIX}")

    @classmethod
    def load(cls, folder: Path, previous: PreviousEmbeddings) -> "Update":
        """Map what was saved."""
        shared.pull(folder, suffix=_SUFFIX)
        old_rows, changed, pooled_from = (
            map_array(folder / f"{name}{_SUFFIX}")
            for name in ("old_rows", "changed", "pooled_from")
        )
        return cls(previous, old_rows, list(changed), list(pooled_from))

    def old_embeddings(self, item_ids: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n width"]:
        """Copy the embeddings that items had; all of them must have had one."""
        return self.previous.embeddings.take(self.old_rows[item_ids])

    def old_hidden(self, number: int, start: int, stop: int) -> Float32[np.ndarray, "chunk width"]:
        """Copy the rows that convolution `number` gave; anything for a new item."""
        return self.previous.hidden[number][np.maximum(self.old_rows[start:stop], 0)]


def plan_update(
    previous: PreviousEmbeddings,
    prints: UInt64[np.ndarray, "items 3"],
    neighbor_ids: Int[np.ndarray, "items neighbors"],
    *,
    num_layers: int,
    num_neighbors: int | None,
) -> Update:
    """Find what changes reach.

    Args:
        previous: the embeddings to start from, by the same model with the same T.
        prints: of the items to embed.
        neighbor_ids: who pools from whom; -1 where there are fewer than T.
        num_layers: K.
        num_neighbors: T at inference; none means all that the table keeps.
    """
    old_rows = rows_of_prints(np.asarray(previous.prints[:, KEY]), prints[:, KEY])
    is_new = old_rows < 0
    differs = {
        column: is_new | (previous.prints[:, column][np.maximum(old_rows, 0)] != prints[:, column])
        for column in (FEATURES, NEIGHBORHOOD)
    }
    ids = neighbor_ids[:, :num_neighbors]
    changed = [differs[FEATURES]]
    for _ in range(num_layers):
        changed.append(changed[-1] | differs[NEIGHBORHOOD] | _any_neighbor(ids, changed[-1]))
    pooled_from = [_neighbors_of(ids, changed[number + 1]) for number in range(num_layers)]
    return Update(previous, old_rows, changed, pooled_from)


def rows_of_prints(
    old: UInt64[np.ndarray, " old_items"], new: UInt64[np.ndarray, " items"]
) -> Int64[np.ndarray, " items"]:
    """Find where each print stands among the old ones; -1 where it does not.

    >>> old, new = np.array([7, 5], np.uint64), np.array([5, 6, 7], np.uint64)
    >>> rows_of_prints(old, new).tolist()
    [1, -1, 0]
    >>> rows_of_prints(old, np.array([7, 5, 6], np.uint64)).tolist()
    [0, 1, -1]
    """
    num = min(len(old), len(new))
    if np.array_equal(old[:num], new[:num]):
        # Rows are kept, as they are where items are only added: no other needs to be looked for.
        return np.concatenate([np.arange(num), np.full(len(new) - num, -1)])
    order = np.argsort(old)
    places = np.minimum(np.searchsorted(old, new, sorter=order), len(old) - 1)
    rows = order[places]
    return np.where(old[rows] == new, rows, -1)


def _any_neighbor(ids: Int[np.ndarray, "items neighbors"], marked: Mask) -> Mask:
    """Tell which items have a neighbor that is marked."""
    found = np.empty(len(ids), bool)
    for start, stop in _chunks(len(ids)):
        some = np.asarray(ids[start:stop])
        found[start:stop] = ((some >= 0) & marked[some]).any(axis=1)
    return found


def _neighbors_of(ids: Int[np.ndarray, "items neighbors"], marked: Mask) -> Mask:
    """Tell which items are neighbors of one that is marked."""
    found = np.zeros(len(ids), bool)
    for start, stop in _chunks(len(ids)):
        some = np.asarray(ids[start:stop])[marked[start:stop]]
        found[some[some >= 0]] = True
    return found


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + _ROWS, count)) for start in range(0, count, _ROWS))


def _print_keys(item_keys: pa.Array) -> UInt64[np.ndarray, " items"]:
    texts = item_keys.cast(pa.large_string())
    _, starts, text = texts.buffers()
    offsets = np.frombuffer(starts, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(text, np.uint8) if text is not None else np.zeros(0, np.uint8)
    return text_prints(offsets - offsets[0], data[offsets[0] : offsets[-1]])


def item_keys_of(items_table: Path) -> pa.Array:
    """Read every item's key from a graph's key table."""
    return pq.read_table(items_table, columns=["item_key"])["item_key"].combine_chunks()

"""Embeddings in and out of Parquet files that any tool reads."""

from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Float32, Int64

from pinsage.base.artifacts import open_artifact
from pinsage.base.errors import ArtifactError, NotFiniteError

STAGE = "embeddings"

PART_ROWS = 65_536
"""Rows of a Parquet file, but for the last one's: the same whatever a worker takes at a time."""

PART_SUFFIX = ".parquet"

_PARTS_HELD = 4
_GROUPS_HELD = 2


def part_name(kind: Literal["part", "contexts"], start: int, stop: int) -> str:
    """Name the file of the items, or contexts, with ids in [start, stop)."""
    return f"{kind}-{start:012d}-{stop:012d}{PART_SUFFIX}"


def write_part(
    path: Path,
    keys: pa.Array,
    embeddings: Float[np.ndarray, "rows width"],
    *,
    key_name: str = "item_key",
) -> None:
    """Write some embeddings: columns `item_key` (or `context_key`) and `embedding`.

    Embeddings are a fixed-size list, of float32 or float16 as given.
    """
    values = pa.array(np.ascontiguousarray(embeddings).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(values, embeddings.shape[1])
    table = pa.table({key_name: keys, "embedding": lists})
    # No two numbers are equal: a dictionary of them would only take time, to write and to read.
    pq.write_table(table, path, use_dictionary=False, write_statistics=[key_name])


class KeyReader:
    """Reads rows of a key table's key column, and no more row groups than they are in."""

    def __init__(self, table: Path, column: str) -> None:
        """Look where the table's row groups begin.

        Raises:
            OSError: there is no such table.
        """
        self._table, self._column = table, column
        metadata = pq.read_metadata(table)
        sizes = (metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
        self._starts = list(accumulate(sizes, initial=0))
        self._group = lru_cache(maxsize=_GROUPS_HELD)(self._read)

    def take(self, start: int, stop: int) -> pa.Array:
        """Give the keys of the rows in [start, stop)."""
        parts = []
        for number, (first, last) in enumerate(pairwise(self._starts)):
            if first < stop and start < last:
                parts += self._group(number)[max(start - first, 0) : stop - first].chunks
        return pa.concat_arrays(parts)

    def _read(self, number: int) -> pa.ChunkedArray:
        file = pq.ParquetFile(self._table)
        return file.read_row_group(number, columns=[self._column])[self._column]


class PartsReader:
    """Reads rows of published embeddings, a few files at a time and each of them twice at most.

    Asked in about the order of the files, it holds the newest few in memory. A file that is asked
    for after it was dropped is decoded once more, and kept in the scratch folder.
    """

    def __init__(self, directory: Path, scratch: Path | None = None) -> None:
        """List the files; row i of all of them together is item id i's.

        Args:
            directory: a published directory.
            scratch: where decoded files may lie until the process ends, 4 bytes a number; none
                means the system's folder for temporary files.
        """
        self._paths = sorted(directory.glob("part-*.parquet"))
        self._starts = [int(path.stem.split("-")[1]) for path in self._paths]
        self._scratch = scratch
        self._part = lru_cache(maxsize=_PARTS_HELD)(self._read)
        self._were_read: set[int] = set()
        self._kept: dict[int, Float32[np.ndarray, "rows width"]] = {}
        self._lock = Lock()

    def take(self, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n width"]:
        """Copy some rows, in the order asked for."""
        taken = np.empty((len(rows), self._held(0).shape[1]), np.float32)
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(parts):
            own = parts == number
            taken[own] = self._held(int(number))[rows[own] - self._starts[number]]
        return taken

    def _held(self, number: int) -> Float32[np.ndarray, "rows width"]:
        # Else threads that want the same file would read it at the same time.
        with self._lock:
            return self._kept[number] if number in self._kept else self._part(number)

    def _read(self, number: int) -> Float32[np.ndarray, "rows width"]:
        lists = pq.read_table(self._paths[number], columns=["embedding"])["embedding"]
        rows = _as_matrix(lists).astype(np.float32, copy=False)
        if number in self._were_read:
            rows = self._kept[number] = _on_disk(rows, self._scratch)
        self._were_read.add(number)
        return rows


def read_embeddings(directory: Path) -> Float32[np.ndarray, "items width"]:
    """Read every embedding of a published directory, row i for item id i.

    Raises:
        ArtifactError: the directory is unfinished or damaged.
        NotFiniteError: an embedding is not.
    """
    artifact = open_artifact(directory, stage=STAGE)
    return _read_all(artifact.path, "part", artifact.manifest.counts["items"])


def read_context_embeddings(directory: Path) -> Float32[np.ndarray, "contexts width"]:
    """Read every context's embedding of a published directory, row i for context id i.

    Raises:
        ArtifactError: the directory is unfinished or damaged, or has none.
        NotFiniteError: an embedding is not.
    """
    artifact = open_artifact(directory, stage=STAGE)
    wanted = artifact.manifest.counts.get("contexts")
    if wanted is None:
        raise ArtifactError(
            f"{directory}: wanted embeddings of contexts, found none; embed with "
            "embed.contexts=true"
        )
    return _read_all(artifact.path, "contexts", wanted)


def _read_all(path: Path, kind: str, wanted: int) -> Float32[np.ndarray, "rows width"]:
    """Read all files of a kind into one array, one file at a time."""
    files = sorted(path.glob(f"{kind}-*.parquet"))
    rows = np.empty((0, 0), np.float32)
    done = 0
    for file in files:
        some = _as_matrix(pq.read_table(file, columns=["embedding"])["embedding"])
        if not np.isfinite(some).all():
            raise NotFiniteError(
                f"{file}: wanted embeddings of finite numbers, found NaN or infinite ones; delete "
                f"{path} and embed again"
            )
        if not done:
            rows = np.empty((wanted, some.shape[1]), np.float32)
        if done + len(some) <= wanted:
            rows[done : done + len(some)] = some
        done += len(some)
    if done != wanted:
        raise ArtifactError(
            f"{path}: wanted {wanted} embeddings, found {done}; delete it and embed again"
        )
    return rows


def _as_matrix(lists: pa.ChunkedArray) -> Float[np.ndarray, "rows width"]:
    whole = lists.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    return whole.flatten().to_numpy(zero_copy_only=True).reshape(-1, whole.type.list_size)


def _on_disk(
    rows: Float32[np.ndarray, "rows width"], scratch: Path | None
) -> Float32[np.ndarray, "rows width"]:
    """Copy rows to a file without a name, which is gone with the process at the latest."""
    with TemporaryFile(dir=scratch) as file:
        copy = np.memmap(file, np.float32, mode="w+", shape=rows.shape)
        copy[:] = rows
    return copy

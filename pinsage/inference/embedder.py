"""Every chunk of every pass, from features to Parquet files, in one process."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32

from pinsage.base.errors import ArtifactError, NotFiniteError, ResourceError
from pinsage.base.files import whole_file
from pinsage.graph import Graph
from pinsage.graph.adjacency import AdjacencyShard
from pinsage.graph.rows import RowFile
from pinsage.graph.schema import CONTEXT_KEY, CONTEXTS_FILE, ITEM_KEY, ITEMS_FILE
from pinsage.inference.contexts import context_embeddings
from pinsage.inference.export import PART_ROWS, KeyReader, part_name, write_part
from pinsage.inference.layerwise import BLOCK, EmbedConfig, LayerwiseEncoder
from pinsage.inference.marks import Pass
from pinsage.inference.update import Update
from pinsage.model.checkpoint import load_model
from pinsage.sampling.neighborhood import Neighborhoods

_READ_BYTES = 2**20


@dataclass(frozen=True)
class EmbedSpec:
    """What every embedding actor is told.

    Attributes:
        graph: published directory.
        neighborhoods: published directory.
        model: published directory.
        folder: where rows lie between passes.
        parts: where the Parquet files go.
        config: settings of the stage.
        previous: published embeddings to start from; None computes everything.
    """

    graph: Path
    neighborhoods: Path
    model: Path
    folder: Path
    parts: Path
    config: EmbedConfig
    previous: Path | None = None


class Embedder:
    """All that the passes read and write, opened: the `LayerwiseEncoder`, and files of results."""

    def __init__(
        self, spec: EmbedSpec, update: Update | None = None, *, on_gpu: bool = False
    ) -> None:
        """Open the model and the tables.

        Args:
            spec: what to embed, and where the files go.
            update: what to compute; none means everything.
            on_gpu: compute on a GPU if this process sees one.

        Raises:
            ArtifactError: a directory is unfinished or damaged, or the model is not for the graph.
        """
        self._spec = spec
        self.graph = Graph.open(spec.graph)
        self.neighborhoods = Neighborhoods.open(spec.neighborhoods, at_inference=True)
        self.model = load_model(spec.model)
        if len(self.model.input_shift) != self.graph.feature_width:
            raise ArtifactError(
                f"{spec.model}: the model wants {len(self.model.input_shift)} features an item, "
                f"found {self.graph.feature_width} in {spec.graph}; embed with a model that was "
                "trained on a graph with the same features (embed.model)"
            )
        self.encoder = LayerwiseEncoder(
            self.model,
            self.graph.features_at_inference(),
            self.neighborhoods,
            spec.folder,
            num_neighbors=spec.config.num_neighbors,
            device=torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu"),
            update=update,
        )
        self._embeddings = RowFile(spec.folder / "embeddings.npy")
        self._seen: str | None = None
        self._convolutions = [f"pass-{number}" for number in range(self.encoder.num_passes)]

    @cached_property
    def _shards(self) -> list[AdjacencyShard]:
        return self.graph.adjacency_shards()

    @cached_property
    def _keys(self) -> dict[str, KeyReader]:
        tables = {ITEM_KEY: ITEMS_FILE, CONTEXT_KEY: CONTEXTS_FILE}
        return {key: KeyReader(self._spec.graph / table, key) for key, table in tables.items()}

    def passes(self) -> list[Pass]:
        """List all passes in order."""
        items, config = self.graph.num_items, self._spec.config
        size = -(-config.items_per_chunk // BLOCK) * BLOCK
        *before, last = self._convolutions
        listed = [*(Pass(name, items, size) for name in before), Pass(last, items, PART_ROWS)]
        if config.contexts:
            listed.append(Pass("contexts", self.graph.num_contexts, PART_ROWS))
        return listed

    def begin(self, name: str) -> None:
        """Make the files that a pass fills; those that are there already are kept."""
        if name in self._convolutions:
            self.encoder.allocate(self._convolutions.index(name))
        if name == self._convolutions[-1] and self._spec.config.contexts:
            self._embeddings.make(self.graph.num_items, self.model.config.embedding_width)

    def see_rows_of(self, name: str) -> None:
        """Have a pass's rows read as they are now: other machines may have written some of them."""
        if name != self._seen:
            self._seen = name
            for file in self.written_by(name):
                file.forget_map()

    def end(self, name: str) -> None:
        """Drop what no later pass reads."""
        if name in self._convolutions:
            self.encoder.release(
                self._convolutions.index(name), keep_hidden=self._spec.config.keep_rows
            )

    def written_by(self, name: str) -> list[RowFile]:
        """List the files of rows that a pass fills."""
        if name == self._convolutions[-1]:
            return [self._embeddings] if self._spec.config.contexts else []
        if name in self._convolutions:
            return self.encoder.files_of(self._convolutions.index(name))
        return []

    def pass_before(self, name: str) -> str | None:
        """Name the pass whose rows a pass reads; None reads features alone."""
        if name not in self._convolutions:
            return self._convolutions[-1]
        number = self._convolutions.index(name)
        return self._convolutions[number - 1] if number else None

    def part_of(self, name: str, start: int, stop: int) -> Path | None:
        """Name the Parquet file that a chunk of a pass writes; None of passes that write rows."""
        if name in self._convolutions[:-1]:
            return None
        kind: Literal["part", "contexts"] = "contexts" if name == "contexts" else "part"
        return self._spec.parts / part_name(kind, start, stop)

    def do(self, name: str, start: int, stop: int) -> dict[str, Any]:
        """Do one chunk of a pass; returns its receipt, as `settle` gives it."""
        return self.settle(name, start, stop, self.compute(name, start, stop))

    def compute(self, name: str, start: int, stop: int) -> Float32[np.ndarray, "chunk width"]:
        """Make the rows of one chunk of a pass.

        Returns:
            The rows, for `settle`, which may be busy with them while the next chunk is computed.

        Raises:
            NotFiniteError: an embedding is not.
            ResourceError: a GPU has too little memory.
        """
        if name == "contexts":
            return context_embeddings(self._shards, self._embeddings.read(), start, stop)
        number = self._convolutions.index(name)
        try:
            embeddings = self.encoder.run(number, start, stop)
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"a GPU has too little memory for embedding ({error}); end what else runs on it, "
                "or have the CPU embed with CUDA_VISIBLE_DEVICES= in the environment, and run the "
                "same command again"
            ) from error
        if embeddings is None:
            return self.encoder.made(number, start, stop)
        self._require_finite(start, embeddings)
        return embeddings

    def settle(
        self,
        name: str,
        start: int,
        stop: int,
        rows: Float32[np.ndarray, "chunk width"],
        *,
        sync: bool = True,
    ) -> dict[str, Any]:
        """See to it that what a chunk has made outlives this process.

        Args:
            name: the pass.
            start: the chunk's first row.
            stop: the one after its last.
            rows: what `compute` gave.
            sync: rows between passes outlive a loss of power too, as Parquet files always do.

        Returns:
            Its receipt: `rows`, `convolutions`, `digests`, CRC-32 of every block of rows that it
            made, `hidden`, the sum of the hidden rows' bytes beside them, four at a time, and
            `part`, CRC-32 of the Parquet file that it wrote.
        """
        receipt: dict[str, Any] = {"rows": stop - start, "convolutions": 0}
        if name == "contexts":
            receipt["part"] = self._write(name, CONTEXT_KEY, rows, start, stop)
            return receipt
        if name == self._convolutions[-1]:
            receipt["part"] = self._write(name, ITEM_KEY, rows, start, stop)
        for file in self.written_by(name):
            if file is self._embeddings:
                file.write(start, rows)
            if sync:
                file.sync()
        number = self._convolutions.index(name)
        receipt["convolutions"] = self.encoder.count_convolutions(number, start, stop)
        receipt["digests"] = _digests(rows)
        for file in self.written_by(name)[1:]:
            receipt["hidden"] = _total(file.read()[start:stop])
        return receipt

    def holds(
        self,
        name: str,
        start: int,
        stop: int,
        receipt: Mapping[str, Any],
        *,
        may_lack_files: bool = False,
    ) -> bool:
        """Tell whether the rows that a chunk has made are there, as its receipt says.

        In a copy that was taken while a job ran, marks may be newer than rows.

        Args:
            name: the pass.
            start: the chunk's first row.
            stop: the one after its last.
            receipt: what `settle` gave.
            may_lack_files: files of rows that were dropped since count as whole.
        """
        checks = ((_digests, receipt.get("digests")), (_total, receipt.get("hidden")))
        return all(
            check(file.read()[start:stop]) == wanted if file.path.exists() else may_lack_files
            for file, (check, wanted) in zip(self.written_by(name), checks, strict=False)
        )

    def holds_part(self, name: str, start: int, stop: int, receipt: Mapping[str, Any]) -> bool:
        """Tell the same of the file that a chunk has made to be published, if it makes one."""
        part = self.part_of(name, start, stop)
        return part is None or (part.exists() and _sum_of(part) == receipt.get("part"))

    def _require_finite(self, start: int, embeddings: Float32[np.ndarray, "chunk width"]) -> None:
        # Their sum is not finite either, and quicker to see.
        if np.isfinite(embeddings.sum()):
            return
        bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        if len(bad):
            first = start + int(bad[0])
            key = self._keys[ITEM_KEY].take(first, first + 1)[0]
            raise NotFiniteError(
                f"{self._spec.graph}: wanted embeddings of finite numbers, found NaN or infinite "
                f"ones for {len(bad)} of {len(embeddings)} items from item id {start} on, first "
                f"{ITEM_KEY} {key.as_py()!r}; look for extreme values in its features and in its "
                "neighbors'"
            )

    def _write(
        self, name: str, key_name: str, rows: npt.NDArray[np.float32], start: int, stop: int
    ) -> str:
        path = self.part_of(name, start, stop)
        assert path is not None
        keys = self._keys[key_name].take(start, stop)
        written = rows.astype(self._spec.config.dtype, copy=False)
        with whole_file(path) as temporary:
            write_part(temporary, keys, written, key_name=key_name)
            return _sum_of(temporary)


def _sum_of(file: Path) -> str:
    total = 0
    with file.open("rb") as opened:
        while some := opened.read(_READ_BYTES):
            total = zlib.crc32(some, total)
    return f"{total:08x}"


def _digests(rows: npt.NDArray[np.float32]) -> list[str]:
    # SHA-256 would take a seventh of the whole stage's time.
    return [
        f"{zlib.crc32(np.ascontiguousarray(rows[start : start + BLOCK]).data):08x}"
        for start in range(0, len(rows), BLOCK)
    ]


def _total(rows: npt.NDArray[np.float32]) -> int:
    # Tells rows that are lacking, in a tenth of a CRC's time.
    return int(np.ascontiguousarray(rows).view(np.uint32).sum(dtype=np.uint64))

"""Structural features: what the training graph alone says about an item.

Beside its content, an item may carry the leading singular vectors of the degree-normalized
item-context matrix. This goes beyond the paper, whose features are content alone. The contexts'
vectors are kept beside them, so that a new item folds in at once.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Float64, Int, Int64
from pydantic import Field, PositiveInt

from pinsage.base.arrays import read_array
from pinsage.base.config import Config
from pinsage.base.files import whole_file
from pinsage.base.seeding import Stream, uniform_by_id
from pinsage.graph.adjacency import AdjacencyShard, degrees_between, rows_between
from pinsage.graph.basis import Basis
from pinsage.graph.features import FeatureStore
from pinsage.graph.rows import RowFile
from pinsage.graph.schema import CONTEXT_KEY, CONTEXTS_FILE
from pinsage.graph.tasks import Tasks
from pinsage.kernels.pooling import gram, pool_rows, rotate, symmetric_eigen
from pinsage.kernels.unit_rows import exact_unit_rows

_NEGLIGIBLE = 1e-10
"""Squared lengths this far below the longest one are rounding errors, not directions."""

_PIECES = 32
"""Pieces of the rows; sums over rows add up piece by piece, so only their number cuts them."""

_FEWEST_ROWS, _MOST_ROWS = 64, 65_536
"""Rows of a piece, before there are fewer pieces, or more."""


class Phase(NamedTuple):
    """What is done to all pieces before anything else is."""

    step: str
    """The method that does one piece."""
    side: str
    """Whose pieces."""
    file: str
    """Where the rows go."""
    then: str = ""
    """The method that puts together what the steps found out."""


class StructureConfig(Config):
    """Structural features: singular vectors of the training graph."""

    width: PositiveInt = 128
    """Numbers an item gets."""

    passes: PositiveInt = 6
    """Times that vectors are pooled from items into contexts and back; more separate singular
    vectors better whose values are close together."""

    item_power: Annotated[float, Field(ge=0, le=1)] = 0.5
    """An edge counts 1 / degree^`item_power` of its item; the smaller, the more popular items shape
    the vectors."""

    context_power: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The same of its context's number of items."""

    basis: str | None = None
    """Fingerprint of a published graph, a folder in `<output>/graph`, with structural features of
    the same settings: items are described in its directions, so that a model trained on it
    (`embed.model`) reads what it knows, and only items whose edges changed are described anew. None
    finds directions of this graph's own."""


@dataclass(frozen=True)
class Structure:
    """Gives items of like contexts like vectors, from the edges alone.

    A is the item-context matrix of zeros and ones, B = D_i^-p A D_c^-q with the degrees of items
    and contexts, p = `item_power` and q = `context_power`. V is made of the leading right singular
    vectors of B, a column each, largest singular value first. They are found by randomized subspace
    iteration: a random start keyed by item, then `passes` times context pooling (B^T), item pooling
    (B) and orthonormalization, then Rayleigh-Ritz. An item's row is its row of A D_c^-q V, scaled
    to unit length, so inner products are cosines: those of the left singular vectors times their
    singular values, up to the iteration's error. Each column's entry of the largest magnitude is
    positive before rows are scaled.

    A cold item's row is zero, and so are the columns beyond the rank of B (at most the smaller
    number of items and contexts); singular values below about 1/300 of the largest may count as
    zero.

    The work is cut into steps, each one piece of the rows of one phase, that any process may do;
    vectors lie in files between them. A step only writes what no step of its phase reads, so it may
    be done again, and a run that was killed goes on with the phase it was in. Equal arguments give
    equal bits, whatever the number of shards, threads and processes.

    Time: 2 * `passes` + 2 times edges * width additions, and as many times rows * width^2
    multiplications. Disk: 8 * width bytes for each item and context. Memory of a step: 8 * width
    bytes a row of its piece and 8 bytes an edge of it, and 16 * width^2.

    With a basis, D_c^-q V is that graph's for the contexts that it has. A new context's row follows
    from V = B^T (B V) S^-2, with the basis's singular values S and only what known contexts say of
    its items. An item whose contexts are the same has the same row, bit for bit.

    Attributes:
        directory: the graph's shards, and nothing of what is held out.
        folder: where vectors lie.
        num_shards: how many shards there are.
        num_items: how many items.
        num_contexts: how many contexts.
        config: how wide, and how many passes.
        seed: the run's seed.
        basis: whose directions to use; None finds the graph's own.
    """

    directory: Path
    folder: Path
    num_shards: int
    num_items: int
    num_contexts: int
    config: StructureConfig
    seed: int
    basis: Basis | None = None

    def __getstate__(self) -> dict[str, object]:
        """Leave behind what is mapped: a process opens it anew."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def num_steps(self) -> int:
        """How many steps there are in all."""
        return sum(len(self._pieces(phase.side)) for phase in self._phases())

    def items(self) -> Float32[np.ndarray, "items width"]:
        """Map the items' rows: of unit length, or all zero."""
        return self._file("items").read()

    def contexts(self, shard: int) -> Float32[np.ndarray, "rows width"]:
        """Copy one shard's rows of D_c^-q V, which an item is the sum of (`fold_in`)."""
        return self._file("vectors").read()[shard :: self.num_shards] * self._load("signs.npy")

    def squares(self) -> Float64[np.ndarray, " width"]:
        """Read the squares of the singular values, a column each; 0 beyond the rank."""
        return self._load("squares.npy")

    def make(self, run: Tasks) -> None:
        """Do all steps that an earlier run has not done.

        Args:
            run: what runs the steps of a phase.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, total in self._files().items():
            self._file(name).make(total, self.config.width)
        if self.basis is not None:
            self._take_basis(self.basis)
        for number, phase in enumerate(self._phases()):
            done = self.folder / f"phase-{number:04d}.done"
            if done.exists():
                continue
            run(getattr(self, phase.step), range(len(self._pieces(phase.side))), "structure")
            if phase.then:
                getattr(self, phase.then)(len(self._pieces(phase.side)))
            self._file(phase.file).sync()
            with whole_file(done) as temporary:
                temporary.touch()

    def start(self, number: int) -> None:
        """Give items random rows."""
        item_ids = np.arange(*self._pieces("item")[number])
        rows = np.empty((len(item_ids), self.config.width), np.float32)
        for column in range(self.config.width):
            rows[:, column] = uniform_by_id(self.seed, Stream.STRUCTURE, item_ids, column) - 0.5
        self._write("items", "item", number, rows * self._scales("item", number))

    def into_contexts(self, number: int) -> None:
        """Pool items into contexts, B^T, and scale these for the way back."""
        rows = self._pool("context", "items", number)
        self._write("contexts", "context", number, rows * self._scales("context", number))

    def into_items(self, number: int) -> None:
        """Pool contexts into items, B."""
        rows = self._pool("item", "contexts", number)
        self._write("pooled", "item", number, rows)
        self._keep(f"gram-{number}.npy", gram(rows))

    def turn_items(self, number: int) -> None:
        """Make columns orthogonal and of length 1, and scale rows for the way to the contexts."""
        rows = rotate(self._read("pooled", "item", number), self._load("rotation.npy"))
        self._write("items", "item", number, rows * self._scales("item", number))

    def into_contexts_last(self, number: int) -> None:
        """Pool items into contexts, B^T, once more."""
        rows = self._pool("context", "items", number)
        self._write("contexts", "context", number, rows)
        self._keep(f"gram-{number}.npy", gram(rows))

    def turn_contexts(self, number: int) -> None:
        """Make columns singular vectors, and scale rows: D_c^-q V."""
        rows = rotate(self._read("contexts", "context", number), self._load("rotation.npy"))
        self._write("vectors", "context", number, rows * self._scales("context", number))

    def into_items_last(self, number: int) -> None:
        """Add up every item's contexts, and look for the largest entries."""
        rows = self._sums("item", "vectors", number)
        self._write("pooled", "item", number, rows)
        self._keep(f"tops-{number}.npy", _tops(rows))

    def finish(self, number: int) -> None:
        """Turn columns and scale rows."""
        rows = self._read("pooled", "item", number) * self._load("signs.npy")
        self._write("items", "item", number, exact_unit_rows(rows))

    def take_known(self, number: int) -> None:
        """Give contexts that the basis has their vectors there, others zeros."""
        assert self.basis is not None
        known, vectors = self._known(number), self.basis.vectors()
        rows = np.zeros((len(known), self.config.width), np.float32)
        rows[known >= 0] = vectors.gather(known[known >= 0])
        self._write("contexts", "context", number, rows)

    def into_items_known(self, number: int) -> None:
        """Add up what is known of every item, and scale it for the way to new contexts."""
        rows = self._sums("item", "contexts", number)
        self._write("items", "item", number, rows * self._scales("item", number) ** 2)

    def make_new(self, number: int) -> None:
        """Give contexts that the basis lacks the vectors that follow from their items."""
        rows, new = self._read("contexts", "context", number).copy(), self._known(number) < 0
        if new.any():
            squares = self.squares()
            over = np.where(squares > 0, squares, np.inf).astype(np.float32)
            made = self._sums("context", "items", number) / over
            rows[new] = (made * self._scales("context", number) ** 2)[new]
        self._write("vectors", "context", number, rows)

    def keep_signs(self, count: int) -> None:
        """Turn no column around: the basis's stand as they are."""
        del count
        self._save("signs.npy", np.ones(self.config.width, np.float32))

    def _take_basis(self, basis: Basis) -> None:
        """Find out which contexts the basis has, and how long its directions are."""
        keys = pq.read_table(self.directory / CONTEXTS_FILE)[CONTEXT_KEY].cast(pa.large_string())
        self._save("known.npy", basis.ids_of(keys.combine_chunks()))
        self._save("squares.npy", basis.squares())

    def _known(self, number: int) -> Int64[np.ndarray, " rows"]:
        """Tell the basis's ids of the contexts of one piece; -1 for those that it lacks."""
        return self._load("known.npy")[slice(*self._pieces("context")[number])]

    def find_directions(self, count: int) -> None:
        """Find what turns columns into principal directions; those left over become zero.

        A Cholesky factor would do, were the columns never dependent.
        """
        total = np.zeros((self.config.width, self.config.width))
        for number in range(count):
            total += self._load(f"gram-{number}.npy")
        squares, rotation = symmetric_eigen(total)
        squares = np.where(squares > _NEGLIGIBLE * squares[0], squares, 0.0)
        rotation /= np.sqrt(np.where(squares > 0, squares, np.inf))
        self._save("rotation.npy", rotation)
        # Of the last pass, whose rows are B^T U: the squares of the singular values.
        self._save("squares.npy", squares)

    def find_signs(self, count: int) -> None:
        """Find the columns to turn around: their entry of the largest magnitude is negative."""
        tops = _tops(np.array([self._load(f"tops-{number}.npy") for number in range(count)]))
        self._save("signs.npy", np.where(tops < 0, np.float32(-1), np.float32(1)))

    def _phases(self) -> list[Phase]:
        """List them in order; none writes what it reads."""
        if self.basis is not None:
            return [
                Phase("take_known", "context", "contexts"),
                Phase("into_items_known", "item", "items"),
                Phase("make_new", "context", "vectors"),
                Phase("into_items_last", "item", "pooled", then="keep_signs"),
                Phase("finish", "item", "items"),
            ]
        one_pass = [
            Phase("into_contexts", "context", "contexts"),
            Phase("into_items", "item", "pooled", then="find_directions"),
            Phase("turn_items", "item", "items"),
        ]
        last = [
            Phase("into_contexts_last", "context", "contexts", then="find_directions"),
            Phase("turn_contexts", "context", "vectors"),
            Phase("into_items_last", "item", "pooled", then="find_signs"),
            Phase("finish", "item", "items"),
        ]
        return [Phase("start", "item", "items"), *(one_pass * self.config.passes), *last]

    def _files(self) -> dict[str, int]:
        items, contexts = self.num_items, self.num_contexts
        return {"items": items, "pooled": items, "contexts": contexts, "vectors": contexts}

    def _pieces(self, side: str) -> list[tuple[int, int]]:
        """Cut the rows of a side."""
        total = self.num_items if side == "item" else self.num_contexts
        count = max(1, min(_PIECES, total // _FEWEST_ROWS), -(-total // _MOST_ROWS))
        bounds = (np.arange(count + 1) * total // count).tolist()
        return list(pairwise(bounds))

    def _pool(self, side: str, name: str, number: int) -> Float32[np.ndarray, "rows width"]:
        """Scale the sums of the rows of one piece."""
        return self._sums(side, name, number) * self._scales(side, number)

    def _sums(self, side: str, name: str, number: int) -> Float32[np.ndarray, "rows width"]:
        """Add up what the rows of one piece have edges to."""
        starts, values = rows_between(self._shards, side, *self._pieces(side)[number])
        return _summed(starts, values, self._file(name).read())

    def _scales(self, side: str, number: int) -> Float32[np.ndarray, "rows 1"]:
        degrees = degrees_between(self._shards, side, *self._pieces(side)[number])
        power = self.config.item_power if side == "item" else self.config.context_power
        # The floor of 1 only touches nodes without edges, whose sums are zero.
        return (np.maximum(degrees, 1) ** -power).astype(np.float32)[:, None]

    def _read(self, name: str, side: str, number: int) -> Float32[np.ndarray, "rows width"]:
        return self._file(name).read()[slice(*self._pieces(side)[number])]

    def _write(
        self, name: str, side: str, number: int, rows: Float32[np.ndarray, "rows width"]
    ) -> None:
        self._file(name).write(self._pieces(side)[number][0], rows)

    def _file(self, name: str) -> RowFile:
        return RowFile(self.folder / f"{name}.npy")

    def _keep(self, name: str, array: np.ndarray) -> None:
        """Write what a step found out; it is put together before the phase is marked as done."""
        np.save(self.folder / name, array, allow_pickle=False)

    def _save(self, name: str, array: np.ndarray) -> None:
        with whole_file(self.folder / name) as path, path.open("wb") as out:
            np.save(out, array, allow_pickle=False)

    def _load(self, name: str) -> np.ndarray:
        return read_array(self.folder / name)

    @cached_property
    def _shards(self) -> list[AdjacencyShard]:
        return [
            AdjacencyShard.open(self.directory, shard, self.num_shards)
            for shard in range(self.num_shards)
        ]


def fold_in(
    context_ids: Int[np.ndarray, " contexts"], context_vectors: FeatureStore
) -> Float32[np.ndarray, " width"]:
    """Give a new or changed item the structural features that the training graph implies.

    An item of the graph, folded in with its own contexts, gets its own row, bit for bit.

    Args:
        context_ids: the contexts that the item is in, in any order; repeats count once.
        context_vectors: those of the graph, as `Graph.context_vectors` gives them.

    Returns:
        A row of unit length; all zero without contexts.

    Raises:
        ValueError: there is no such context.
    """
    distinct = np.unique(context_ids)
    vectors = context_vectors.gather(distinct)
    starts, places = np.array([0, len(distinct)]), np.arange(len(distinct))
    return exact_unit_rows(_summed(starts, places, vectors))[0]


def _summed(
    starts: Int64[np.ndarray, " rows_and_1"],
    values: Int[np.ndarray, " edges"],
    vectors: Float32[np.ndarray, "values width"],
) -> Float32[np.ndarray, "rows width"]:
    rows = np.empty((len(starts) - 1, vectors.shape[1]), np.float32)
    pool_rows(starts, values, vectors, np.ones(len(rows), np.float32), rows)
    return rows


def _tops(rows: Float32[np.ndarray, "rows width"]) -> Float32[np.ndarray, " width"]:
    """Give every column's entry of the largest magnitude, the first of equal ones."""
    if not len(rows):
        return np.zeros(rows.shape[1], np.float32)
    return rows[np.abs(rows).argmax(axis=0), np.arange(rows.shape[1])]

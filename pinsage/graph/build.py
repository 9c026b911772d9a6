"""From checked edges to the training graph: which steps run when, and what they leave behind."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
from jaxtyping import Int64
from pydantic import PositiveInt

from pinsage.base.config import Config
from pinsage.base.files import remove_folder
from pinsage.base.logs import Progress
from pinsage.graph.build_steps import Build
from pinsage.graph.cold import ColdEdges
from pinsage.graph.findings import Findings
from pinsage.graph.pieces import Piece, has_piece, open_piece, save_piece
from pinsage.graph.schema import SPLITS, SplitConfig
from pinsage.graph.sharding import Side
from pinsage.graph.split_checks import check_labels
from pinsage.graph.splits import CUTS_BEHIND_ALL, Holdout, LabeledPairs, cut_places
from pinsage.graph.tasks import Tasks
from pinsage.graph.times import in_order


class BuildConfig(Config):
    """How the adjacency is built. No result depends on it."""

    rows_per_part: PositiveInt = 2**22
    """Rows of the edges tables that are read at a time, or one row group if that has more."""
    edges_per_bucket: PositiveInt = 2**24
    """Most edges a worker sorts at a time: 40 bytes of memory each, 100 with weights and times."""
    workers: PositiveInt | None = None
    """Steps that run side by side; none means one a CPU."""
    spread: bool = False
    """Let all nodes of the Ray cluster take part. The output folder and the tables must be where
    all of them find them."""


@dataclass(frozen=True)
class TrainingGraph:
    """The training graph in pieces on disk, and the pairs that go with it."""

    build: Build
    labeled: LabeledPairs | None
    """The pairs of the pairs table; None if the edges gave them."""

    @cached_property
    def placed(self) -> list[Piece]:
        """The edges by context."""
        return [open_piece(folder) for folder in self.build.folders("placed")]

    @cached_property
    def first_contexts(self) -> list[int]:
        """For every bucket of contexts how many come before it; at the end, how many in all."""
        return np.cumsum([0, *(len(piece.arrays["used"]) for piece in self.placed)]).tolist()

    @cached_property
    def left_out(self) -> dict[str, int]:
        """Why an edge is not in the training graph, to how many."""
        counts: dict[str, int] = {}
        for piece in self.placed:
            for reason, count in piece.facts["left_out"].items():
                counts[reason] = counts.get(reason, 0) + count
        return counts

    @property
    def num_merged_edges(self) -> int:
        """Edges, each counted once, those left out included."""
        return sum(piece.facts["edges"] for piece in self.placed)

    @property
    def num_edges(self) -> int:
        """Edges of the training graph."""
        return self.num_merged_edges - sum(self.left_out.values())

    @property
    def context_keys(self) -> pa.Array:
        """Keys by context id (large_string), in ascending order of their UTF-8 bytes."""
        used = [piece.arrays["used"].copy() for piece in self.placed]
        return self.build.context_keys().take(pa.array(np.concatenate([np.zeros(0, int), *used])))

    @cached_property
    def items(self) -> Side:
        """The edges by item."""
        folders, bounds = self.build.folders("gathered"), self.build.bounds("item").tolist()
        return self._side("item", folders, bounds, self.first_contexts[-1])

    @cached_property
    def contexts(self) -> Side:
        """The edges by context."""
        folders = self.build.folders("placed")
        return self._side("context", folders, self.first_contexts, self.build.num_items)

    @cached_property
    def item_degrees(self) -> Int64[np.ndarray, " items"]:
        """In how many contexts each item is."""
        return self.items.degrees()

    def cold_edges(self) -> ColdEdges | None:
        """Give the edges of items made cold to contexts of the graph; None without such items."""
        found: dict[str, list[np.ndarray]] = {}
        for piece, first in zip(self.placed, self.first_contexts[:-1], strict=True):
            for name, array in piece.arrays.items():
                if name.startswith("cold_"):
                    moved = array + first if name == "cold_places" else array.copy()
                    found.setdefault(name, []).append(moved)
        if not found:
            return None
        edges = {name: np.concatenate(parts) for name, parts in found.items()}
        return ColdEdges(
            edges["cold_items"].astype(np.int64),
            edges["cold_places"].astype(np.int64),
            edges.get("cold_weights"),
            edges.get("cold_times"),
        )

    @property
    def newest(self) -> int:
        """The newest time of an edge, encoded; 0 without any."""
        newest = [piece.facts["newest"] for piece in self.placed]
        return max((time for time in newest if time is not None), default=0)

    def pairs(self) -> Iterator[LabeledPairs]:
        """Give the pairs, some at a time."""
        if self.labeled is not None:
            yield self.labeled
            return
        for piece in self.placed:
            # Copies: many pieces of few pairs wait together for a row group to be full.
            arrays = (piece.arrays[name].copy() for name in ("query_ids", "positive_ids", "splits"))
            yield LabeledPairs(*arrays)

    def pair_counts(self) -> dict[str, int]:
        """Split to number of pairs."""
        counts = dict.fromkeys(SPLITS, 0)
        for some in self.pairs():
            for split, count in some.counts().items():
                counts[split] += count
        return counts

    def _side(self, name: str, folders: list, firsts: list[int], num_values: int) -> Side:  # type: ignore[type-arg]
        return Side(
            name,
            folders,
            firsts,
            num_values=num_values,
            scale=self.build.scale,
            newest=self.newest,
        )


def build_training_graph(
    build: Build,
    decide: Callable[[], tuple[LabeledPairs | None, Holdout]],
    findings: Findings,
    run: Tasks,
    progress: Progress,
    *,
    edges_per_bucket: int,
) -> TrainingGraph:
    """Place the edges by context and by item, and split the pairs.

    Args:
        build: the build, its parts read.
        decide: gives the pairs of a pairs table if there is one, and what is held out; called when
            the edges' times can be looked at.
        findings: takes what is missing for training or testing.
        run: runs steps.
        progress: told how many steps there are.
        edges_per_bucket: most edges that a step sorts.

    Raises:
        DataError: no pair is left for train or test, or no edge for the graph.
    """
    if not build.is_cut:
        build.merge()
        run(build.number, range(len(build.parts)), "contexts")
        build.cut(edges_per_bucket)
    num_buckets = len(build.folders("placed"))
    progress.total += num_buckets + len(build.folders("gathered"))
    if not build.is_done("placed"):
        run(build.group, range(len(build.parts)), "groups")
    labeled, holdout = decide()
    if not build.is_done("placed"):
        run(partial(build.place, holdout=holdout), range(num_buckets), "edges by context")
    # What a step has read is in its pieces now: no more disk is taken than two copies need.
    remove_folder(build.folder / "grouped")
    graph = TrainingGraph(build, labeled)
    counts = graph.pair_counts()
    check_labels(counts, graph.num_merged_edges, graph.left_out, holdout, findings)
    findings.raise_if_any()
    if not build.is_done("gathered"):
        numbers = range(len(build.folders("gathered")))
        run(partial(build.gather, first_contexts=graph.first_contexts), numbers, "edges by item")
    remove_folder(build.folder / "handed")
    return graph


def time_cuts_of_edges(build: Build, split: SplitConfig) -> tuple[int, int]:
    """Find the encoded times at which valid and test begin; kept, since the times are not.

    All rows decide the cuts, repeated ones too: which item a future row names moves nothing.
    """
    if not split.holds_out:
        return CUTS_BEHIND_ALL
    folder = build.folder / "time_cuts"
    if not has_piece(folder):
        parts = [open_piece(part) for part in build.folders("grouped")]
        places = cut_places(sum(len(part.arrays["times"]) for part in parts), split)
        cuts = in_order(lambda: (part.arrays["times"] for part in parts), places)
        save_piece(folder, {}, {"cuts": cuts})
    valid, test = open_piece(folder).facts["cuts"]
    return valid, test

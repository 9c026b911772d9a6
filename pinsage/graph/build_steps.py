"""Building a graph's adjacency from its edges tables by external counting sorts, step by step.

No step holds more than a bucket of edges: the contexts, then the items, are cut into runs of
consecutive ids (buckets) of at most so many edges each.

    read      each part of the tables: checked rows, context keys as text
    merge     all parts together: the contexts in order of their keys
    number    each part: the ids of its contexts
    cut       all parts together: where the buckets begin
    group     each part: its rows grouped by bucket of contexts
    place     each bucket of contexts: sorted, repeats merged, labeled; grouped by bucket of items
    gather    each bucket of items: the same edges by item

Every step is a function of the build and a number, and leaves a piece behind. So steps of one kind
run side by side, in threads or on other nodes, and a build that was killed goes on where it was.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int, Int64

from pinsage.base.files import remove_folder
from pinsage.graph.edges import EdgePart, read_part
from pinsage.graph.findings import Findings, FindingsRecord
from pinsage.graph.pieces import has_piece, open_piece, save_piece
from pinsage.graph.splits import ContextRun, Holdout, RunLabels, label_run
from pinsage.graph.times import TimeScale
from pinsage.kernels.csr import MergedRows, group_edges, id_dtype, merge_repeats, sort_edges


@dataclass(frozen=True)
class Build:
    """All that a step of one build must know, beside its number."""

    folder: Path
    parts: tuple[EdgePart, ...]
    num_items: int
    drop_rows: bool
    scale: TimeScale | None
    has_weights: bool

    def read(self, number: int) -> None:
        """Read and check one part of the tables."""
        folder = self._piece("read", number)
        if has_piece(folder):
            return
        findings = Findings(drop_rows=self.drop_rows)
        rows, count = read_part(
            self.parts[number],
            self._item_keys(),
            findings,
            scale=self.scale,
            has_weights=self.has_weights,
        )
        arrays = (
            {}
            if rows is None
            else {
                "item_ids": rows.item_ids,
                "context_codes": rows.context_codes,
                "context_texts": packed_texts(rows.context_texts),
                "weights": rows.weights,
                "times": rows.times,
            }
        )
        record = findings.record().model_dump(mode="json")
        good = 0 if rows is None else len(rows.item_ids)
        save_piece(folder, arrays, {"rows": count, "good": good, "findings": record})

    def found(self, findings: Findings) -> tuple[dict[int, int], int]:
        """Take over what was found in every part.

        Returns:
            Place in `data.edges` to the number of rows that passed its `where`, and how many rows
            are good in all.
        """
        rows: dict[int, int] = {}
        good = 0
        for number, part in enumerate(self.parts):
            facts = open_piece(self._piece("read", number)).facts
            findings.take_over(FindingsRecord.model_validate(facts["findings"]))
            rows[part.position] = rows.get(part.position, 0) + facts["rows"]
            good += facts["good"]
        return rows, good

    def keep_item_keys(self, keys: pa.Array | None) -> None:
        """Put the items' keys where every worker finds them."""
        folder = self.folder / "item_keys"
        if keys is not None and not has_piece(folder):
            save_piece(folder, {"keys": packed_texts(keys)})

    def merge(self) -> None:
        """Put the keys of all contexts in order: a context's id is its place among them."""
        folder = self.folder / "context_keys"
        if not has_piece(folder):
            keys = _distinct_sorted(
                open_piece(self._piece("read", part)).arrays["context_texts"]
                for part in range(len(self.parts))
            )
            save_piece(folder, {"keys": packed_texts(keys)})

    def number(self, number: int) -> None:
        """Look up the ids of one part's contexts."""
        folder = self._piece("numbered", number)
        if not has_piece(folder):
            texts = unpacked_texts(open_piece(self._piece("read", number)).arrays["context_texts"])
            keys = self.context_keys()
            found = pc.index_in(texts, value_set=keys).to_numpy(zero_copy_only=False)
            save_piece(folder, {"ids": found.astype(id_dtype(len(keys)), copy=False)})

    def cut(self, edges_per_bucket: int) -> None:
        """Cut both sides into buckets of about the same number of rows."""
        if self.is_cut:
            return
        of_contexts = np.zeros(len(self.context_keys()), np.int64)
        of_items = np.zeros(self.num_items, np.int64)
        for part in range(len(self.parts)):
            arrays = open_piece(self._piece("read", part)).arrays
            ids = open_piece(self._piece("numbered", part)).arrays["ids"]
            # Codes are distinct contexts, so each id is added to once.
            of_contexts[ids] += np.bincount(arrays["context_codes"], minlength=len(ids))
            of_items += np.bincount(arrays["item_ids"], minlength=self.num_items)
        findings = Findings(drop_rows=self.drop_rows)
        self.found(findings)
        self.save_cuts(
            bucket_bounds(of_contexts, edges_per_bucket),
            bucket_bounds(of_items, edges_per_bucket),
            {
                "parts": len(self.parts),
                "rows": int(of_items.sum()),
                "findings": findings.record().model_dump(mode="json"),
            },
        )

    def save_cuts(
        self,
        context_bounds: Int64[np.ndarray, " context_buckets_and_1"],
        item_bounds: Int64[np.ndarray, " item_buckets_and_1"],
        facts: Mapping[str, Any],
    ) -> None:
        """Keep where buckets begin, and how many `parts` and `rows` go into them."""
        bounds = {"context_bounds": context_bounds, "item_bounds": item_bounds}
        save_piece(self._cuts, bounds, facts)

    def group(self, number: int) -> None:
        """Give one part's rows their context ids, and group them by bucket of contexts."""
        folder = self._piece("grouped", number)
        if not has_piece(folder):
            piece = open_piece(self._piece("read", number))
            ids = open_piece(self._piece("numbered", number)).arrays["ids"]
            contexts = ids[piece.arrays["context_codes"]]
            bounds = self.bounds("context")
            edges = {"context_ids": contexts, "item_ids": piece.arrays["item_ids"]}
            edges |= {name: piece.get(name) for name in ("weights", "times")}
            save_piece(folder, grouped(edges, buckets_of(contexts, bounds), len(bounds) - 1))
        for step in ("read", "numbered"):
            remove_folder(self._piece(step, number))

    def place(self, number: int, holdout: Holdout) -> None:
        """Put one bucket's edges in place by context, and hand them on by bucket of items."""
        folder = self._piece("placed", number)
        if has_piece(folder):
            return
        run = self._run(number, holdout)
        stop = run.first_context + len(run.edges.starts) - 1
        keys = self.context_keys().slice(run.first_context, stop - run.first_context)
        labels = label_run(run, holdout, keys)
        kept = labels.in_graph
        places, edges = run.contexts[kept], run.edges
        is_used = np.bincount(places, minlength=len(edges.starts) - 1) > 0
        used, contexts = np.flatnonzero(is_used), (np.cumsum(is_used) - 1)[places]
        seen = {
            "item_ids": edges.cols[kept],
            "weights": None if edges.weights is None else edges.weights[kept],
            "times": None if edges.lasts is None else edges.lasts[kept],
        }
        bounds = self.bounds("item")
        buckets = buckets_of(seen["item_ids"], bounds)
        handed = {"context_places": contexts.astype(id_dtype(len(used))), **seen}
        save_piece(self._piece("handed", number), grouped(handed, buckets, len(bounds) - 1))
        pairs: dict[str, np.ndarray | None] = {}
        if labels.pairs is not None:
            pairs = {
                "query_ids": labels.pairs.query_ids,
                "positive_ids": labels.pairs.positive_ids,
                "splits": labels.pairs.splits,
            }
        cold = _cold_edges(run, labels, is_used)
        save_piece(
            folder,
            {
                "starts": np.searchsorted(contexts, np.arange(len(used) + 1)),
                "cols": seen["item_ids"],
                "weights": seen["weights"],
                "times": seen["times"],
                "used": run.first_context + used,
                **pairs,
                **cold,
            },
            {
                "edges": len(kept),
                "left_out": labels.left_out,
                "newest": None if seen["times"] is None else _newest(seen["times"]),
            },
        )

    def gather(self, number: int, first_contexts: Sequence[int]) -> None:
        """Put one bucket of items' edges in place.

        Args:
            number: the bucket.
            first_contexts: for every bucket of contexts, how many contexts come before it, and how
                many there are in all.
        """
        folder = self._piece("gathered", number)
        if has_piece(folder):
            return
        bounds = self.bounds("item")
        slices: list[dict[str, np.ndarray]] = []
        dtype = id_dtype(first_contexts[-1])
        for bucket, first in enumerate(first_contexts[:-1]):
            arrays = dict(_slice(open_piece(self._piece("handed", bucket)).arrays, number))
            arrays["context_ids"] = arrays.pop("context_places").astype(dtype) + dtype.type(first)
            slices.append(arrays)
        edges = _joined(slices)
        # Buckets of contexts come in order, so contexts are ascending for each item already.
        rows = group_edges(
            edges["item_ids"],
            edges["context_ids"],
            edges.get("weights"),
            edges.get("times"),
            num_groups=int(bounds[number + 1] - bounds[number]),
            first_group=int(bounds[number]),
        )
        save_piece(folder, rows._asdict())

    @property
    def is_cut(self) -> bool:
        """Tell whether the tables have been read, and the buckets cut."""
        return has_piece(self._cuts)

    def kept_findings(self) -> FindingsRecord:
        """Give what was found in the tables, when they have been read by an earlier run."""
        return FindingsRecord.model_validate(open_piece(self._cuts).facts["findings"])

    def num_rows(self) -> int:
        """Count the good rows of all tables."""
        return int(open_piece(self._cuts).facts["rows"])

    def is_done(self, step: str) -> bool:
        """Tell whether every piece of a step is there."""
        return all(has_piece(folder) for folder in self.folders(step))

    def bounds(self, side: str) -> Int64[np.ndarray, " buckets_and_1"]:
        """Give the first id of every bucket of a side, and how many ids there are."""
        return open_piece(self._cuts).arrays[f"{side}_bounds"]

    def context_keys(self) -> pa.Array:
        """Give the keys of all contexts, those outside the training graph included."""
        return unpacked_texts(open_piece(self.folder / "context_keys").arrays["keys"])

    def folders(self, step: str) -> list[Path]:
        """List the pieces of `grouped`, `placed`, `handed` or `gathered`, in order."""
        counts = {
            "grouped": open_piece(self._cuts).facts["parts"],
            "placed": len(self.bounds("context")) - 1,
            "handed": len(self.bounds("context")) - 1,
            "gathered": len(self.bounds("item")) - 1,
        }
        return [self._piece(step, number) for number in range(counts[step])]

    @property
    def _cuts(self) -> Path:
        return self.folder / "cuts"

    def _piece(self, step: str, number: int) -> Path:
        return self.folder / step / f"{number:06d}"

    def _item_keys(self) -> pa.Array | None:
        folder = self.folder / "item_keys"
        return unpacked_texts(open_piece(folder).arrays["keys"]) if has_piece(folder) else None

    def _run(self, number: int, holdout: Holdout) -> ContextRun:
        """Collect a bucket's rows from all parts, sort them, and merge the repeated ones."""
        bounds = self.bounds("context")
        first, stop = int(bounds[number]), int(bounds[number + 1])
        edges = _joined([
            _slice(open_piece(folder).arrays, number) for folder in self.folders("grouped")
        ])
        rows = sort_edges(
            edges["context_ids"],
            edges["item_ids"],
            edges.get("weights"),
            edges.get("times"),
            num_rows=stop - first,
            num_cols=self.num_items,
            first_row=first,
        )
        merged: MergedRows = merge_repeats(rows, None if holdout.cuts is None else holdout.cuts[0])
        return ContextRun(first, merged)


def bucket_bounds(
    counts: Int64[np.ndarray, " ids"], most: int
) -> Int64[np.ndarray, " buckets_and_1"]:
    """Cut ids into runs of at most `most` edges; an id that has more is a run of its own.

    >>> bucket_bounds(np.array([3, 3, 3, 9, 1]), 6).tolist()
    [0, 2, 3, 4, 5]
    """
    before = np.concatenate([[0], np.cumsum(counts)])
    bounds = [0]
    while bounds[-1] < len(counts):
        fits = int(np.searchsorted(before, before[bounds[-1]] + most, side="right")) - 1
        bounds.append(max(fits, bounds[-1] + 1))
    return np.array(bounds if len(bounds) > 1 else [0, 0])


def grouped(
    edges: dict[str, np.ndarray | None], groups: Int[np.ndarray, " edges"], num_groups: int
) -> dict[str, np.ndarray | None]:
    """Sort edges by group, in the order given within each; `starts` tells where groups begin."""
    places = np.arange(len(groups), dtype=id_dtype(len(groups)))
    starts, order, _, _ = group_edges(groups, places, num_groups=num_groups)
    arrays = {name: None if array is None else array[order] for name, array in edges.items()}
    return {"starts": starts} | arrays


def packed_texts(texts: pa.Array) -> np.ndarray:
    """Turn an Arrow array into bytes (uint8) that a piece can hold."""
    sink = pa.BufferOutputStream()
    table = pa.table({"texts": texts})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


def unpacked_texts(buffer: np.ndarray) -> pa.Array:
    """Undo `packed_texts` without a copy."""
    with pa.ipc.open_stream(pa.py_buffer(buffer)) as reader:
        column = reader.read_all()["texts"].combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _distinct_sorted(parts: Iterable[np.ndarray]) -> pa.Array:
    """Put packed texts together: each distinct one once, in order of their UTF-8 bytes."""
    distinct, waiting = pa.array([], pa.large_string()), []
    for part in parts:
        # A copy, so that no part's file stays open.
        waiting.append(unpacked_texts(part.copy()))
        # Once there are as many new ones as known ones: so a text is looked at few times only.
        if sum(map(len, waiting)) >= len(distinct):
            distinct, waiting = pc.unique(pa.chunked_array([distinct, *waiting])), []
    if waiting:
        distinct = pc.unique(pa.chunked_array([distinct, *waiting]))
    return distinct.take(pc.sort_indices(distinct))


def buckets_of(ids: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Tell in which bucket each id is."""
    if len(bounds) == 2:
        return np.zeros(len(ids), np.int32)
    return np.searchsorted(bounds, ids, side="right") - 1


def _slice(arrays: Any, group: int) -> dict[str, np.ndarray]:
    """Copy a group's part of all arrays, so that no file stays open for it."""
    first, stop = arrays["starts"][group : group + 2]
    return {name: array[first:stop].copy() for name, array in arrays.items() if name != "starts"}


def _joined(slices: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(slices) == 1:
        return slices[0]
    # Each array goes from the slices as it is joined, so that no two are there twice.
    return {name: np.concatenate([one.pop(name) for one in slices]) for name in list(slices[0])}


def _cold_edges(
    run: ContextRun, labels: RunLabels, is_used: Bool[np.ndarray, " contexts"]
) -> dict[str, np.ndarray | None]:
    """Take the edges of cold items to contexts that are in the training graph."""
    if labels.of_cold is None:
        return {}
    chosen = np.flatnonzero(labels.of_cold & is_used[run.contexts])
    edges = run.edges
    return {
        "cold_items": edges.cols[chosen],
        "cold_places": (np.cumsum(is_used) - 1)[run.contexts[chosen]],
        "cold_weights": None if edges.weights is None else edges.weights[chosen],
        "cold_times": None if edges.lasts is None else edges.lasts[chosen],
    }


def _newest(times: np.ndarray) -> int | None:
    return int(times.max()) if len(times) else None

"""What the walk kernels are compared with: other ways to the same neighborhoods, and a limit.

All of them follow the walks of `pinsage.kernels.walks` in law, not draw for draw, and are free in
what the kernels are strict about: ties fall as they may, and visits to the seed itself count.
"""

import json
import mmap
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit, prange

from pinsage.graph.adjacency import BipartiteAdjacency

Rows = tuple[np.ndarray, np.ndarray]

_CHASE_BYTES = 2**30
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STRIDE = np.uint64(0x9E3779B97F4A7C15)


def naive_neighborhoods(
    graph: BipartiteAdjacency,
    seeds: np.ndarray,
    *,
    num_walks: int,
    walk_length: int,
    restart: float,
    num_neighbors: int,
) -> Rows:
    """Walk, count and choose as one would write it down, compiled: a walk at a time, plain CSR."""
    ids = np.empty((len(seeds), num_neighbors), np.int32)
    weights = np.empty((len(seeds), num_neighbors), np.float32)
    _naive(
        (graph.item_starts, graph.item_contexts, graph.context_starts, graph.context_items),
        seeds,
        num_walks,
        walk_length,
        restart,
        ids,
        weights,
    )
    return ids, weights


class TorchWalks:
    """The same with whole-tensor operations alone: a level a gather, then sorts and run lengths."""

    def __init__(self, graph: BipartiteAdjacency) -> None:
        """Take the graph over as int64 tensors."""
        self._num_items = graph.num_items
        self._item_starts = torch.from_numpy(graph.item_starts)
        self._item_contexts = torch.from_numpy(graph.item_contexts).long()
        self._context_starts = torch.from_numpy(graph.context_starts)
        self._context_items = torch.from_numpy(graph.context_items).long()

    def neighborhoods(
        self,
        seeds: np.ndarray,
        *,
        num_walks: int,
        walk_length: int,
        restart: float,
        num_neighbors: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give ids and weights, one row a seed."""
        row = torch.arange(len(seeds)).repeat_interleave(num_walks)
        item = torch.from_numpy(seeds).long().repeat_interleave(num_walks)
        visits = []
        for _ in range(walk_length):
            context = _any_of_rows(self._item_starts, self._item_contexts, item)
            item = _any_of_rows(self._context_starts, self._context_items, context)
            visits.append(row * self._num_items + item)
            goes_on = torch.rand(len(item)) >= restart
            item, row = item[goes_on], row[goes_on]
        keys, counts = torch.unique_consecutive(
            torch.sort(torch.cat(visits)).values, return_counts=True
        )
        row = keys // self._num_items
        order = torch.sort(row * 2 * num_walks * walk_length - counts).indices
        place = torch.arange(len(keys)) - torch.searchsorted(row, torch.arange(len(seeds)))[row]
        kept = place < num_neighbors
        ids = torch.full((len(seeds), num_neighbors), -1)
        weights = torch.zeros(len(seeds), num_neighbors)
        ids[row[kept], place[kept]] = (keys % self._num_items)[order][kept]
        weights[row[kept], place[kept]] = counts[order][kept].float()
        return ids, weights / weights.sum(dim=1, keepdim=True).clamp(min=1)


class Chase:
    """Chains of random reads, each of which waits for the one before: what memory can do."""

    def __init__(self, chains: int, num_bytes: int = _CHASE_BYTES) -> None:
        """Fill memory, a power of two bytes, on huge pages where the kernel has them."""
        memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
        self._cells = np.frombuffer(memory, np.uint64)
        self._cells[:] = 0
        self._chains = chains

    def read(self, num_reads: int) -> int:
        """Read about so many cells; returns how many exactly."""
        rounds = num_reads // self._chains
        _chase(self._cells, self._chains, rounds, np.empty(1, np.uint64))
        return rounds * self._chains


class DglSampler:
    """DGL's `PinSAGESampler` in an interpreter of its own, asked over a pipe."""

    def __init__(self, python: Path, graph_prefix: Path, id_bits: int) -> None:
        """Start the interpreter and load the graph there.

        Raises:
            RuntimeError: It did not come up.
        """
        worker = Path(__file__).parent / "_dgl_worker.py"
        self._process = subprocess.Popen(
            [python, "-W", "ignore", worker, graph_prefix, str(id_bits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "DGLBACKEND": "pytorch", "OMP_WAIT_POLICY": "passive"},
        )
        self.cpu_s = 0.0
        self._answer()

    def neighborhoods(self, seeds: np.ndarray, **walk: Any) -> None:
        """Have the neighborhoods made, there; `cpu_s` grows by what that took."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"seeds": seeds.tolist(), **walk}) + "\n")
        self._process.stdin.flush()
        self.cpu_s += self._answer()

    def close(self) -> None:
        """End the interpreter."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{self._process.args!r} ended without an answer; is DGL 2.1 installed there?"
            )
        return float(json.loads(line)["cpu_s"])


def _any_of_rows(starts: torch.Tensor, columns: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    first = starts[rows]
    degrees = starts[rows + 1] - first
    return columns[first + (torch.rand(len(rows), dtype=torch.float64) * degrees).long()]


@njit
def _mix(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@njit
def _next_draw(draw):  # type: ignore[no-untyped-def]
    """Xorshift: the cheapest there is."""
    draw ^= draw << np.uint64(13)
    draw ^= draw >> np.uint64(7)
    return draw ^ (draw << np.uint64(17))


@njit
def _naive(graph, seeds, num_walks, walk_length, restart, ids, weights):  # type: ignore[no-untyped-def]
    item_starts, item_contexts, context_starts, context_items = graph
    slots = 4
    while slots < 2 * num_walks * walk_length:
        slots *= 2
    keys = np.full(slots, -1, np.int32)
    counts = np.zeros(slots, np.int32)
    used = np.empty(slots, np.int64)
    num_with = np.zeros(num_walks * walk_length + 1, np.int64)
    end_below = np.int64(restart * 2**32)
    draw = _STRIDE
    for row in range(seeds.size):
        num_used = 0
        for _ in range(num_walks):
            item = np.int64(seeds[row])
            for _ in range(walk_length):
                first = item_starts[item]
                degree = item_starts[item + 1] - first
                if degree == 0:
                    break
                draw = _next_draw(draw)
                low, high = np.int64(draw & np.uint64(0xFFFFFFFF)), np.int64(draw >> np.uint64(32))
                context = np.int64(item_contexts[first + (low * degree >> 32)])
                first = context_starts[context]
                size = context_starts[context + 1] - first
                item = np.int64(context_items[first + (high * size >> 32)])
                slot = item * 2654435769 & (slots - 1)
                while keys[slot] != -1 and keys[slot] != item:
                    slot = (slot + 1) & (slots - 1)
                if keys[slot] == -1:
                    keys[slot] = item
                    used[num_used] = slot
                    num_used += 1
                counts[slot] += 1
                draw = _next_draw(draw)
                if np.int64(draw >> np.uint64(32)) < end_below:
                    break
        _choose(keys, counts, used[:num_used], num_with, ids[row], weights[row])


@njit
def _choose(keys, counts, used, num_with, ids, weights):  # type: ignore[no-untyped-def]
    """Sort by count by counting, most first; clears keys, counts and `num_with`."""
    most = 0
    for slot in used:
        num_with[counts[slot]] += 1
        most = max(most, counts[slot])
    rank = 0
    for count in range(most, 0, -1):
        rank, num_with[count] = rank + num_with[count], rank
    total = 0
    ids[:] = -1
    weights[:] = 0
    for slot in used:
        rank = num_with[counts[slot]]
        num_with[counts[slot]] += 1
        if rank < ids.size:
            ids[rank] = keys[slot]
            weights[rank] = counts[slot]
            total += counts[slot]
        keys[slot] = -1
        counts[slot] = 0
    num_with[: most + 1] = 0
    scale = np.float32(1.0) / np.float32(max(total, 1))
    for place in range(weights.size):
        weights[place] *= scale


@njit(parallel=True)
def _chase(cells, chains, rounds, sums):  # type: ignore[no-untyped-def]
    mask = np.uint64(cells.size - 1)
    # As a thread's work, though there is one: only so does the compiler see that `at` is not among
    # the cells, and follow eight chains with one instruction. That is twice as fast.
    for thread in prange(sums.size):
        at = np.empty(chains, np.uint64)
        for chain in range(chains):
            at[chain] = np.uint64(chain + 1) * _STRIDE
        for _ in range(rounds):
            for chain in range(chains):
                # Cells are 0, which only the reader knows: the next address hangs on this value.
                x = at[chain]
                at[chain] = _mix(x + _STRIDE + cells[np.int64(x & mask)])
        sums[thread] = at.sum()

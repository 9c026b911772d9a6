"""The paper's own retrieval: hashed signatures as terms, Weak AND, exact re-rank (section 3.5).

A band of random hyperplanes gives each vector a code: on which side of each plane it lies. The
codes of all bands are a vector's terms, in an inverted index. A query's terms count the more, the
fewer items carry them; Weak AND gathers the items with the largest sums, and their whole vectors
decide. Vectors are taken relative to their mean: all in one corner would share most codes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, Integer, UInt32
from pydantic import Field, PositiveInt

from pinsage.base.arrays import map_array
from pinsage.base.artifacts import Draft
from pinsage.base.config import Config
from pinsage.base.seeding import Stream, stream
from pinsage.kernels.postings import PostingLists, pack_postings
from pinsage.kernels.weak_and import weak_and
from pinsage.retrieval.exact import ExactIndex, rescored
from pinsage.retrieval.strategy import TUNED_FOR, Found, StrategyCounts, search_kept

_MAX_CANDIDATES = 1 << 14
_ROWS = 1 << 16
_WEIGHT_STEPS = 16


class LshConfig(Config):
    """Signatures of random hyperplanes."""

    bands: PositiveInt = 64
    """Codes a vector has, each a term; more find more, and take more space and time."""
    bits: PositiveInt = Field(10, le=24)
    """Hyperplanes a band; more make terms rarer, so searches quicker and recall lower."""
    candidates: PositiveInt = 500
    """Items that Weak AND gathers for comparison with their whole vectors, to begin with."""


@dataclass(frozen=True)
class LshIndex:
    """An inverted index of signatures, and how many candidates it gathers.

    Attributes:
        vectors: what it was built from; may be memory-mapped.
        mean: of the vectors.
        planes: normals of the hyperplanes, band after band.
        bits: planes a band.
        lists: items by term.
        candidates: items compared with their whole vectors.
        counts: which strategies answered.
    """

    vectors: Float32[np.ndarray, "items width"]
    mean: Float32[np.ndarray, " width"]
    planes: Float32[np.ndarray, "width planes"]
    bits: int
    lists: PostingLists
    candidates: int
    counts: StrategyCounts = field(default_factory=StrategyCounts)

    @staticmethod
    def build(
        vectors: Float32[np.ndarray, "items width"], config: LshConfig, *, seed: int
    ) -> "LshIndex":
        """Draw the planes and invert the signatures, one band at a time."""
        width = vectors.shape[1]
        draw = stream(seed, Stream.HYPERPLANES)
        planes = draw.standard_normal((width, config.bands * config.bits), np.float32)
        mean = np.asarray(vectors).mean(axis=0, dtype=np.float64).astype(np.float32)
        codes = _codes_by_band(vectors, mean, planes, config.bits)
        lists = pack_postings(codes, 1 << config.bits)
        return LshIndex(vectors, mean, planes, config.bits, lists, config.candidates)

    @staticmethod
    def load(
        directory: Path, about: dict[str, Any], vectors: Float32[np.ndarray, "items width"]
    ) -> "LshIndex":
        """Map what `save` wrote into memory; the caller has checked its digest."""

        # Private and never written: compiled code has one form for it and for what was just built.
        def read(name: str) -> np.ndarray:
            return map_array(directory / f"{name}.npy", changeable=True)

        lists = PostingLists(*(read(part.name) for part in fields(PostingLists)))
        mean, planes = read("mean"), read("planes")
        return LshIndex(vectors, mean, planes, about["bits"], lists, about["candidates"])

    def about(self) -> dict[str, Any]:
        """Say what `load` must know, and what a posting takes."""
        return {
            "kind": "lsh",
            "bits": self.bits,
            "bands": self.planes.shape[1] // self.bits,
            "candidates": self.candidates,
            "bytes_per_posting": round(self.lists.bytes_per_posting, 3),
        }

    def save(self, draft: Draft) -> None:
        """Write planes and lists."""
        draft.write_array("mean.npy", self.mean)
        draft.write_array("planes.npy", self.planes)
        for part in fields(PostingLists):
            draft.write_array(f"{part.name}.npy", getattr(self.lists, part.name))

    def search(
        self,
        queries: Float32[np.ndarray, "queries width"],
        k: int,
        exclude: Sequence[Integer[np.ndarray, " _"]] | None = None,
        allowed: Bool[np.ndarray, " items"] | None = None,
    ) -> tuple[Int32[np.ndarray, "queries k"], Float32[np.ndarray, "queries k"]]:
        """See `Index.search`, and `strategy.py` for filters and exclusions."""

        def wide(some: Float32[np.ndarray, "queries width"], wanted: int) -> Found:
            terms, weights = self._terms_of(some)
            asked = max(self.candidates, self.candidates * wanted // TUNED_FOR)
            asked = min(asked, max(_MAX_CANDIDATES, 4 * wanted), len(self.vectors))
            ids, _ = weak_and(self.lists, terms, weights, asked)
            return rescored(self.vectors, some, ids, min(wanted, asked))

        return search_kept(
            wide,
            ExactIndex(self.vectors).search,
            queries,
            k,
            exclude,
            allowed,
            num_items=len(self.vectors),
            counts=self.counts,
        )

    def widened(self) -> "LshIndex | None":
        """Give the same lists with twice the candidates; None where there is nothing to raise."""
        most = min(_MAX_CANDIDATES, len(self.vectors))
        if self.candidates >= most:
            return None
        return replace(self, candidates=min(2 * self.candidates, most), counts=StrategyCounts())

    def _terms_of(
        self, queries: Float32[np.ndarray, "queries width"]
    ) -> tuple[Int64[np.ndarray, "queries bands"], Int32[np.ndarray, "queries bands"]]:
        """Give each query's terms, and what they weigh: how many bits their rarity tells."""
        codes = _codes(queries, self.mean, self.planes, self.bits)
        terms = codes + (np.arange(codes.shape[1], dtype=np.int64) << self.bits)
        carriers = np.maximum(self.lists.starts[terms + 1] - self.lists.starts[terms], 1)
        told = np.log2(len(self.vectors) / carriers)
        return terms, np.maximum(np.rint(_WEIGHT_STEPS * told), 1).astype(np.int32)


def _codes(
    vectors: Float32[np.ndarray, "some width"],
    mean: Float32[np.ndarray, " width"],
    planes: Float32[np.ndarray, "width planes"],
    bits: int,
) -> Int64[np.ndarray, "some bands"]:
    """Tell in which corner of each band's planes some vectors lie."""
    above = (vectors - mean) @ planes > 0
    above = above.reshape(len(vectors), planes.shape[1] // bits, bits)
    return above @ (1 << np.arange(bits, dtype=np.int64))


def _codes_by_band(
    vectors: Float32[np.ndarray, "items width"],
    mean: Float32[np.ndarray, " width"],
    planes: Float32[np.ndarray, "width planes"],
    bits: int,
) -> Iterator[UInt32[np.ndarray, " items"]]:
    """Give all items' codes in one band after the other; reads the vectors once a band."""
    for first in range(0, planes.shape[1], bits):
        codes = np.empty(len(vectors), np.uint32)
        own = np.ascontiguousarray(planes[:, first : first + bits])
        for start in range(0, len(vectors), _ROWS):
            part = slice(start, start + _ROWS)
            codes[part] = _codes(vectors[part], mean, own, bits)[:, 0]
        yield codes

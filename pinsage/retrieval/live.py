"""Items that came, changed or went since the index was built.

A small exact index of fresh vectors stands beside the main one, and what was deleted or replaced is
hidden from the main one's answers.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, Integer

from pinsage.base.artifacts import Draft
from pinsage.retrieval.exact import ExactIndex, search_few
from pinsage.retrieval.index import Index
from pinsage.retrieval.strategy import Found, StrategyCounts, merge_found


@dataclass(frozen=True)
class _Snapshot:
    """What one search sees; never changed, only replaced.

    Attributes:
        size: ids given so far, those of deleted items among them.
        fresh_ids: ids of new and replaced items, ascending.
        fresh_vectors: their vectors.
        kept: which items the main index may still answer; None while that is all of them.
    """

    size: int
    fresh_ids: Int64[np.ndarray, " fresh"]
    fresh_vectors: Float32[np.ndarray, "fresh width"]
    kept: Bool[np.ndarray, " items"] | None


class LiveIndex:
    """An index that takes in and forgets single items at once.

    Searches and changes may run in many threads: a change makes a new snapshot and puts it in the
    old one's place, and a search takes one reference at its start and holds no lock. One change
    copies the fresh vectors and one byte an item: meant for thousands of fresh items, not millions.
    """

    def __init__(self, index: Index) -> None:
        """Stand beside a built index, which is never changed."""
        self._index = index
        self._lock = threading.Lock()
        self.counts = StrategyCounts()
        empty = np.empty(0, np.int64)
        vectors = np.empty((0, index.vectors.shape[1]), np.float32)
        self._now = _Snapshot(len(index.vectors), empty, vectors, None)

    def forked(self) -> "LiveIndex":
        """Give another one over the same main index: what changes in one doesn't in the other."""
        other = LiveIndex(self._index)
        other.counts = self.counts
        other._now = self._now
        return other

    @property
    def vectors(self) -> Float32[np.ndarray, "items width"]:
        """The main index's vectors, as they were built; `vectors_of` knows the fresh ones."""
        return self._index.vectors

    @property
    def size(self) -> int:
        """The next new id: how many ids were given so far."""
        return self._now.size

    @property
    def num_fresh(self) -> int:
        """How many vectors are searched beside the main index."""
        return len(self._now.fresh_ids)

    @property
    def fresh_bytes(self) -> int:
        """What those vectors take: every search reads all of them."""
        return self._now.fresh_vectors.nbytes

    def has(self, item_id: int) -> bool:
        """Tell whether an item is there: its id was given, and it isn't deleted."""
        return bool(_there(self._now, np.array([item_id]), len(self._index.vectors))[0])

    def upsert(
        self,
        item_ids: Integer[np.ndarray, " changed"],
        vectors: Float32[np.ndarray, "changed width"],
    ) -> None:
        """Take in new vectors, of new items or in place of known ones; at once or not at all.

        Args:
            item_ids: known ids, or new ones: `size`, `size + 1` and so on. Of an id given twice,
                the last vector counts.
            vectors: one row an id. A deleted item is there again.

        Raises:
            ValueError: shapes that don't fit, a number that isn't finite, or a new id out of turn.
        """
        ids = np.asarray(item_ids, dtype=np.int64)
        rows = np.asarray(vectors, dtype=np.float32)
        width = self._index.vectors.shape[1]
        if rows.shape != (len(ids), width):
            raise ValueError(
                f"upsert wants one vector of width {width} for each of {len(ids)} ids; found shape "
                f"{rows.shape}"
            )
        if not np.isfinite(rows).all():
            raise ValueError("upsert wants finite vectors; found NaN or infinity")
        with self._lock:
            now = self._now
            unique, last = np.unique(ids[::-1], return_index=True)
            new = unique[unique >= now.size]
            if (unique < 0).any() or not np.array_equal(new, now.size + np.arange(len(new))):
                raise ValueError(
                    f"new items get the ids {now.size}, {now.size + 1} and so on; found "
                    f"{unique[(unique < 0) | (unique >= now.size)][:5].tolist()}"
                )
            stays = ~np.isin(now.fresh_ids, unique)
            all_ids = np.concatenate([now.fresh_ids[stays], unique])
            all_rows = np.concatenate([now.fresh_vectors[stays], rows[::-1][last]])
            order = np.argsort(all_ids)
            self._now = _Snapshot(
                now.size + len(new),
                all_ids[order],
                all_rows[order],
                self._hidden(now, unique),
            )

    def delete(self, item_ids: Integer[np.ndarray, " deleted"]) -> None:
        """Forget items; their ids are not given again. What is deleted already stays so.

        Raises:
            ValueError: an id that was never given.
        """
        ids = np.unique(np.asarray(item_ids, dtype=np.int64))
        with self._lock:
            now = self._now
            unknown = ids[(ids < 0) | (ids >= now.size)]
            if len(unknown):
                raise ValueError(
                    f"items to delete have ids below {now.size}; found {unknown[:5].tolist()}"
                )
            stays = ~np.isin(now.fresh_ids, ids)
            self._now = _Snapshot(
                now.size,
                now.fresh_ids[stays],
                now.fresh_vectors[stays],
                self._hidden(now, ids),
            )

    def search(
        self,
        queries: Float32[np.ndarray, "queries width"],
        k: int,
        exclude: Sequence[Integer[np.ndarray, " _"]] | None = None,
        allowed: Bool[np.ndarray, " ids"] | None = None,
    ) -> tuple[Int32[np.ndarray, "queries k"], Float32[np.ndarray, "queries k"]]:
        """See `Index.search`; the same as one index of all that is there now.

        A filter may have been made before or after this very moment: ids behind its end are not
        allowed, ids behind the newest item mean nothing.

        Raises:
            ValueError: a filter that does not cover the main index.
        """
        now = self._now
        known = len(self._index.vectors)
        if allowed is not None and len(allowed) < known:
            raise ValueError(
                f"allowed must cover the {known} items of the main index; found {len(allowed)}"
            )
        found = self._search_main(now, queries, k, exclude, allowed)
        fresh = now.fresh_ids
        if allowed is not None and len(fresh):
            fresh = fresh[fresh < len(allowed)]
            fresh = fresh[allowed[fresh]]
        if not len(fresh):
            return found
        self.counts.add("fresh", len(queries))
        banned = None
        if exclude is not None:
            banned = [_places(now.fresh_ids, one) for one in exclude]
        if len(fresh) == len(now.fresh_ids):
            # Nothing to gather, which would cost more than the products.
            found_places, scores = ExactIndex(now.fresh_vectors).search(queries, k, banned)
        else:
            places = np.searchsorted(now.fresh_ids, fresh)
            found_places, scores = search_few(now.fresh_vectors, places, queries, k, banned)
        ids = np.where(found_places >= 0, now.fresh_ids[found_places], -1).astype(np.int32)
        return merge_found(found, (ids, scores), k)

    def vectors_of(
        self, item_ids: Integer[np.ndarray, " wanted"]
    ) -> Float32[np.ndarray, "wanted width"]:
        """Give the newest vectors of some items.

        Raises:
            ValueError: an id that was never given, or whose item is deleted.
        """
        now = self._now
        ids = np.asarray(item_ids, dtype=np.int64)
        missing = ids[~_there(now, ids, len(self._index.vectors))]
        if len(missing):
            raise ValueError(f"no vectors of the items {missing[:5].tolist()}: deleted or unknown")
        out = np.empty((len(ids), now.fresh_vectors.shape[1]), np.float32)
        fresh = np.isin(ids, now.fresh_ids)
        out[~fresh] = self._index.vectors[ids[~fresh]]
        out[fresh] = now.fresh_vectors[np.searchsorted(now.fresh_ids, ids[fresh])]
        return out

    def save(self, draft: Draft) -> None:
        """Write the main index; fresh items belong to the log they came from."""
        self._index.save(draft)

    def _search_main(
        self,
        now: _Snapshot,
        queries: Float32[np.ndarray, "queries width"],
        k: int,
        exclude: Sequence[Integer[np.ndarray, " _"]] | None,
        allowed: Bool[np.ndarray, " ids"] | None,
    ) -> Found:
        known = len(self._index.vectors)
        kept = now.kept
        if allowed is not None:
            kept = allowed[:known] if kept is None else kept & allowed[:known]
        if exclude is not None and now.size > known:
            exclude = [banned[banned < known] for banned in exclude]
        return self._index.search(queries, k, exclude, kept)

    def _hidden(
        self, now: _Snapshot, item_ids: Int64[np.ndarray, " changed"]
    ) -> Bool[np.ndarray, " items"] | None:
        """Hide more items from the main index's answers."""
        known = len(self._index.vectors)
        of_main = item_ids[item_ids < known]
        if not len(of_main):
            return now.kept
        kept = np.ones(known, bool) if now.kept is None else now.kept.copy()
        kept[of_main] = False
        return kept


def _there(
    now: _Snapshot, item_ids: Int64[np.ndarray, " wanted"], known: int
) -> Bool[np.ndarray, " wanted"]:
    """Tell which ids are of items that are there: fresh ones, and what isn't hidden of others."""
    there: Bool[np.ndarray, " wanted"] = np.isin(item_ids, now.fresh_ids)
    of_main = (item_ids >= 0) & (item_ids < known)
    if now.kept is None:
        return there | of_main
    there[of_main] |= now.kept[item_ids[of_main]]
    return there


def _places(
    fresh_ids: Int64[np.ndarray, " fresh"], banned: Integer[np.ndarray, " _"]
) -> Int64[np.ndarray, " found"]:
    """Turn ids into places among the fresh ones, leaving out what isn't there."""
    places = np.minimum(np.searchsorted(fresh_ids, banned), len(fresh_ids) - 1)
    return places[fresh_ids[places] == banned]

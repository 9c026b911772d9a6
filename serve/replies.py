"""Answers as JSON bytes: what is known of an item is written once, not in every answer.

A model of every related item, checked and dumped anew for every request, took several times as long
as finding them. The schemas in `serve/schemas.py` describe what is written here; tests hold the two
together.
"""

from collections.abc import Callable, Sequence

import numpy as np
import orjson
from jaxtyping import Float32

from serve.schemas import Item

_MOST_BYTES = 256 * 2**20


class ItemTexts:
    """The JSON of every item, written when it is first asked for.

    Replaces nothing while it is read: a text is whole or absent, so threads may share this.
    """

    def __init__(self, describe: Callable[[int], Item], *, most_bytes: int = _MOST_BYTES) -> None:
        """Start with no text.

        Args:
            describe: gives an item by its id.
            most_bytes: texts are kept up to this size all together, and written anew beyond.
        """
        self._describe = describe
        self._left_bytes = most_bytes
        self._texts: dict[int, bytes] = {}

    def text(self, item_id: int) -> bytes:
        """Give an item's JSON object."""
        known = self._texts.get(item_id)
        if known is not None:
            return known
        text = orjson.dumps(self._describe(item_id).model_dump())
        if len(text) <= self._left_bytes:
            self._left_bytes -= len(text)
            self._texts[item_id] = text
        return text


def scored_text(texts: Sequence[bytes], scores: Sequence[float]) -> bytes:
    """Write a JSON list of `ScoredItem` from the items' JSON objects and their scores."""
    if not texts:
        return b"[]"
    numbers = score_texts(np.asarray(scores, np.float32))
    parts = [
        b'%b,"score":%b}' % (text[:-1], number) for text, number in zip(texts, numbers, strict=True)
    ]
    return b"[%b]" % b",".join(parts)


def score_texts(scores: Float32[np.ndarray, " items"]) -> list[bytes]:
    """Write scores in as few digits as tell 32-bit numbers apart.

    >>> score_texts(np.array([0.87, 1], np.float32))
    [b'0.87', b'1.0']
    """
    return orjson.dumps(scores, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


def similar_text(query: bytes, method: str, items: bytes) -> bytes:
    """Write a `SimilarReply` from its parts' JSON."""
    return b'{"query":%b,"method":%b,"items":%b}' % (query, orjson.dumps(method), items)

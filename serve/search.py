"""Title search for a person who is still typing."""

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int, Int64

from pinsage.graph.schema import ITEM_KEY
from serve.live_items import LiveItem

_LONGEST_SEARCHED = 200
"""Longer texts, such as descriptions, aren't what an item is looked up by."""

_LOOKED_AT = 250
"""Matches, most popular first, that are ordered by how well they match."""

_SHORTEST_CORRECTED, _LONGEST_CORRECTED = 3, 30
"""Shorter and longer words are taken as typed: all that is one slip away from a word grows with the
square of its length."""

_NONE: Int64[np.ndarray, " none"] = np.empty(0, np.int64)
_LAST = "\U0010ffff"
_ARTICLES = ("the ", "a ", "an ")
_UNDECOMPOSED = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "\u0131": "i", "ð": "d", "þ": "th",
     "'": None, "\u2019": None}
)  # fmt: skip
_CJK = re.compile("([\u3040-\u30ff\u3400-\u9fff])")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def normalize(text: str) -> str:
    """Reduce a text to lower-case words without accents, separated by single spaces.

    >>> normalize("  Les Misérables: Vol. 1 ")
    'les miserables vol 1'
    >>> normalize("The Hitchhiker's Guide")
    'the hitchhikers guide'
    >>> normalize("Tea\U0001f375 for two")
    'tea \U0001f375 for two'
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
        text = "".join(char for char in text if not unicodedata.combining(char))
        text = _CJK.sub(r" \1 ", text)
    text = text.casefold().translate(_UNDECOMPOSED)
    if not text.isascii():
        return " ".join("".join(map(_kept, text)).split())
    return " ".join(re.split("[^a-z0-9]+", text)).strip()


def _kept(char: str) -> str:
    """Keep what words are made of; a symbol, such as an emoji, is a word."""
    category = unicodedata.category(char)
    # Vowel signs of some scripts are marks, not letters, yet inside words.
    if char.isalnum() or category[0] == "M":
        return char
    return f" {char} " if category == "So" else " "


class TitleSearch:
    """Finds items by words, or beginnings of words, of their titles.

    Items are kept in order of popularity, so that the first matches met are the best known ones.
    """

    def __init__(
        self, titles: Sequence[str], more: Sequence[str], degrees: Int[np.ndarray, " items"]
    ) -> None:
        """Index a catalog.

        Args:
            titles: title of every item, in id order.
            more: further words an item is found by, such as its authors; may be empty strings.
            degrees: how popular every item is.
        """
        self._order: Int64[np.ndarray, " items"] = np.argsort(-np.asarray(degrees), kind="stable")
        self._rank_of = np.empty_like(self._order)
        self._rank_of[self._order] = np.arange(len(self._order))
        self._popularity = np.log1p(np.asarray(degrees, dtype=np.float64)[self._order])
        self._titles = [normalize(titles[item_id]) for item_id in self._order]
        self._more = [normalize(more[item_id]) for item_id in self._order]
        self._words, self._starts, self._ranks = _postings(self._titles, self._more)
        self._sorted_titles, self._title_ranks = _sorted_titles(self._titles)

    def search(self, text: str, limit: int) -> list[int]:
        """Give the ids of at most `limit` matching items, best first.

        Every word of the text must begin a word of the item. What the title begins with counts
        most, then whole words, together with popularity. A longer word that begins no item's word
        is taken as a slip of one letter; then popularity alone orders the matches.
        """
        return [item_id for _, item_id in self.scored(text)[: max(limit, 0)]]

    def scored(
        self, text: str, hidden: Int64[np.ndarray, " hidden"] = _NONE
    ) -> list[tuple[float, int]]:
        """Give the scores and ids of all matching items that are looked at, best first.

        Args:
            text: what was typed.
            hidden: ids of items that aren't looked at.
        """
        typed = normalize(text)
        if not typed:
            return []
        words = tuple(typed.split())
        passed = self._rank_of[hidden]
        matches, as_typed = self._by_words(words, passed)
        if not as_typed:
            return [(float(self._popularity[rank]), int(self._order[rank])) for rank in matches]
        candidates = np.union1d(matches, self._by_beginning(typed, passed))
        found = [(self._score(int(rank), typed, words), -int(rank)) for rank in candidates]
        found.sort(reverse=True)
        return [(score, int(self._order[-rank])) for score, rank in found]

    def _by_words(
        self, words: tuple[str, ...], passed: Int64[np.ndarray, " passed"]
    ) -> tuple[Int64[np.ndarray, " found"], bool]:
        """The most popular items that have a word for each one typed, and whether as it was typed.

        A word that begins no item's word may be one slip away from one that does.
        """
        left = np.ones(len(self._titles), dtype=bool)
        left[passed] = False
        as_typed = True
        for word in set(words):
            ranges = [self._begins_with(word)]
            is_known = ranges[0][0] < ranges[0][1]
            if not is_known and _SHORTEST_CORRECTED <= len(word) <= _LONGEST_CORRECTED:
                as_typed = False
                ranges = [self._corrected(other, word) for other in _one_slip_away(word)]
            has = np.zeros(len(self._titles), dtype=bool)
            for first, last in ranges:
                has[self._ranks[self._starts[first] : self._starts[last]]] = True
            left &= has
        return np.flatnonzero(left)[:_LOOKED_AT], as_typed

    def _begins_with(self, text: str) -> tuple[int, int]:
        """Where the words that begin so stand."""
        return bisect_left(self._words, text), bisect_left(self._words, text + _LAST)

    def _corrected(self, other: str, typed: str) -> tuple[int, int]:
        """Where the words stand that `typed` may have meant by `other`."""
        first, last = self._begins_with(other)
        # What is shorter than typed begins too many words to be meant as a beginning.
        if len(other) < len(typed):
            last = first + (first < last and self._words[first] == other)
        return first, last

    def _by_beginning(
        self, text: str, passed: Int64[np.ndarray, " passed"]
    ) -> Int64[np.ndarray, " found"]:
        """The most popular items whose title begins so."""
        first = bisect_left(self._sorted_titles, text)
        last = bisect_left(self._sorted_titles, text + _LAST)
        found = self._title_ranks[first:last]
        if len(passed):
            found = found[~np.isin(found, passed)]
        return np.sort(found)[:_LOOKED_AT]

    def _score(self, rank: int, text: str, words: tuple[str, ...]) -> float:
        """Popularity, on a scale where doubling it adds 0.7, plus how well the title matches."""
        return float(self._popularity[rank]) + _bonus(self._titles[rank], text, words)


class Searched:
    """One item beside a `TitleSearch`: found by the same rules, but for slips of a letter."""

    def __init__(self, title: str, more: str, degree: int) -> None:
        """Take in its words; see `TitleSearch`."""
        self._title = normalize(title)
        self._all_words = sorted({*self._title.split(), *normalize(more).split()})
        self._popularity = float(np.log1p(degree))

    def score(self, text: str) -> float | None:
        """Say how well a text finds the item, on `TitleSearch`'s scale; None if it doesn't."""
        typed = normalize(text)
        words = tuple(typed.split())
        if not words:
            return None
        begins = (self._title, _without_article(self._title))
        if not (
            any(title.startswith(typed) for title in begins)
            or all(any(own.startswith(word) for own in self._all_words) for word in words)
        ):
            return None
        return self._popularity + _bonus(self._title, typed, words)


def search_written(
    live: Mapping[int, LiveItem], further: Sequence[str], text: str
) -> list[tuple[float, int]]:
    """Give the scores and ids of written items that a text finds.

    Args:
        live: the items by id; each is looked at, which is meant for thousands.
        further: columns that items are looked up by besides the title.
        text: what was typed.
    """
    found = []
    for item_id, written in live.items():
        more = further_words(written.values.get(name) for name in further)
        score = Searched(written.item.title, more, written.num_contexts).score(text)
        if score is not None:
            found.append((score, item_id))
    return found


def further_columns(table: pa.Table) -> list[str]:
    """Name the columns that items are looked up by besides the title, such as their authors.

    Those of texts with many values: a column of few values, such as a language, tells items apart
    too badly.
    """
    found = []
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if name != ITEM_KEY and is_text and pc.count_distinct(column).as_py() >= len(column) / 20:
            found.append(name)
    return found


def further_words(texts: Iterable[object]) -> str:
    """Join what an item is looked up by: its short texts that are no addresses."""
    kept = (text for text in texts if isinstance(text, str) and "://" not in text)
    return " ".join(text for text in kept if len(text) <= _LONGEST_SEARCHED)


def _bonus(title: str, text: str, words: tuple[str, ...]) -> float:
    """How well a title matches what was typed."""
    bare = _without_article(title)
    if text in {title, bare}:
        return 6.0
    if title.startswith(text) or bare.startswith(text):
        return 3.0
    title_words = title.split()
    if not all(any(word.startswith(typed) for word in title_words) for typed in words):
        return 0.0
    bonus = 1.0
    if all(typed in title_words for typed in words[:-1]):
        bonus += 0.5
    if f" {text}" in title:
        bonus += 0.5
    if words[-1] in title_words:
        bonus += 0.5
    return bonus


def _postings(
    titles: Sequence[str], more: Sequence[str]
) -> tuple[list[str], Int64[np.ndarray, " words_and_one"], Int64[np.ndarray, " uses"]]:
    """Sorted words, where each one's items start, and the items' ranks, ascending by word."""
    numbers: dict[str, int] = {}
    uses_word, uses_rank = array("q"), array("q")
    for rank, (title, further) in enumerate(zip(titles, more, strict=True)):
        for word in {*title.split(), *further.split()}:
            uses_word.append(numbers.setdefault(word, len(numbers)))
            uses_rank.append(rank)
    words = sorted(numbers)
    places = np.empty(len(words), dtype=np.int64)
    places[[numbers[word] for word in words]] = np.arange(len(words))
    by_place = places[np.frombuffer(uses_word, dtype=np.int64)]
    ranks = np.frombuffer(uses_rank, dtype=np.int64)[np.argsort(by_place, kind="stable")]
    starts = np.zeros(len(words) + 1, dtype=np.int64)
    np.cumsum(np.bincount(by_place, minlength=len(words)), out=starts[1:])
    return words, starts, ranks


def _sorted_titles(titles: Sequence[str]) -> tuple[list[str], Int64[np.ndarray, " titles"]]:
    """All titles in order, those with an article a second time without it, and their ranks."""
    pairs = [(title, rank) for rank, title in enumerate(titles)]
    pairs += [(bare, rank) for rank, t in enumerate(titles) if (bare := _without_article(t)) != t]
    pairs.sort()
    return [title for title, _ in pairs], np.array([rank for _, rank in pairs], dtype=np.int64)


def _without_article(title: str) -> str:
    for article in _ARTICLES:
        if title.startswith(article):
            return title[len(article) :]
    return title


def _one_slip_away(word: str) -> set[str]:
    """Every text one letter left out, added, changed or swapped away (Norvig's corrector)."""
    splits = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    left_out = {head + tail[1:] for head, tail in splits if tail}
    swapped = {head + tail[1] + tail[0] + tail[2:] for head, tail in splits if len(tail) > 1}
    changed = {head + char + tail[1:] for head, tail in splits if tail for char in _LETTERS}
    added = {head + char + tail for head, tail in splits for char in _LETTERS}
    return left_out | swapped | changed | added

"""How methods, metrics and numbers are written, in one form everywhere."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

OURS = "pinsage"
"""The method that all others are compared with."""

_CLEAR = 0.05
"""Largest p value at which a difference is called clear."""

_MANY = 0.1
"""Share of the pairs from which on it is said that so many have an item without an edge, or are
train pairs too."""

_ENOUGH_CONTEXTS = 100
"""Held-out contexts from which on it is not said how few they are."""

_METHODS = {
    "pinsage": "PinSage",
    "popularity": "Popularity",
    "text": "Text cosine",
    "visual": "Visual cosine",
    "item_cosine": "Item-item cosine",
    "transitions": "First-order transitions",
    "walk": "Random walks (Pixie)",
    "als": "ALS",
    "bpr": "BPR",
    "combined": "Combined",
}


def method_label(name: str) -> str:
    """Write a method's name for readers.

    >>> method_label("item_cosine"), method_label("my_model"), method_label("CLIP_text")
    ('Item-item cosine', 'My model', 'CLIP text')
    """
    words = name.replace("_", " ")
    return _METHODS.get(name) or words[:1].upper() + words[1:]


def metric_label(name: str) -> str:
    """Write a metric's name for readers.

    >>> metric_label("hit_rate@10"), metric_label("scaled_mrr")
    ('hit-rate@10', 'scaled MRR')
    """
    if name.startswith("hit_rate@"):
        return name.replace("_", "-")
    if name.startswith("ndcg@"):
        return name.upper()
    return {"scaled_mrr": "scaled MRR", "mrr": "MRR"}.get(name, name.replace("_", " "))


_MEANINGS = {
    "hit_rate": "share of held-out pairs whose positive is among the first {k} for its query",
    "recall": "share of a query's positives among its first {k}, mean over queries",
    "ndcg": "as recall, higher places count more, the best order gives 1",
    "scaled_mrr": "mean of 1 / ceil(rank / scale) over held-out pairs (Equation 2 of the paper)",
    "mrr": "mean of 1 / rank over held-out pairs",
    "coverage": "share of the catalog that is in anybody's first {k}",
    "largest_share": "share of all lists of {k} that the most recommended item is in",
    "gini": "how unevenly recommendations fall on items: 0 all alike, 1 all on one",
    "diversity": "1 less the mean cosine, by content, of the items in one list of {k}",
    "mean_popularity": "contexts that a recommended item is in, mean over the first {k}",
}


def metric_meaning(name: str) -> str:
    """Say what a metric measures; an unknown one says nothing.

    >>> metric_meaning("coverage@10")
    "share of the catalog that is in anybody's first 10"
    """
    base, _, k = name.partition("@")
    return _MEANINGS.get(base, "").format(k=k or "k")


def counted(count: int, one: str, many: str = "") -> str:
    """Write a number with what it counts; `many` is `one` and an s unless given.

    >>> counted(1, "pair"), counted(2_000, "pair"), counted(0, "query", "queries")
    ('1 pair', '2,000 pairs', '0 queries')
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def p_label(p: float) -> str:
    """Write a p value.

    >>> p_label(0.0312), p_label(0.0005)
    ('p = .031', 'p < .001')
    """
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def group_name(protocol: Mapping[str, Any]) -> str:
    """Name what intervals and p values are over: what shares its fate."""
    return "queries" if protocol.get("held_out_contexts") is None else "held-out contexts"


def contexts_sentence(protocol: Mapping[str, Any]) -> list[str]:
    """Say that all pairs come from few contexts, if they do: so few can say little of others."""
    contexts = protocol.get("held_out_contexts")
    if contexts is None or contexts >= _ENOUGH_CONTEXTS:
        return []
    pairs = counted(protocol["pairs"], "pair")
    return [
        f"All {pairs} come from {counted(contexts, 'held-out context')}, and those "
        "of one share its fate, so intervals and p values go by context."
    ]


def time_label(time: float, unit: str = "s") -> str:
    """Write a time by two digits at least.

    >>> [time_label(time) for time in (0.0312, 0.4, 9.96, 42.3, 1234.0)]
    ['0.031 s', '0.40 s', '10 s', '42 s', '1,234 s']
    """
    if time <= 0:
        return f"0 {unit}"
    decimals = max(0, 1 - math.floor(math.log10(float(f"{time:.1e}"))))
    return f"{time:,.{decimals}f} {unit}"


def edges_sentence(protocol: Mapping[str, Any]) -> list[str]:
    """Say that many pairs are of items without edges, if they are: it decides who can find them."""
    alone, pairs = protocol["pairs_without_edges"], protocol["pairs"]
    if alone < _MANY * pairs:
        return []
    return [
        f"In {alone:,} of {counted(pairs, 'pair')}, an item has no edge that methods may see: "
        "those that know the graph alone cannot find these pairs."
    ]


def seen_sentence(protocol: Mapping[str, Any]) -> list[str]:
    """Say that many pairs are train pairs too, if they are: who remembers those finds them."""
    seen, pairs = protocol["pairs_seen_in_train"], protocol["pairs"]
    if seen is None or seen < _MANY * pairs:
        return []
    return [
        f"{seen:,} of {counted(pairs, 'pair')} are train pairs too, in this order or the other: "
        "methods that learn from train pairs may find those by memory."
    ]


def statement(metric: str, value: float, protocol: Mapping[str, Any]) -> str:
    """Write a number with all that it depends on.

    >>> protocol = {"data": "books", "split": "test", "candidates": 9_999, "seed": 0}
    >>> statement("hit_rate@10", 0.08375, protocol)
    'hit-rate@10 = 0.0838 (books, test, 9,999 candidates, seed 0)'
    """
    sampled = "sampled " if protocol.get("candidates_are") == "a random sample" else ""
    pool = f"{protocol['candidates']:,} {sampled}candidates"
    where = f"{protocol['data']}, {protocol['split']}, {pool}"
    return f"{metric_label(metric)} = {value:.4f} ({where}, seed {protocol['seed']})"


def listed(parts: Sequence[str]) -> str:
    """Join words as in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]])) if parts else ""


def verdict(low: float, high: float, p: float = 0.0) -> str:
    """Read an interval of a difference: `ahead`, `behind`, or `even` when it holds zero.

    A p value above .05 is `even` too: however often few queries are drawn again, all may lie on
    one side of zero by chance.

    >>> verdict(0.01, 0.02), verdict(-0.02, -0.01), verdict(-0.01, 0.01), verdict(0.01, 0.02, 0.5)
    ('ahead', 'behind', 'even', 'even')
    """
    if p > _CLEAR:
        return "even"
    if low > 0:
        return "ahead"
    return "behind" if high < 0 else "even"


def is_clear(gap: Mapping[str, float]) -> bool:
    """Tell whether a difference with its interval and p value is one, either way."""
    return verdict(gap["low"], gap["high"], gap["p"]) != "even"

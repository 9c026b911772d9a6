"""Ways in which two tables may write one key differently."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

_SPELLINGS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "upper and lower case": pc.utf8_lower,
    "Unicode's normal forms": lambda texts: pc.utf8_normalize(texts, form="NFC"),
    "leading zeros": lambda texts: pc.utf8_ltrim(texts, characters="0"),
    "blanks around them": pc.utf8_trim_whitespace,
}


def alike_but_for(values: pa.Array, keys: pa.Array, *, share: float) -> str | None:
    """Say what keeps texts from being keys; None if it is nothing of what people often mix up.

    Args:
        values: texts that are to be keys.
        keys: the keys there are, as text.
        share: how many of the values must be keys otherwise.
    """
    for what, plain in _SPELLINGS.items():
        if share_of(plain(values), plain(keys)) > share:
            return what
    return None


def share_of(values: pa.Array, keys: pa.Array) -> float:
    """Tell which share of values are keys."""
    return float(pc.mean(pc.is_in(values, keys).cast(pa.float64())).as_py() or 0.0)

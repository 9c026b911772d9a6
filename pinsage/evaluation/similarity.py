"""How widely the cosines of random pairs of items spread (paper, section 4.2 and figure 4)."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32

_NUM_PAIRS = 200_000
_NUM_BINS = 80


def excess_kurtosis(values: Float[np.ndarray, " values"]) -> float | None:
    """Fourth standardized moment less 3: 0 for a normal distribution; None without any spread.

    The paper's figures (0.43 for PinSage, 2.49 for annotations) can only be of this kind: without
    the 3 taken off, no kurtosis is below 1.

    >>> excess_kurtosis(np.array([-1.0, 1.0, -1.0, 1.0]))
    -2.0
    >>> excess_kurtosis(np.ones(3)) is None
    True
    """
    centered = values.astype(np.float64) - values.mean(dtype=np.float64)
    variance = float(np.mean(centered**2))
    # Equal numbers may differ by a rounding from their mean.
    if variance <= 1e-12:
        return None
    return float(np.mean(centered**4)) / variance**2 - 3.0


def similarity_distribution(
    vectors: Float32[np.ndarray, "items width"],
    rng: np.random.Generator,
    *,
    num_pairs: int = _NUM_PAIRS,
    num_bins: int = _NUM_BINS,
) -> dict[str, Any] | None:
    """Describe the cosine similarity of random pairs of different items.

    Args:
        vectors: one row an item, of any length; rows of zeros have no direction and are left out.
        rng: where the pairs are drawn from.
        num_pairs: pairs drawn, with replacement.
        num_bins: bars of the histogram between -1 and 1.

    Returns:
        `edges` (num_bins + 1) and `density` (num_bins, integrating to 1) of the histogram, `mean`,
        `standard_deviation`, excess `kurtosis` (None without any spread), `pairs`, and
        `items_left_out`; None when fewer than two items have a direction.
    """
    directed = np.flatnonzero(np.any(vectors != 0, axis=1))
    if len(directed) < 2:
        return None
    first = rng.integers(len(directed), size=num_pairs)
    # A step of 1 ... n - 1 around the ring of items never ends where it began.
    second = (first + rng.integers(1, len(directed), size=num_pairs)) % len(directed)
    cosines = np.empty(num_pairs, np.float64)
    step = 8_192
    for begin in range(0, num_pairs, step):
        chunk = slice(begin, begin + step)
        a, b = vectors[directed[first[chunk]]], vectors[directed[second[chunk]]]
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines[chunk] = np.einsum("pw,pw->p", a, b) / lengths
    # A rounding above 1 belongs into the last bar.
    np.clip(cosines, -1.0, 1.0, out=cosines)
    density, edges = np.histogram(cosines, bins=num_bins, range=(-1.0, 1.0), density=True)
    return {
        "edges": [round(float(edge), 6) for edge in edges],
        "density": [round(float(value), 6) for value in density],
        "mean": float(cosines.mean()),
        "standard_deviation": float(cosines.std()),
        "kurtosis": excess_kurtosis(cosines),
        "pairs": num_pairs,
        "items_left_out": len(vectors) - len(directed),
    }

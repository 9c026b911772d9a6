"""A flat map of the embeddings, on which near items lie near each other (paper, figure 6)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

_PERPLEXITY = 30.0
_FEWEST = 10
"""Fewer different embeddings make no map."""

_NUM_NEAR = 5


def embedding_map(
    vectors: Float32[np.ndarray, "items width"],
    describe: Callable[[int], Mapping[str, Any]],
    rng: np.random.Generator,
    *,
    num_items: int,
) -> dict[str, Any] | None:
    """Lay random items out in two dimensions by t-SNE, as figure 6 does with 1,000.

    Args:
        vectors: one embedding an item; rows of zeros have no place and are left out.
        describe: what is shown of an item, by its id.
        rng: draws the items; t-SNE itself begins at the principal components.
        num_items: how many items, at most.

    Returns:
        `how` (in words), `items`, and `points`: what `describe` gives, `x` and `y` from 0 to 1, and
        `near`, the places in `points` of the items with the greatest cosine in all dimensions.
        None when there are too few different embeddings to draw.
    """
    directed = np.flatnonzero(np.any(vectors != 0, axis=1))
    if min(num_items, len(directed)) < _FEWEST:
        return None
    chosen = np.sort(rng.choice(directed, min(num_items, len(directed)), replace=False))
    rows = vectors[chosen].astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    # Equal vectors share one place; scikit-learn's t-SNE crashes where nothing differs.
    distinct, same = np.unique(rows.round(5), axis=0, return_inverse=True)
    if len(distinct) < _FEWEST:
        return None
    perplexity = min(_PERPLEXITY, (len(distinct) - 1) / 3)
    places = _into_unit_square(_tsne(distinct, perplexity))[same]
    points = [
        {
            **describe(int(item_id)),
            "x": round(float(x), 4),
            "y": round(float(y), 4),
            "near": near.tolist(),
        }
        for item_id, (x, y), near in zip(chosen, places, _nearest(rows), strict=True)
    ]
    drawn = f"all {len(points):,}" if len(points) == len(vectors) else f"{len(points):,} random"
    return {
        "how": f"t-SNE of {drawn} items, perplexity {perplexity:g}",
        "items": len(points),
        "points": points,
    }


def _tsne(
    rows: Float32[np.ndarray, "points width"], perplexity: float
) -> Float[np.ndarray, "points 2"]:
    # Loaded here, for it takes a second that nobody without a map should wait.
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # Between unit vectors, the Euclidean distance orders as the cosine does. One thread: the sums
    # of many come in any order, and threads that wait for each other are slow on a busy machine.
    with threadpool_limits(1):
        return TSNE(
            perplexity=perplexity, init="pca", learning_rate="auto", random_state=0
        ).fit_transform(rows)


def _into_unit_square(places: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
    """Move and scale the places, both axes alike, so that they fill a square of side 1."""
    low, high = places.min(axis=0), places.max(axis=0)
    side = float((high - low).max()) or 1.0
    return (places - (low + high) / 2) / side + 0.5


def _nearest(rows: Float32[np.ndarray, "points width"]) -> Int64[np.ndarray, "points near"]:
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :_NUM_NEAR]

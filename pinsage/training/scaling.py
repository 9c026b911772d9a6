"""How feature rows are centered and scaled before the network sees them."""

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from pinsage.sampling.minibatch import FeatureSource

_CONSTANT = 1e-6

_ROWS_AT_A_TIME = 4_096

ScaleBy = Literal["columns", "groups"]


def feature_scale(
    features: FeatureSource,
    item_ids: Int64[np.ndarray, " items"],
    groups: Mapping[str, slice],
    by: ScaleBy,
) -> tuple[Float64[np.ndarray, " features"], Float64[np.ndarray, " features"]]:
    """Find what is taken from every feature, and what it is then divided by.

    Rows are read twice, a few at a time: all of them might not fit into memory.

    Args:
        features: rows of all items.
        item_ids: the items to look at, at least one.
        groups: the columns of each feature group.
        by: `columns` divides each by its own deviation; `groups` divides a group's columns by one
            number, the root mean square of their deviations but for constant ones, so that what is
            small beside the rest of its group, such as the later ones of singular vectors, stays
            small.

    Returns:
        Means, and deviations, or 0 for what is constant: what spreads by less than a millionth, or
        of the largest mean or deviation of its group, if that is smaller.
    """
    means, deviations = _means_and_deviations(features, item_ids)
    for columns in groups.values():
        largest = np.maximum(deviations[columns], np.abs(means[columns])).max(initial=0.0)
        is_constant = deviations[columns] <= _CONSTANT * min(largest, 1.0)
        deviations[columns] = np.where(is_constant, 0.0, deviations[columns])
        if by == "groups" and not is_constant.all():
            common = np.sqrt(np.square(deviations[columns][~is_constant]).mean())
            deviations[columns] = np.where(is_constant, 0.0, common)
    return means, deviations


def _means_and_deviations(
    features: FeatureSource, item_ids: Int64[np.ndarray, " items"]
) -> tuple[Float64[np.ndarray, " features"], Float64[np.ndarray, " features"]]:
    sums = sum(rows.sum(axis=0) for rows in _chunks(features, item_ids))
    means = np.asarray(sums) / len(item_ids)
    squares = sum(np.square(rows - means).sum(axis=0) for rows in _chunks(features, item_ids))
    return means, np.sqrt(np.asarray(squares) / len(item_ids))


def _chunks(
    features: FeatureSource, item_ids: Int64[np.ndarray, " items"]
) -> Iterator[Float64[np.ndarray, "chunk features"]]:
    for start in range(0, len(item_ids), _ROWS_AT_A_TIME):
        yield features.gather(item_ids[start : start + _ROWS_AT_A_TIME]).astype(np.float64)

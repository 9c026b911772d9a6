"""How feature rows are centered and scaled before the network sees them."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float64

_CONSTANT = 1e-6

ScaleBy = Literal["columns", "groups"]


def feature_scale(
    rows: Float64[np.ndarray, "items features"], groups: Mapping[str, slice], by: ScaleBy
) -> tuple[Float64[np.ndarray, " features"], Float64[np.ndarray, " features"]]:
    """Find what is taken from every feature, and what it is then divided by.

    Args:
        rows: of some items.
        groups: the columns of each feature group.
        by: `columns` divides each by its own deviation; `groups` divides a group's columns by one
            number, the root mean square of their deviations, so that what is small beside the
            rest of its group, such as the later ones of singular vectors, stays small.

    Returns:
        Means, and deviations, or 0 for what is constant: what spreads by less than a millionth, or
        of the largest mean or deviation of its group, if that is smaller.

    >>> rows = np.array([[0.0, 5.0], [6.0, 7.0]])
    >>> feature_scale(rows, {"text": slice(0, 2)}, "columns")
    (array([3., 6.]), array([3., 1.]))
    >>> feature_scale(rows, {"text": slice(0, 2)}, "groups")[1].round(3)
    array([2.236, 2.236])
    """
    means, deviations = rows.mean(axis=0), rows.std(axis=0)
    for columns in groups.values():
        largest = np.maximum(deviations[columns], np.abs(means[columns])).max(initial=0.0)
        is_constant = deviations[columns] <= _CONSTANT * min(largest, 1.0)
        deviations[columns] = np.where(is_constant, 0.0, deviations[columns])
        if by == "groups":
            deviations[columns] = np.sqrt(np.square(deviations[columns]).mean())
    return means, deviations

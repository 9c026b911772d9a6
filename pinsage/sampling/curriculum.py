"""How many hard negatives a pair gets, by epoch (paper, section 3.3)."""


def num_hard_negatives(epoch: int, *, most: int) -> int:
    """Give none in the first epoch, then one more each epoch, up to `most`.

    Args:
        epoch: counted from 0, so epoch n of the paper is n - 1 here.
        most: the configured limit (paper: 6).

    >>> [num_hard_negatives(epoch, most=3) for epoch in range(6)]
    [0, 1, 2, 3, 3, 3]
    """
    return min(epoch, most)

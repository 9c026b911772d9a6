"""Checks of arguments that several kernels share: compiled code trusts what it is given."""

import numpy as np


def require_vector(name: str, array: np.ndarray) -> None:
    """Refuse anything but a one-dimensional integer array.

    Args:
        name: What the array is called in the error message.
        array: The array to look at.

    Raises:
        ValueError: The array has another number of dimensions, or isn't of integers.
    """
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{name} must be a one-dimensional integer array; found shape {array.shape} of"
            f" {array.dtype}"
        )


def require_ids(name: str, ids: np.ndarray, limit: int, *, lowest: int = 0) -> None:
    """Refuse ids outside `lowest` to `limit` - 1; names the first offender.

    Args:
        name: What the ids are called in the error message.
        ids: Ids of any shape, of an integer type.
        limit: One more than the largest id allowed.
        lowest: The smallest id allowed; -1 where -1 stands for "none".

    Raises:
        ValueError: An id is out of range, or the array isn't of integers.
    """
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{name} must be integers; found {ids.dtype}")
    if ids.size == 0 or (int(ids.min()) >= lowest and int(ids.max()) < limit):
        return
    place = int(np.argmax((ids < lowest) | (ids >= limit)))
    raise ValueError(
        f"{name} must lie in {lowest}..{limit - 1}; found {int(ids.flat[place])} at place {place}"
    )


def require_starts(name: str, starts: np.ndarray, num_edges: int) -> None:
    """Refuse row starts that don't cut exactly `num_edges` edges into rows.

    Args:
        name: What the starts are called in the error message.
        starts: Row starts, integers, one more than there are rows.
        num_edges: Length of the array that the starts cut up.

    Raises:
        ValueError: The starts don't begin at 0, fall somewhere, or don't end at `num_edges`.
    """
    require_vector(name, starts)
    if starts.size == 0 or int(starts[0]) != 0 or int(starts[-1]) != num_edges:
        ends = f"{int(starts[0])}..{int(starts[-1])}" if starts.size else "nothing"
        raise ValueError(f"{name} must run from 0 to the {num_edges} edges; found {ends}")
    if bool(np.any(starts[1:] < starts[:-1])):
        place = int(np.argmax(starts[1:] < starts[:-1]))
        raise ValueError(f"{name} must never fall; it does after place {place}")


def require_positive(name: str, value: int) -> None:
    """Refuse numbers below one.

    Args:
        name: What the number is called in the error message.
        value: The number.

    Raises:
        ValueError: The number is zero or negative.
    """
    if value < 1:
        raise ValueError(f"{name} must be at least 1; found {value}")


def require_matrix(name: str, array: np.ndarray, shape: tuple[int, ...] | None = None) -> None:
    """Refuse anything but a float32 matrix, row after row in memory.

    Args:
        name: What the array is called in the error message.
        array: The array to look at.
        shape: Which shape it must have; None takes any.

    Raises:
        ValueError: Another type, layout or shape.
    """
    fits = array.ndim == 2 if shape is None else array.shape == shape
    if not fits or array.dtype != np.float32 or not array.flags.c_contiguous:
        wanted = "matrix" if shape is None else f"matrix of shape {shape}"
        raise ValueError(
            f"{name} must be a C-contiguous float32 {wanted}; found shape {array.shape} of"
            f" {array.dtype}"
        )


def require_per_column(name: str, values: np.ndarray, matrix: np.ndarray) -> None:
    """Refuse anything but one float32 for every column of a matrix.

    Args:
        name: What the values are called in the error message.
        values: The array to look at.
        matrix: The matrix.

    Raises:
        ValueError: Another type or length.
    """
    if values.shape != matrix.shape[1:] or values.dtype != np.float32:
        raise ValueError(
            f"{name} must be {matrix.shape[1]} float32; found shape {values.shape} of"
            f" {values.dtype}"
        )

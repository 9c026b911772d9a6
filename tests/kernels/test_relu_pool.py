from typing import NamedTuple

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from pinsage.kernels.relu_pool import PIECES, relu_pool, relu_pool_back, transpose_block


class Case(NamedTuple):
    rows: np.ndarray
    bias: np.ndarray
    neighbors: np.ndarray
    weights: np.ndarray
    gradient: np.ndarray


def case(seed: int, sources: int, destinations: int, neighbors: int, width: int) -> Case:
    """Two columns of other things before those that are pooled."""
    rng = np.random.default_rng(seed)
    weights = rng.random((destinations, neighbors), np.float32)
    weights[rng.random(weights.shape) < 0.3] = 0
    return Case(
        rng.standard_normal((sources, width), np.float32),
        rng.standard_normal(width, np.float32),
        rng.integers(0, sources, (destinations, neighbors)).astype(np.int32),
        weights,
        rng.standard_normal((destinations, width + 2), np.float32),
    )


def pooled(of: Case) -> np.ndarray:
    out = np.full_like(of.gradient, 7)
    relu_pool(of.rows, of.bias, of.neighbors, of.weights, out, 2)
    return out


def gradients(of: Case, chunk: int = 10**9) -> tuple[np.ndarray, np.ndarray]:
    """Of the rows, and of the bias."""
    out = np.full_like(of.rows, 7)
    sums = np.zeros((PIECES, of.rows.shape[1]), np.float32)
    block = transpose_block(of.neighbors, of.weights, len(of.rows))
    for first in range(0, len(of.rows), chunk):
        part = out[first : first + chunk]
        relu_pool_back(of.rows, of.bias, block, of.gradient, 2, first, part, sums)
    return out, sums.sum(axis=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sources=st.integers(1, 60),
    destinations=st.integers(0, 80),
    neighbors=st.integers(1, 11),
    width=st.integers(1, 40),
)
def test_pooling_both_ways_equals_embedding_bag_after_a_relu(
    seed: int, sources: int, destinations: int, neighbors: int, width: int
) -> None:
    made = case(seed, sources, destinations, neighbors, width)
    rows = torch.from_numpy(made.rows).requires_grad_()
    wanted = functional.embedding_bag(
        torch.from_numpy(made.neighbors),
        torch.relu(rows + torch.from_numpy(made.bias)),
        per_sample_weights=torch.from_numpy(made.weights),
        mode="sum",
    )
    found = pooled(made)
    scale = neighbors * (1 + np.abs(made.rows).max() + np.abs(made.bias).max())
    np.testing.assert_allclose(found[:, 2:], wanted.detach().numpy(), atol=1e-6 * scale)
    assert (found[:, :2] == 7).all()
    wanted.backward(torch.from_numpy(made.gradient[:, 2:]))
    assert rows.grad is not None
    terms = max(np.bincount(made.neighbors.ravel(), minlength=1).max(), 1)
    of_rows, of_bias = gradients(made)
    np.testing.assert_allclose(of_rows, rows.grad.numpy(), atol=4e-6 * terms)
    np.testing.assert_allclose(of_bias, of_rows.sum(axis=0), atol=1e-5 * (1 + terms))


def test_threads_change_no_bit_nor_do_chunks_of_a_rows_gradient() -> None:
    made = case(0, 900, 700, 10, 33)
    found = []
    for threads in (1, 2, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        found.append((pooled(made), gradients(made), gradients(made, chunk=64)))
    for values, whole, chunked in found:
        np.testing.assert_array_equal(values, found[0][0])
        np.testing.assert_array_equal(whole[0], found[0][1][0])
        np.testing.assert_array_equal(chunked[0], found[0][1][0])
        np.testing.assert_array_equal(whole[1], found[0][1][1])
        np.testing.assert_array_equal(chunked[1], found[0][2][1])


def test_a_neighbor_of_weight_zero_is_not_read_and_nan_stays() -> None:
    rows = np.array([[np.nan], [2.0]], np.float32)
    bias, out = np.zeros(1, np.float32), np.empty((2, 1), np.float32)
    neighbors = np.array([[1, 0], [1, 0]], np.int32)
    relu_pool(rows, bias, neighbors, np.array([[1, 0], [0.5, 0.5]], np.float32), out)
    assert out[0] == 2
    assert np.isnan(out[1])


def test_arrays_that_do_not_fit_are_refused() -> None:
    made = case(0, 5, 4, 3, 2)
    with pytest.raises(ValueError, match=r"neighbors must lie in 0\.\.4; found 5"):
        pooled(made._replace(neighbors=np.full_like(made.neighbors, 5)))
    with pytest.raises(ValueError, match="bias must be 2 float32"):
        pooled(made._replace(bias=np.zeros(3, np.float32)))
    with pytest.raises(ValueError, match="out must have 4 rows, and 2 columns from column 2 on"):
        pooled(made._replace(gradient=made.gradient[:, :3].copy()))
    block = transpose_block(made.neighbors, made.weights, 5)
    sums = np.zeros((PIECES, 2), np.float32)
    with pytest.raises(ValueError, match=r"sources 3\.\.5 must be among the block's 5"):
        relu_pool_back(made.rows, made.bias, block, made.gradient, 2, 3, made.rows[:3].copy(), sums)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsage.kernels import build_csr, gram, pool_rows, rotate, symmetric_eigen
from tests.kernels.graphs import small_graphs

ONE = np.ones(1, np.float32)


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def dense(starts, cols, num_cols):
    """The same edges as a matrix of how often each stands there."""
    matrix = np.zeros((len(starts) - 1, num_cols))
    np.add.at(matrix, (np.repeat(np.arange(len(starts) - 1), np.diff(starts)), cols), 1)
    return matrix


@settings(deadline=None)
@given(graph=small_graphs(), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_pooling_is_a_product_with_the_scaled_matrix_of_edges(graph, width, seed):
    values = drawn(seed, graph.num_contexts, width)
    row_scales = drawn(seed + 2, graph.num_items)
    out = np.full((graph.num_items, width), np.nan, np.float32)
    pool_rows(graph.item_starts, graph.item_contexts, values, row_scales, out)
    matrix = dense(graph.item_starts, graph.item_contexts, graph.num_contexts)
    expected = row_scales[:, None] * (matrix @ values.astype(np.float64))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


def test_a_row_without_edges_pools_to_zero_whatever_stood_there():
    out = np.full((3, 2), np.nan, np.float32)
    scales = np.ones(3, np.float32)
    starts, cols = build_csr(np.array([1]), np.array([0]), 3)
    pool_rows(starts, cols, np.array([[5, 6]], np.float32), scales, out)
    assert out.tolist() == [[0, 0], [5, 6], [0, 0]]


def test_pooling_many_edges_keeps_small_values_beside_large_ones():
    values = np.ones((100_001, 1), np.float32)
    values[0] = 2**24
    out = np.empty((1, 1), np.float32)
    starts, cols = np.array([0, 100_001]), np.arange(100_001, dtype=np.int32)
    pool_rows(starts, cols, values, ONE, out)
    assert out[0, 0] == 2**24 + 100_000


@settings(deadline=None)
@given(rows=st.integers(0, 80), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_gram_is_the_product_with_the_transpose_and_exactly_symmetric(rows, width, seed):
    values = drawn(seed, rows, width)
    product = gram(values)
    assert product.dtype == np.float64
    np.testing.assert_allclose(product, values.T.astype(np.float64) @ values, atol=1e-10)
    np.testing.assert_array_equal(product, product.T)


@settings(deadline=None)
@given(rows=st.integers(0, 80), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_rotate_multiplies(rows, width, seed):
    values, rotation = drawn(seed, rows, width), drawn(seed + 1, width, width).astype(np.float64)
    np.testing.assert_allclose(rotate(values, rotation), values @ rotation, rtol=1e-5, atol=1e-5)


def test_rotate_takes_a_rotation_stored_by_columns():
    values, rotation = drawn(0, 5, 3), drawn(1, 3, 3).astype(np.float64)
    turned = rotate(values, np.asfortranarray(rotation))
    np.testing.assert_allclose(turned, values @ rotation, rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(width=st.integers(1, 30), rank=st.integers(0, 30), seed=st.integers(0, 99))
def test_eigenvalues_and_eigenvectors_equal_those_of_lapack(width, rank, seed):
    factor = drawn(seed, rank, width).astype(np.float64)
    matrix = factor.T @ factor
    matrix = (matrix + matrix.T) / 2
    values, vectors = symmetric_eigen(matrix)
    scale = max(1.0, float(np.abs(matrix).max()))
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1], atol=1e-12 * scale)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(width), atol=1e-12)
    np.testing.assert_allclose(vectors * values @ vectors.T, matrix, atol=1e-11 * scale)


def test_eigenvalues_may_be_negative():
    values, _ = symmetric_eigen(np.array([[0.0, 2.0], [2.0, 0.0]]))
    np.testing.assert_allclose(values, [2, -2])


def test_eigenvectors_of_very_unequal_eigenvalues_stay_orthogonal():
    turn, _ = np.linalg.qr(drawn(3, 12, 12).astype(np.float64))
    exact = 10.0 ** -np.arange(12)
    matrix = turn * exact @ turn.T
    values, vectors = symmetric_eigen((matrix + matrix.T) / 2)
    np.testing.assert_allclose(values, exact, atol=1e-15)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(12), atol=1e-13)


def test_finding_eigenvalues_leaves_the_matrix_alone():
    matrix = np.array([[2.0, 1.0], [1.0, 2.0]])
    matrix.flags.writeable = False
    symmetric_eigen(matrix)
    assert matrix.tolist() == [[2, 1], [1, 2]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"starts": np.array([0, 2])}, r"starts must run from 0 to the 1 edges; found 0\.\.2"),
        ({"cols": np.array([1], np.int32)}, r"cols must lie in 0\.\.0; found 1 at place 0"),
        ({"values": np.ones((1, 2))}, r"values must be a C-contiguous float32 matrix; .* float64"),
        ({"values": np.ones((2, 2), np.float32).T[:1]}, "values must be a C-contiguous"),
        ({"out": np.ones((2, 2), np.float32)}, r"out must be 1 x 2; found \(2, 2\)"),
        ({"row_scales": np.ones(2, np.float32)}, r"row_scales must be 1 float32; .* \(2,\)"),
        ({"row_scales": np.ones(1)}, "row_scales must be 1 float32; .* float64"),
    ],
)
def test_pooling_refuses(changed, message):
    arguments = {
        "starts": np.array([0, 1]),
        "cols": np.array([0], np.int32),
        "values": np.ones((1, 2), np.float32),
        "row_scales": ONE,
        "out": np.ones((1, 2), np.float32),
    }
    with pytest.raises(ValueError, match=message):
        pool_rows(*(arguments | changed).values())


def test_pooling_refuses_to_overwrite_what_it_reads():
    values = np.ones((1, 2), np.float32)
    with pytest.raises(ValueError, match="out shares memory with values"):
        pool_rows(np.array([0, 1]), np.array([0], np.int32), values, ONE, values)


def test_gram_and_rotate_refuse_other_types_and_shapes():
    with pytest.raises(ValueError, match="values must be a C-contiguous float32 matrix"):
        gram(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"rotation must be 2 x 2 float64; found \(3, 3\)"):
        rotate(np.ones((2, 2), np.float32), np.eye(3))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3)), "must be square"),
        (np.ones((2, 2), np.float32), "of float64"),
        (np.array([[np.nan]]), "must be finite"),
        (np.array([[1.0, 2.0], [3.0, 1.0]]), "must equal its transpose"),
    ],
)
def test_symmetric_eigen_refuses(matrix, message):
    with pytest.raises(ValueError, match=message):
        symmetric_eigen(matrix)

import numba
import numpy as np
import pytest
import torch
from torch.nn import functional

from pinsage.kernels.unit_rows import relu_unit, relu_unit_back, scale_columns

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((300, 37)).astype(np.float32)
ROWS[5] = -9
BIAS = RNG.standard_normal(37).astype(np.float32)
GRADIENT = RNG.standard_normal(ROWS.shape).astype(np.float32)


def both_ways() -> tuple[np.ndarray, np.ndarray]:
    units, out = ROWS.copy(), np.empty_like(ROWS)
    lengths = relu_unit(units, BIAS)
    relu_unit_back(units, lengths, GRADIENT, out)
    return units, out


def test_unit_rows_and_their_gradients_are_torchs() -> None:
    units, found = both_ways()
    rows = torch.from_numpy(ROWS.copy()).requires_grad_()
    wanted = functional.normalize(torch.relu(rows + torch.from_numpy(BIAS)), dim=1)
    wanted.backward(torch.from_numpy(GRADIENT))
    assert rows.grad is not None
    np.testing.assert_allclose(units, wanted.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(found, rows.grad.numpy(), atol=1e-6)
    assert not units[5].any()
    assert not found[5].any()


def test_threads_change_no_bit() -> None:
    numba.set_num_threads(1)
    alone = both_ways()
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    np.testing.assert_array_equal(both_ways(), alone)


def test_a_row_with_nan_stays_nan() -> None:
    rows = np.array([[np.nan, 1.0]], np.float32)
    relu_unit(rows, np.zeros(2, np.float32))
    assert np.isnan(rows).all()


def test_scaling_is_bit_for_bit_what_numpy_does() -> None:
    out = np.empty_like(ROWS)
    scale_columns(ROWS, BIAS, GRADIENT[0], out)
    np.testing.assert_array_equal(out, (ROWS - BIAS) * GRADIENT[0])


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="bias must be 37 float32"):
        relu_unit(ROWS.copy(), BIAS[:3])
    with pytest.raises(ValueError, match=r"rows must be a C-contiguous float32 matrix"):
        relu_unit(ROWS.astype(np.float64), BIAS)

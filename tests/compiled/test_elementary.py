import numpy as np
import pytest
import torch
from numba import njit
from torch.nn import functional

from nnunet_fganet.compiled.elementary import exponential, gelu, gelu_slope, sigmoid
from nnunet_fganet.compiled.lanes import LANES, load, store

NUMBERS = np.concatenate([np.linspace(-100, 100, 4001), np.linspace(-1, 1, 1001), [0, np.inf, -np.inf, np.nan]])


@njit(error_model="numpy")
def compute(given, out, number):
    tail = given.shape[1] - given.shape[1] % LANES
    for x in range(0, tail, LANES):
        lanes = load(given, 0, x)
        if number < 2:
            store(out, 0, x, exponential(lanes) if number == 0 else sigmoid(lanes))
        else:
            store(out, 0, x, gelu(lanes) if number == 2 else gelu_slope(lanes))
    for x in range(tail, given.shape[1]):
        value = given[0, x]
        if number < 2:
            out[0, x] = exponential(value) if number == 0 else sigmoid(value)
        else:
            out[0, x] = gelu(value) if number == 2 else gelu_slope(value)


def computed(function, numbers):
    given = np.asarray(numbers, np.float32)[None]
    out = np.full_like(given, 7)
    compute(given, out, function)
    return torch.from_numpy(out[0])


@pytest.mark.parametrize("kept", [len(NUMBERS), LANES, LANES - 1], ids=["many", "vectors_alone", "no_vector"])
def test_functions_are_torchs(kept):
    numbers = np.random.default_rng(0).permutation(NUMBERS)[:kept]
    exact = torch.from_numpy(numbers.astype(np.float32)).double()
    finite = exact.isfinite()
    torch.testing.assert_close(
        computed(0, numbers)[finite], exact.clamp(-60, 60).exp()[finite].float(), rtol=6e-6, atol=0
    )
    torch.testing.assert_close(computed(1, numbers), exact.sigmoid().float(), rtol=1e-6, atol=3e-7, equal_nan=True)
    torch.testing.assert_close(
        computed(2, numbers)[finite], functional.gelu(exact)[finite].float(), rtol=1e-6, atol=2e-6
    )
    exact = exact[finite].requires_grad_()
    (slope,) = torch.autograd.grad(functional.gelu(exact).sum(), exact)
    torch.testing.assert_close(computed(3, numbers)[finite], slope.float(), rtol=1e-6, atol=1e-6)


def test_infinities_and_nan_pass_through_gelu():
    assert computed(3, [np.inf, -np.inf, 0, np.nan]).tolist() == pytest.approx([1, 0, 0.5, np.nan], nan_ok=True)
    assert computed(2, [np.inf, -np.inf, 0]).tolist() == pytest.approx([np.inf, 0, 0], abs=1e-20)
    assert computed(2, [np.nan]).isnan().all()


def test_a_shut_gate_leaves_no_number_that_is_slow():
    shut = computed(1, [-1e4] * LANES)
    assert (shut > 1e-30).all() and (shut < 1e-20).all()

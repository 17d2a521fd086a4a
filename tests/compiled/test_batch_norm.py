"""BatchNorm, dropout and LeakyReLU in compiled loops, against torch's in double precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_fganet.compiled.batch_norm import Activation, channel_moments, normalize
from nnunet_fganet.compiled.batch_norm_gradient import normalize_gradients
from nnunet_fganet.compiled.dropout import LEVELS, drop

EPS = 1e-5
ACTIVATIONS = {
    "nothing": Activation(),
    "ReLU": Activation(0.0),
    "LeakyReLU": Activation(0.01),
    "dropout": Activation(1.0, 7, LEVELS // 3),
    "dropout and LeakyReLU": Activation(0.01, -8, LEVELS // 5),
}


def tensors(pixels, channels, seed=0, mean=0.0):
    torch.manual_seed(seed)
    rows = mean + 2 * torch.randn(pixels, channels)
    return rows, torch.randn(2, channels), torch.randn(pixels, channels)


def computed(rows, affine, gradient, activation, dtype=torch.float32):
    """Output, and gradients of rows, weight and bias."""
    moments = channel_moments(rows)
    out, _ = normalize(rows, moments, affine, EPS, activation)
    of_rows, of_affine = normalize_gradients(gradient, rows, moments, affine, EPS, activation, dtype)
    return out, of_rows, *of_affine


def expected_of(rows, affine, gradient, activation):
    rows, weight, bias = (each.double().requires_grad_() for each in (rows, *affine))
    normalized = functional.batch_norm(rows, None, None, weight, bias, training=True, eps=EPS)
    if activation.dropped:
        normalized = normalized * drop(torch.ones(rows.shape), activation.seed, activation.dropped).double()
    out = functional.leaky_relu(normalized, activation.slope)
    return out.detach(), *torch.autograd.grad(out, (rows, weight, bias), gradient.double())


def assert_near(found, expected, error=1e-5):
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= error * theirs.abs().max().clamp(min=1)


@settings(max_examples=60, deadline=None)
@given(
    pixels=st.integers(2, 700),
    channels=st.integers(1, 150),
    seed=st.integers(0, 10_000),
    name=st.sampled_from(sorted(ACTIVATIONS)),
)
def test_agrees_with_torch_in_double_precision(pixels, channels, seed, name):
    rows, affine, gradient = tensors(pixels, channels, seed)
    # Of a channel whose pixels are nearly alike the gradient is lost in what float32 rounds.
    rows[: pixels // 2] += 20
    rows[pixels // 2 :] -= 20
    found, expected = (each(rows, affine, gradient, ACTIVATIONS[name]) for each in (computed, expected_of))
    assert_near(found[:1], expected[:1])
    assert_near(found[1:], expected[1:], 1e-4)


@pytest.mark.parametrize("channels", [24, 32])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_many_parts_agree_as_one_does(name, channels):
    given = tensors(30_001, channels)
    assert_near(computed(*given, ACTIVATIONS[name]), expected_of(*given, ACTIVATIONS[name]))


def test_a_large_mean_does_not_swallow_deviations():
    rows, _, _ = tensors(20_000, 20, mean=1e4)
    mean, variance = channel_moments(rows)
    torch.testing.assert_close(mean, rows.double().mean(0), rtol=1e-7, atol=0)
    torch.testing.assert_close(variance, rows.double().var(0, correction=0), rtol=1e-4, atol=0)


def test_gradients_may_be_bfloat16_on_both_sides():
    rows, affine, gradient = tensors(3_000, 40)
    gradient = gradient.bfloat16()
    activation = ACTIVATIONS["dropout and LeakyReLU"]
    exact = computed(rows, affine, gradient.float(), activation)
    assert all(map(torch.equal, exact, computed(rows, affine, gradient, activation)))
    rounded = computed(rows, affine, gradient, activation, torch.bfloat16)
    assert torch.equal(rounded[1], exact[1].bfloat16())
    assert all(map(torch.equal, rounded[2:], exact[2:]))


def test_the_second_copy_is_the_first_one_rounded():
    rows, affine, _ = tensors(1_001, 23)
    out, copy = normalize(rows, channel_moments(rows), affine, EPS, ACTIVATIONS["LeakyReLU"], rounds=True)
    assert torch.equal(copy, out.bfloat16())
    assert normalize(rows, channel_moments(rows), affine, EPS, ACTIVATIONS["LeakyReLU"])[1] is None


def test_results_do_not_depend_on_threads():
    given, results = (*tensors(9_000, 36), ACTIVATIONS["dropout and LeakyReLU"]), []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(computed(*given))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@pytest.mark.parametrize("place", [0, -1])
def test_what_is_not_a_number_makes_its_channel_so(place):
    rows, affine, gradient = tensors(333, 9)
    rows[place, 4] = torch.nan
    out, of_rows, _, _ = computed(rows, affine, gradient, ACTIVATIONS["LeakyReLU"])
    others = [channel for channel in range(9) if channel != 4]
    for each in (out, of_rows):
        assert each[:, 4].isnan().all() and each[:, others].isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": torch.zeros(5, 6).double()}, "rows must be contiguous torch.float32"),
        ({"rows": torch.zeros(6, 5).t()}, "rows must be"),
        ({"moments": torch.zeros(2, 6)}, "moments must be"),
        ({"moments": torch.zeros(2, 5).double()}, "moments must be"),
        ({"affine": torch.zeros(6)}, "affine must be"),
        ({"gradient": torch.zeros(5, 7)}, "gradient must be"),
    ],
)
def test_what_the_loops_would_read_outside_of_is_refused(change, message):
    given = {"rows": torch.zeros(5, 6), "moments": torch.zeros(2, 6).double(), "affine": torch.zeros(2, 6)}
    given |= {"gradient": torch.zeros(5, 6)} | change
    with pytest.raises(ValueError, match=message):
        normalize_gradients(**given, eps=EPS, activation=Activation(), dtype=torch.float32)
    if "gradient" not in change:
        del given["gradient"]
        with pytest.raises(ValueError, match=message):
            normalize(**given, eps=EPS, activation=Activation())
    if "rows" in change:
        with pytest.raises(ValueError, match=message):
            channel_moments(given["rows"])

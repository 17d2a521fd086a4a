"""Products of samples by matrix units against those of the same samples, written down first."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_fganet.compiled import sample_products
from nnunet_fganet.compiled.levels import level_weight
from nnunet_fganet.compiled.matrix_units import has_matrix_units, tiles_of
from nnunet_fganet.compiled.operators import deform_conv2d_level_rows, deform_conv2d_rows
from nnunet_fganet.compiled.sample_products import multiplies_samples, multiply_samples
from nnunet_fganet.compiled.sampling import sample_columns, sample_levels

pytestmark = pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units (AMX)")
STEP, ZERO = 0.05, 120  # of levels that hold numbers between -6 and 6


def case(seed, height, width, channels, out_channels, kernel, modulated):
    torch.manual_seed(seed)
    pixels, taps = 2 * height * width, kernel**2
    rows = torch.randn(pixels, channels).clamp(-5, 5)
    mask = torch.rand(pixels, taps) if modulated else None
    terms = torch.rand(out_channels), torch.randn(out_channels)
    return rows, 3 * torch.randn(pixels, taps, 2), mask, torch.randn(out_channels, taps * channels), *terms


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    channels=st.sampled_from([64, 128]),
    out_channels=st.integers(1, 70),
    kernel=st.sampled_from([1, 3]),
    modulated=st.booleans(),
    in_levels=st.booleans(),
)
def test_agrees_with_products_of_samples(seed, height, width, channels, out_channels, kernel, modulated, in_levels):
    rows, offset, mask, weight, scale, bias = case(seed, height, width, channels, out_channels, kernel, modulated)
    rows, pixels = rows.bfloat16(), (height * width, 2 * height * width)
    weight = (20 * weight).round().clamp(-127, 127).to(torch.int8) if in_levels else weight.bfloat16()
    samples = torch.empty(height * width, kernel**2, channels, dtype=torch.uint8 if in_levels else torch.bfloat16)
    places = rows, offset, mask, (height, width)
    if in_levels:
        sample_levels(*places, pixels[0], STEP, ZERO, samples)
    else:
        sample_columns(*places, pixels[0], samples)
    right = samples.flatten(1).double() @ weight.double().t() * scale + bias
    out = torch.full((2 * height * width, out_channels), 7.0).bfloat16()
    levels = (STEP, ZERO) if in_levels else (1.0, 0)
    multiply_samples(*places, pixels, *levels, tiles_of(weight), scale, bias, out)
    assert (out[: pixels[0]] == 7).all()
    error = (out[pixels[0] :].double() - right).abs()
    assert (error <= right.abs() * 2**-8 + 1e-5 * right.abs().max()).all()


def test_images_in_float32_have_levels():
    rows, offset, _, weight, scale, bias = case(0, 9, 11, 64, 20, 3, False)
    weight = weight.round().to(torch.int8)
    samples, out = torch.empty(198, 9, 64, dtype=torch.uint8), torch.empty(198, 20)
    sample_levels(rows, offset, None, (9, 11), 0, STEP, ZERO, samples)
    multiply_samples(rows, offset, None, (9, 11), (0, 198), STEP, ZERO, tiles_of(weight), scale, bias, out)
    right = (samples.flatten(1).double() @ weight.double().t()).float() * scale + bias
    assert torch.allclose(out, right)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), step=st.floats(2.0**-16, 2.0**8), zero=st.integers(0, 254), modulated=st.booleans())
def test_levels_of_float16_are_at_most_half_a_level_further_off(seed, step, zero, modulated):
    rows, offset, mask, _, _, _ = case(seed, 9, 11, 64, 64, 3, modulated)
    # Levels from 0 to nearly 255, what an image's step and level of 0 make of its numbers.
    low, high = -zero * step, (254.8 - zero) * step
    rows = (low + (high - low) * torch.rand(rows.shape)).clamp(low, high).half()
    out, unit = torch.empty(198, 64).half(), torch.zeros(64, 9 * 64, dtype=torch.int8)
    unit[:, 4 * 64 : 5 * 64] = torch.eye(64, dtype=torch.int8)  # the samples of the middle tap, a channel each
    places = rows, offset, mask, (9, 11)
    multiply_samples(*places, (0, 198), step, zero, tiles_of(unit), torch.ones(64), torch.zeros(64), out)
    exact = torch.empty(198, 9, 64)
    sample_columns(rows.float(), offset, mask, (9, 11), 0, exact)
    assert ((out.double() - zero) - exact[:, 4].double() / step).abs().max() < 1


def test_samples_in_bfloat16_of_float16():
    rows, offset, _, weight, scale, bias = case(0, 9, 11, 64, 20, 3, False)
    rows, weight, out = rows.half(), tiles_of(weight.bfloat16()), torch.empty(198, 20)
    terms = (9, 11), (0, 198), 1.0, 0, weight, scale, bias
    multiply_samples(rows.float(), offset, None, *terms, out)
    halves = out.half()
    multiply_samples(rows, offset, None, *terms, halves)
    assert torch.allclose(halves.float(), out, rtol=2e-3, atol=2e-3)


def test_a_process_that_has_computed_nothing_else():
    """Linux lets a process use the units once it has asked."""
    program = """
import torch
from nnunet_fganet.compiled.matrix_units import tiles_of
from nnunet_fganet.compiled.operators import deform_conv2d_rows
weight = tiles_of(torch.rand(20, 576).bfloat16())
deform_conv2d_rows(torch.rand(64, 64).bfloat16(), torch.zeros(64, 9, 2), None, 8, 8, weight, torch.zeros(20))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_other_processors_are_told(monkeypatch):
    monkeypatch.setattr(sample_products, "has_matrix_units", lambda: False)
    rows, offset, _, weight, scale, bias = case(0, 9, 11, 64, 20, 3, False)
    with pytest.raises(ValueError, match="no matrix units"):
        terms = (9, 11), (0, 198), 1.0, 0, tiles_of(weight.bfloat16()), scale, bias, torch.empty(198, 20)
        multiply_samples(rows, offset, None, *terms)


@pytest.mark.parametrize("in_levels", [True, False])
def test_torch_accepts_the_operators(in_levels):
    rows, offset, _, weight, _, bias = case(0, 3, 4, 64, 20, 3, False)
    rows = rows.half()
    if in_levels:
        torch.library.opcheck(deform_conv2d_level_rows, (rows, offset, None, 3, 4, *level_weight(weight, 64), bias))
    else:
        given = (rows, offset, None, 3, 4, tiles_of(weight.bfloat16()), bias)
        # Its gradients are none of this operator's business: inference only.
        torch.library.opcheck(deform_conv2d_rows, given)


@pytest.mark.parametrize(("channels", "numbers", "levels"), [(64, True, True), (32, True, False), (48, False, False)])
def test_channels_fill_rows_of_tiles(channels, numbers, levels):
    assert multiplies_samples(channels) == numbers
    assert multiplies_samples(channels, size_of_number=1) == levels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": torch.rand(198, 64).double()}, "rows must be one of .*, not torch.float64"),
        ({"rows": torch.rand(198, 64).half()}, "out must be"),
        ({"rows": torch.rand(198, 48)}, "48 channels are no multiple of 64"),
        ({"rows": torch.rand(198, 128)}, "weight must be"),
        ({"offset": torch.rand(198, 9, 1)}, "offset must be"),
        ({"mask": torch.rand(198, 8)}, "mask must be"),
        ({"size": (9, 10)}, "no images of 9 x 10"),
        ({"pixels": (0, 199)}, "outside of 198 rows"),
        ({"scale": torch.rand(19)}, "scale must be"),
        ({"bias": torch.rand(40)}, "weight must be"),
        ({"weight": torch.rand(1, 9, 2, 16, 16, 4)}, "weight must be int8 or bfloat16, not torch.float32"),
        ({"out": torch.empty(198, 20).bfloat16()}, "out must be"),
    ],
)
def test_what_the_loop_would_read_outside_is_refused(change, message):
    rows, offset, _, weight, scale, bias = case(0, 9, 11, 64, 20, 3, False)
    given = {
        "rows": rows, "offset": offset, "mask": None, "size": (9, 11), "pixels": (0, 198), "step": STEP, "zero": ZERO,
        "weight": tiles_of(weight.to(torch.int8)), "scale": scale, "bias": bias, "out": torch.empty(198, 20),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        multiply_samples(**given | change)

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_fganet.compiled import bfloat16_conv
from nnunet_fganet.compiled.bfloat16_conv import bfloat16_conv2d, bfloat16_weight
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.compiled.operators import bfloat16_conv2d_rows

needs_units = pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for bfloat16 (AMX)")


def tensors(seed, batch, channels, out_channels, height, width, kernel):
    torch.manual_seed(seed)
    weight = torch.randn(out_channels, channels, kernel, kernel).bfloat16()
    return torch.randn(batch, height, width, channels).bfloat16(), weight, torch.randn(out_channels)


def expected(rows, weight, bias, stride, slope):
    given = rows.permute(0, 3, 1, 2).double(), weight.double(), bias.double()
    return functional.leaky_relu(functional.conv2d(*given, stride, weight.shape[-1] // 2), slope).permute(0, 2, 3, 1)


def is_rounded(found, right):
    """Whether sums are those in double precision but for float32's error, rounded to bfloat16."""
    return ((found.double() - right).abs() <= right.abs() * 2**-8 + 1e-5 * right.abs().max()).all()


@needs_units
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    channels=st.integers(1, 100),
    out_channels=st.integers(1, 100),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    slope=st.sampled_from([0, 0.01, 1]),
)
def test_agrees_with_torch_in_double_precision(
    seed, batch, channels, out_channels, height, width, kernel, stride, slope
):
    rows, weight, bias = tensors(seed, batch, channels, out_channels, height, width, kernel)
    found = bfloat16_conv2d(rows, bfloat16_weight(weight), bias, kernel, stride, slope)
    right = expected(rows, weight, bias, stride, slope)
    assert found.shape == right.shape and found.dtype == torch.bfloat16
    assert is_rounded(found, right)


@needs_units
@pytest.mark.parametrize("size", [(300, 7), (40, 400), (150, 150)])
@pytest.mark.parametrize("stride", [1, 2])
def test_images_of_many_parts(monkeypatch, size, stride):
    monkeypatch.setattr(bfloat16_conv, "_PART_BYTES", 20_000)
    rows, weight, bias = tensors(0, 2, 40, 70, *size, 3)
    found = bfloat16_conv2d(rows, bfloat16_weight(weight), bias, 3, stride, 0.01)
    assert is_rounded(found, expected(rows, weight, bias, stride, 0.01))


@needs_units
@pytest.mark.parametrize("channels", [40, 64])
def test_images_in_float16_are_rounded_first(channels):
    _, weight, bias = tensors(0, 2, channels, 40, 20, 20, 3)
    given = torch.randn(2, 20, 20, channels).half()
    terms = bfloat16_weight(weight), bias, 3, 1, 0.01
    found = bfloat16_conv2d(given, *terms)
    assert found.dtype == torch.bfloat16 and torch.equal(found, bfloat16_conv2d(given.bfloat16(), *terms))


@needs_units
def test_what_is_not_finite_reaches_what_reads_it():
    rows, weight, bias = tensors(0, 2, 40, 40, 20, 20, 3)
    rows[1, 5, 10, 3] = torch.nan
    found = bfloat16_conv2d(rows, bfloat16_weight(weight), bias, 3, 1, 0.01)
    expected_nan = torch.zeros(2, 20, 20, dtype=torch.bool)
    expected_nan[1, 4:7, 9:12] = True
    assert torch.equal(found.isnan().all(-1), expected_nan) and torch.equal(found.isnan().any(-1), expected_nan)


@needs_units
def test_torch_accepts_the_operator():
    rows, weight, bias = tensors(0, 1, 40, 40, 5, 6, 3)
    for image in (rows, rows.half()):
        torch.library.opcheck(bfloat16_conv2d_rows, (image, bfloat16_weight(weight), bias, 3, 2, 0.01))


@needs_units
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": torch.rand(1, 5, 4, 40).bfloat16().permute(0, 2, 1, 3)}, "rows must be"),
        ({"rows": torch.rand(1, 4, 5, 40)}, "rows must be bfloat16 or float16, not torch.float32"),
        ({"rows": torch.rand(1, 4, 5, 70).bfloat16()}, "weight must be"),
        ({"kernel": 5}, "weight must be"),
        ({"bias": torch.rand(50)}, "weight must be"),
        ({"bias": torch.rand(20).double()}, "bias must be"),
    ],
)
def test_what_the_loop_would_read_outside_is_refused(change, message):
    rows, weight, bias = tensors(0, 1, 40, 20, 4, 5, 3)
    given = {"rows": rows, "weight": bfloat16_weight(weight), "bias": bias, "kernel": 3} | change
    with pytest.raises(ValueError, match=message):
        bfloat16_conv2d(**given, stride=1, slope=1.0)


def test_other_processors_are_told(monkeypatch):
    monkeypatch.setattr(bfloat16_conv, "has_matrix_units", lambda: False)
    rows, weight, bias = tensors(0, 1, 16, 16, 4, 5, 3)
    with pytest.raises(ValueError, match="no matrix units"):
        bfloat16_conv2d(rows, bfloat16_weight(weight), bias, 3, 1, 1.0)

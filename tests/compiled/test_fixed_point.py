import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_fganet.compiled import fixed_point
from nnunet_fganet.compiled.bilateral import gate_and_add, join
from nnunet_fganet.compiled.fixed_point import fixed_point_conv2d
from nnunet_fganet.compiled.fixed_point_weight import fixed_point_weight
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.compiled.operators import fixed_point_conv2d_rows
from nnunet_fganet.inference.packing import PackedConv2d

DTYPES = st.sampled_from([torch.float32, torch.float16])
needs_units = pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for 8-bit integers (AMX)")


def tensors(seed, batch, channels, out_channels, height, width, kernel):
    torch.manual_seed(seed)
    rows, weight = torch.randn(batch, height, width, channels), torch.randn(out_channels, channels, kernel, kernel)
    return rows.half(), weight, torch.randn(out_channels)


def expected(rows, weight, bias, stride, slope):
    given = rows.permute(0, 3, 1, 2).double(), weight.double(), bias.double()
    return functional.leaky_relu(functional.conv2d(*given, stride, weight.shape[-1] // 2), slope).permute(0, 2, 3, 1)


def largest_error(found, right):
    return ((found - right).abs().max() / right.abs().max()).item()


@needs_units
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    channels=st.integers(1, 70),
    out_channels=st.integers(1, 50),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    slope=st.sampled_from([0, 0.01, 1]),
    given=DTYPES,
    dtype=DTYPES,
)
def test_agrees_with_torch_in_double_precision(
    seed, batch, channels, out_channels, height, width, kernel, stride, slope, given, dtype
):
    rows, weight, bias = tensors(seed, batch, channels, out_channels, height, width, kernel)
    rows = rows.to(given)
    found = fixed_point_conv2d(rows, *fixed_point_weight(weight), bias, stride, slope, dtype)
    right = expected(rows, weight, bias, stride, slope)
    assert found.shape == right.shape and found.dtype == dtype
    rounding = right.abs().max() * 2**-11 if dtype == torch.float16 else 0
    assert (found - right).abs().max() < 3e-4 * weight.abs().amax() * (channels * kernel**2) ** 0.5 + rounding


@needs_units
@pytest.mark.parametrize("size", [(300, 7), (40, 400), (150, 150)])
@pytest.mark.parametrize("stride", [1, 2])
def test_images_of_many_parts(monkeypatch, size, stride):
    monkeypatch.setattr(fixed_point, "_PART_BYTES", 20_000)
    rows, weight, bias = tensors(0, 2, 20, 40, *size, 3)
    found = fixed_point_conv2d(rows, *fixed_point_weight(weight), bias, stride, 0.01, torch.float32)
    assert largest_error(found, expected(rows, weight, bias, stride, 0.01)) < 3e-4


def gated(rows, gate, coarse):
    out = torch.empty_like(rows)
    gate_and_add(rows, gate, coarse, out)
    return out


@needs_units
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 2),
    channels=st.sampled_from([3, 8, 16, 20, 32]),
    deep_channels=st.sampled_from([None, 5, 16, 32]),
    half_height=st.integers(1, 20),
    half_width=st.integers(1, 70),
    kernel=st.sampled_from([1, 3]),
    stride=st.integers(1, 2),
    dtype=DTYPES,
    part_bytes=st.sampled_from([4_000, 500_000]),
)
def test_images_that_are_made_as_they_are_read(
    seed, batch, channels, deep_channels, half_height, half_width, kernel, stride, dtype, part_bytes
):
    torch.manual_seed(seed)
    rows = torch.randn(batch, 2 * half_height, 2 * half_width, channels).to(dtype)
    halves = [torch.randn(batch, half_height, half_width, deep_channels or channels).to(dtype) for _ in range(2)]
    others, made = (halves, gated(rows, *halves)) if deep_channels is None else (halves[:1], join(rows, halves[0]))
    weight = torch.randn(20, made.shape[-1], kernel, kernel)
    given = *fixed_point_weight(weight), torch.randn(20), stride, 0.01, torch.float32
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixed_point, "_PART_BYTES", part_bytes)
        assert torch.equal(fixed_point_conv2d(rows, *given, others), fixed_point_conv2d(made, *given))


@needs_units
@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([torch.rand(1, 2, 2, 16).half()], "rows must be"),
        ([torch.rand(1, 2, 3, 16)], "others must be"),
        ([torch.rand(1, 2, 3, 15).half()], "weight must be"),
        ([torch.rand(1, 2, 3, 17).half(), torch.rand(1, 2, 3, 17).half()], "rows must be"),
        ([torch.rand(1, 2, 3, 16).half(), torch.rand(1, 2, 3, 8).half()], "others must be"),
        (3 * [torch.rand(1, 2, 3, 8).half()], "one or two others, not 3"),
    ],
)
def test_other_images_that_the_loop_would_read_outside_are_refused(others, message):
    rows, weight, bias = tensors(0, 1, 16, 24, 4, 6, 3)
    with pytest.raises(ValueError, match=message):
        fixed_point_conv2d(rows, *fixed_point_weight(weight), bias, 1, 1.0, torch.float32, others)


@needs_units
@pytest.mark.parametrize("scale", [2.0**-14, 1e-3, 1e4])
def test_scales_of_image_and_weights_do_not_matter(scale):
    rows, weight, bias = tensors(0, 1, 32, 32, 20, 20, 3)
    rows, weight = rows * scale, weight * torch.logspace(-6, 6, 32).view(-1, 1, 1, 1) / scale
    found = fixed_point_conv2d(rows, *fixed_point_weight(weight), bias * 0, 1, 1, torch.float32)
    right = expected(rows, weight, bias * 0, 1, 1)
    errors = (found - right).abs().amax((0, 1, 2)) / right.abs().amax((0, 1, 2))
    assert errors.max() < 3e-4  # in each channel of the output


@needs_units
def test_is_twenty_times_as_exact_as_bfloat16():
    rows, weight, bias = tensors(0, 1, 64, 64, 40, 40, 3)
    conv = torch.nn.Conv2d(64, 64, 3, padding=1)
    conv.weight.data, conv.bias.data = weight, bias
    right = expected(rows, weight, bias, 1, 1)
    rounded = PackedConv2d(conv, "none", torch.bfloat16)(rows.permute(0, 3, 1, 2).bfloat16()).permute(0, 2, 3, 1)
    found = fixed_point_conv2d(rows, *fixed_point_weight(weight), bias, 1, 1, torch.float32)
    assert 20 * (found - right).norm() < (rounded - right).norm()


@needs_units
def test_zeros_give_the_bias():
    _, weight, bias = tensors(0, 1, 32, 20, 1, 1, 3)
    given = (bias, 1, 1.0, torch.float32)
    assert torch.equal(
        fixed_point_conv2d(torch.zeros(1, 5, 6, 32).half(), *fixed_point_weight(weight), *given)[0, 2, 3], bias
    )
    found = fixed_point_conv2d(torch.randn(1, 5, 6, 32).half(), *fixed_point_weight(0 * weight), *given)
    assert torch.equal(found[0, 2, 3], bias)


@needs_units
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_seen(value):
    rows, weight, bias = tensors(0, 1, 32, 32, 20, 20, 3)
    rows[0, 10, 10, 3] = value
    found = fixed_point_conv2d(rows, *fixed_point_weight(weight), bias, 1, 0.01, torch.float32)
    assert not found[0, 9:12, 9:12].isfinite().any()


@needs_units
def test_what_is_not_finite_stays_in_its_part_and_image(monkeypatch):
    monkeypatch.setattr(fixed_point, "_PART_BYTES", 20_000)
    rows, weight, bias = tensors(0, 2, 32, 32, 60, 20, 3)
    rows[1, 5, 10, 3] = np.nan
    found = fixed_point_conv2d(rows, *fixed_point_weight(weight), bias, 1, 0.01, torch.float32)
    assert found[1, 4:7, 9:12].isnan().all()
    assert found[0].isfinite().all() and found[1, 40:].isfinite().all()


@needs_units
def test_sums_that_32_bits_do_not_hold_are_refused():
    rows, weight = torch.zeros(1, 1, 1, 8192).half(), torch.zeros(1, 8192, 3, 3)
    with pytest.raises(ValueError, match="32 bits do not hold the sums of 3 x 3 x 8192 products"):
        fixed_point_conv2d(rows, *fixed_point_weight(weight), torch.zeros(1), 1, 1.0, torch.float32)


@needs_units
def test_torch_accepts_the_operator():
    rows, weight, bias = tensors(0, 1, 16, 16, 5, 6, 3)
    terms = *fixed_point_weight(weight), bias, 2, 0.01, torch.float16
    torch.library.opcheck(fixed_point_conv2d_rows, (rows, *terms, []))
    twice, halves = torch.randn(1, 4, 6, 16).half(), torch.randn(1, 2, 3, 16).half()
    torch.library.opcheck(fixed_point_conv2d_rows, (twice, *terms, [halves, halves]))
    torch.library.opcheck(
        fixed_point_conv2d_rows, (twice[..., :4].contiguous(), *terms, [halves[..., :12].contiguous()])
    )


@needs_units
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": torch.rand(1, 5, 4, 16).half().permute(0, 2, 1, 3)}, "rows must be"),
        ({"rows": torch.rand(1, 4, 5, 16).bfloat16()}, "rows must be float16 or float32, not torch.bfloat16"),
        ({"rows": torch.rand(1, 4, 5, 40).half()}, "weight must be"),
        ({"bias": torch.rand(17)}, "weight must be"),
        ({"scale": torch.rand(15)}, "scale must be"),
    ],
)
def test_what_the_loop_would_read_outside_is_refused(change, message):
    rows, weight, bias = tensors(0, 1, 16, 16, 4, 5, 3)
    tiles, scale = fixed_point_weight(weight)
    given = {"rows": rows, "weight": tiles, "scale": scale, "bias": bias} | change
    with pytest.raises(ValueError, match=message):
        fixed_point_conv2d(**given, stride=1, slope=1.0, dtype=torch.float32)


def test_other_processors_are_told(monkeypatch):
    monkeypatch.setattr(fixed_point, "has_matrix_units", lambda: False)
    rows, weight, bias = tensors(0, 1, 16, 16, 4, 5, 3)
    with pytest.raises(ValueError, match="no matrix units"):
        fixed_point_conv2d(rows, *fixed_point_weight(weight), bias, 1, 1.0, torch.float32)

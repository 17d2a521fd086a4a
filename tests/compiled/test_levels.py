"""Deformable convolutions by 8-bit integers against torchvision's on the numbers that the levels stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import deform_conv2d

from nnunet_fganet.compiled import levels
from nnunet_fganet.compiled.levels import deform_conv2d_levels, level_weight, multiplies_levels
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.compiled.operators import deform_conv2d_level_rows
from nnunet_fganet.compiled.sampling import sample_columns, sample_levels
from nnunet_fganet.network.deform_gather import channel_rows, positions, weight_matrix

CHANNELS: list[int] = []
pytestmark = pytest.mark.skipif(not multiplies_levels(), reason="needs products of 8-bit integers (AMX, AVX-512 VNNI)")


@pytest.fixture(autouse=True, scope="module", params=[20, 64])
def usual_channels(request):
    """Of 64 channels samples are tiles of matrix units, where there are any; others go through oneDNN."""
    CHANNELS.append(request.param)
    yield
    CHANNELS.clear()


def case(seed, batch=2, channels=None, out_channels=12, height=9, width=11, modulated=False):
    torch.manual_seed(seed)
    channels = channels or CHANNELS[0]
    x, offset = torch.randn(batch, channels, height, width), 3 * torch.randn(batch, 18, height, width)
    weight, bias = torch.randn(out_channels, channels, 3, 3), torch.randn(out_channels)
    return x, offset, torch.rand(batch, 9, height, width) if modulated else None, weight, bias


def convolved(x, offset, mask, weight, bias):
    rows = deform_conv2d_levels(
        channel_rows(x),
        *positions(offset, mask),
        *x.shape[2:],
        *level_weight(weight_matrix(weight), weight.shape[1]),
        bias,
    )
    return rows.view(len(x), *x.shape[2:], len(bias)).permute(0, 3, 1, 2)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    channels=st.integers(1, 70),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    modulated=st.booleans(),
    block=st.integers(1, 40),
)
def test_a_hundredth_is_rounded(seed, batch, channels, height, width, modulated, block):
    x, offset, mask, weight, bias = case(seed, batch, channels, 12, height, width, modulated)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels, "BLOCK", block)
        out = convolved(x, offset, mask, weight, bias)
    expected = deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
    # Half a step of the levels and of the weights in each product, of which a sum holds as many as there are.
    products = 9 * channels
    step, unit = (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).clamp(min=1) / 250, weight.abs().amax((1, 2, 3)) / 127
    bound = products**0.5 * (step[:, None] * weight.abs().amax() + unit * x.abs().amax())
    assert ((out - expected).abs() <= 3 * bound[..., None, None]).all()


def test_what_levels_hold_is_exact():
    torch.manual_seed(0)
    x = torch.randint(-100, 155, (1, 40, 9, 11)).float()  # with the steps that the loop takes whole numbers are levels
    x[0, 0, 0, :2] = torch.tensor([-100.0, 154.0])
    weight = torch.randint(-127, 128, (12, 40, 3, 3)).float()
    weight[:, 0, 0, 0] = 127
    offset = torch.randint(-3, 4, (1, 18, 9, 11)).float()
    bias = torch.randn(12)
    expected = deform_conv2d(x.double(), offset.double(), weight.double(), bias.double(), padding=1).float()
    torch.testing.assert_close(convolved(x, offset, None, weight, bias), expected, rtol=1e-5, atol=0.1)


@pytest.mark.parametrize("modulated", [True, False])
def test_an_offset_that_is_nan_makes_nan_of_its_pixel(modulated):
    x, offset, mask, weight, bias = case(0, modulated=modulated)
    offset[1, 4, 2, 3] = torch.nan
    offset[0, 5, 6, 7] = torch.inf
    if modulated:
        mask[0, 3, 1, 1] = torch.nan
    out = convolved(x, offset, mask, weight, bias)
    expected = torch.zeros(2, 9, 11, dtype=torch.bool)
    expected[1, 2, 3], expected[0, 1, 1] = True, modulated
    assert torch.equal(out.isnan().all(1), expected)
    assert torch.equal(out.isnan().any(1), expected)


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_makes_nan_of_its_image(number):
    x, offset, mask, weight, bias = case(0)
    right = convolved(x, offset, mask, weight, bias)
    x[0, 3, 4, 5] = number
    out = convolved(x, offset, mask, weight, bias)
    assert out[0].isnan().all()
    assert torch.equal(out[1], right[1])


@pytest.mark.parametrize("number", [0.0, 1e-40, 3.0, -3.0])
def test_images_of_one_number(number):
    x, offset, _, weight, bias = case(0)
    x.fill_(number)
    expected = deform_conv2d(x, offset, weight, bias, padding=1)
    torch.testing.assert_close(convolved(x, offset, None, weight, bias), expected, rtol=0.02, atol=1)


def test_weights_of_zeros():
    x, offset, _, weight, bias = case(0)
    weight[3] = 0
    assert (convolved(x, offset, None, weight, bias)[:, 3] == bias[3]).all()


def test_an_image_alone_is_the_image_in_a_batch():
    x, offset, _, weight, bias = case(0)
    x[1] *= 100
    alone = convolved(x[:1], offset[:1], None, weight, bias)
    assert torch.equal(convolved(x, offset, None, weight, bias)[:1], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_samples_in_levels_are_samples(dtype):
    x, offset, mask, *_ = case(0, channels=37, modulated=True)
    rows, (offset, mask) = channel_rows(x.to(dtype)), positions(offset, mask)
    offset[5, 2, 0] = torch.nan
    low, high = float(rows.min()), float(rows.max())
    step = (high - low) / 254
    zero = -int(low / step // 1)
    found, exact = torch.zeros(50, 9, 37, dtype=torch.uint8), torch.zeros(50, 9, 37)
    sample_levels(rows, offset, mask, (9, 11), 0, step, zero, found)
    sample_columns(rows.float(), offset, mask, (9, 11), 0, exact)
    assert (found[5, 2] == 0).all()
    found[5, 2], exact[5, 2] = zero, 0
    assert ((found.float() - zero) * step - exact).abs().max() <= 0.51 * step
    with pytest.raises(ValueError, match="columns must be"):
        sample_levels(rows, offset, mask, (9, 11), 0, step, zero, found[..., :30])


@torch.no_grad()
def test_torch_accepts_the_operator():
    x, offset, mask, weight, bias = case(0, modulated=True)
    args = (
        channel_rows(x),
        *positions(offset, mask),
        9,
        11,
        *level_weight(weight_matrix(weight), weight.shape[1]),
        bias,
    )
    recorded = torch.compile(
        deform_conv2d_level_rows, backend="aot_eager", fullgraph=True
    )  # opcheck: no packed weights
    assert torch.equal(recorded(*args), deform_conv2d_level_rows(*args))


@pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for 8-bit integers (AMX)")
@pytest.mark.parametrize("modulated", [True, False])
def test_matrix_units_and_dot_products_agree(monkeypatch, modulated):
    x, offset, mask, weight, bias = case(0, channels=64, modulated=modulated)
    by_units = convolved(x, offset, mask, weight, bias)
    monkeypatch.setattr(levels, "multiplies_samples", lambda *given, **more: False)
    torch.testing.assert_close(by_units, convolved(x, offset, mask, weight, bias), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for 8-bit integers (AMX)")
@pytest.mark.parametrize("scale", [0, 1e-6, 1e-3, 0.03, 1.0, 100.0, 8000.0])
@pytest.mark.parametrize("modulated", [True, False])
def test_images_in_float16_of_any_scale(scale, modulated):
    x, offset, mask, weight, bias = case(0, channels=64, modulated=modulated)
    x, bias = (scale * x).half(), 0 * bias
    out = convolved(x, offset, mask, weight, bias)
    exact = deform_conv2d(x.float(), offset, weight, bias, padding=1, mask=mask)
    assert out.dtype == torch.float16
    kept = exact.clamp(-65504, 65504)
    assert (out.float() - kept).norm() <= 0.03 * exact.norm() + 1e-6

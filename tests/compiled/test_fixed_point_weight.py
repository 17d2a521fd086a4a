import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_fganet.compiled.fixed_point import fixed_point_conv2d
from nnunet_fganet.compiled.fixed_point_weight import fixed_point_weight
from nnunet_fganet.compiled.integers import LARGEST
from nnunet_fganet.compiled.matrix_units import PANEL, STEP, has_matrix_units

needs_units = pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for 8-bit integers (AMX)")


def weights(seed, out_channels, channels, kernel, layout=torch.channels_last):
    torch.manual_seed(seed)
    sizes = torch.logspace(-6, 6, out_channels).view(-1, 1, 1, 1)
    return (torch.randn(out_channels, channels, kernel, kernel) * sizes).contiguous(memory_format=layout)


def integers(tiles):
    """``(output channels, kernel rows, numbers of a row)``, with what fills the last tiles."""
    assert tiles.dtype == torch.int8 and tiles.is_contiguous()
    panels, kernel, steps = tiles.shape[:3]
    high, low = tiles.permute(3, 0, 5, 1, 2, 4, 6).reshape(2, panels * PANEL, kernel, steps * STEP).int()
    return 256 * high + low


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    out_channels=st.integers(1, 50),
    channels=st.integers(1, 90),
    kernel=st.sampled_from([1, 3, 5]),
    layout=st.sampled_from([torch.channels_last, torch.contiguous_format]),
)
def test_each_weight_is_its_integer_times_its_channels_scale(seed, out_channels, channels, kernel, layout):
    weight = weights(seed, out_channels, channels, kernel, layout)
    tiles, scale = fixed_point_weight(weight)
    found, length = integers(tiles), kernel * channels
    expected = weight.permute(0, 2, 3, 1).flatten(2).double()
    exact = expected / scale.double().view(-1, 1, 1)
    assert (found[:out_channels, :, :length] - exact).abs().max() <= 0.51
    assert found.abs().amax((1, 2))[:out_channels].eq(LARGEST).all()  # nothing of the range is left unused
    assert found[out_channels:].eq(0).all() and found[:, :, length:].eq(0).all()


@pytest.mark.parametrize("shape", [(20, 7, 3, 3), (33, 130, 1, 1)])
def test_a_copy_is_the_weights_rounded(shape):
    weight = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    lines = weight.permute(0, 2, 3, 1).flatten(1)
    rounded = torch.empty_like(lines, dtype=torch.bfloat16)
    for found, expected in zip(fixed_point_weight(weight, rounded), fixed_point_weight(weight), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(rounded, lines.bfloat16())
    with pytest.raises(ValueError, match="rounded must be"):
        fixed_point_weight(weight, lines)


@pytest.mark.parametrize("largest", [1e-36, 1e-41, 0.0])
def test_next_to_nothing(largest):
    weight = largest * (1 - 2 * torch.rand(1, 3, 3, 3))
    tiles, scale = fixed_point_weight(weight)
    found = integers(tiles)[:1, :, :9] * scale.double()
    assert (found - weight.permute(0, 2, 3, 1).flatten(2)).abs().max() <= 0.51 * torch.finfo(torch.float32).tiny


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_leaves_no_finite_scale(value):
    """So that no output of the channel is taken for a number."""
    weight = weights(0, 3, 4, 3)
    weight[1, 2, 0, 1] = value
    scale = fixed_point_weight(weight)[1]
    assert scale.isfinite().tolist() == [True, False, True]


@needs_units
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_of_weights_that_are_not_finite_are_nan(value):
    weight = weights(0, 3, 4, 3)
    weight[1, 2, 0, 1] = value
    rows = torch.randn(1, 5, 6, 4).half()
    found = fixed_point_conv2d(rows, *fixed_point_weight(weight), torch.zeros(3), 1, 1.0, torch.float32)
    assert found[..., 1].isnan().all() and found[..., ::2].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_tiles_do_not_depend_on_torchs_default_dtype(dtype):
    weight = weights(0, 20, 5, 3)
    expected = fixed_point_weight(weight)
    torch.set_default_dtype(dtype)
    try:
        found = fixed_point_weight(weight)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])

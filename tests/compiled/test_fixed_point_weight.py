import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_fganet.compiled.fixed_point_weight import fixed_point_weight
from nnunet_fganet.compiled.integers import LARGEST
from nnunet_fganet.compiled.matrix_units import PANEL, STEP


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


def test_nothing_and_next_to_nothing():
    weight = torch.zeros(2, 3, 3, 3)
    weight[1] = 1e-41 * torch.randn(3, 3, 3)
    tiles, scale = fixed_point_weight(weight)
    assert integers(tiles)[0].eq(0).all() and scale[0] == 0
    assert integers(tiles).abs().max() <= LARGEST and scale.isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_leaves_no_finite_scale(value):
    """So that no output of the channel is taken for a number."""
    weight = weights(0, 3, 4, 3)
    weight[1, 2, 0, 1] = value
    scale = fixed_point_weight(weight)[1]
    assert scale.isfinite().tolist() == [True, False, True]

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_fganet.compiled import winograd_gradient as module
from nnunet_fganet.compiled.lanes import LANES
from nnunet_fganet.compiled.winograd_gradient import winograd_weight_gradient
from nnunet_fganet.network.deform_gather import channel_rows


def exact(x, gradient):
    weight = torch.zeros(gradient.shape[1], x.shape[1], 3, 3, dtype=torch.float64)
    given = (gradient.double(), x.double(), weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    return torch.ops.aten.convolution_backward(*given, [False, True, False])[1]


def computed(x, gradient):
    return winograd_weight_gradient(channel_rows(x), channel_rows(gradient), *x.shape[2:])


def images(batch, channels, out_channels, height, width):
    return torch.randn(batch, channels, height, width), torch.randn(batch, out_channels, height, width)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    channels=st.integers(16, 40),
    out_channels=st.integers(16, 40),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
)
def test_any_shape_agrees_with_double_precision(seed, batch, channels, out_channels, height, width):
    torch.manual_seed(seed)
    x, gradient = images(batch, channels, out_channels, height, width)
    assert (computed(x, gradient) - exact(x, gradient)).abs().max() < 3e-5 * exact(x.abs(), gradient.abs()).max()


@pytest.mark.parametrize("threads, size", [(1, 2**26), (3, 2**26), (3, 0), (64, 10**6)])
def test_bands_of_tiles_and_shares_of_the_panels_give_the_same(threads, size, monkeypatch):
    monkeypatch.setattr(module, "_BYTES", size)
    x, gradient = images(2, 19, 50, 29, 33)
    with mock.patch.object(torch, "get_num_threads", return_value=threads):
        found = computed(x, gradient)
    torch.testing.assert_close(found, exact(x, gradient).float(), rtol=1e-3, atol=1e-2)


@given(threads=st.integers(1, 64), size=st.integers(1, 10**8), panels=st.integers(1, 64))
def test_all_threads_work_and_sums_stay_small(threads, size, panels):
    with mock.patch.object(torch, "get_num_threads", return_value=threads):
        bands, shares = module._division(size, panels)
    assert 1 <= bands <= threads and 1 <= shares <= panels
    assert bands == 1 or bands * size <= module._BYTES
    assert bands * shares >= min(threads, bands * panels)


def test_a_value_that_is_not_finite_stays_in_its_channel():
    x, gradient = images(1, 16, 20, 9, 9)
    x[0, 3, 4, 4] = float("nan")
    found = computed(x, gradient)
    others = [channel for channel in range(16) if channel != 3]
    assert found[:, 3].isnan().all() and found[:, others].isfinite().all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rows": torch.randn(15, 16), "gradient": torch.randn(15, 16)}, "15 rows are no images of 4 x 4 pixels"),
        ({"rows": torch.randn(0, 16), "gradient": torch.randn(0, 16)}, "0 rows"),
        ({"height": 0}, "no images of 0 x 4"),
        ({"rows": torch.randn(16, 8)}, f"8 channels in and 16 out, where at least {LANES}"),
        ({"gradient": torch.randn(16, 8)}, "16 channels in and 8 out"),
        ({"gradient": torch.randn(15, 16)}, "gradient must be"),
        ({"gradient": torch.randn(16, 16).bfloat16()}, "gradient must be contiguous torch.float32"),
        ({"rows": torch.randn(16, 16).t()}, "rows must be contiguous"),
    ],
)
def test_what_the_loops_would_read_outside_is_refused(change, message):
    given = {"rows": torch.randn(16, 16), "gradient": torch.randn(16, 16), "height": 4, "width": 4}
    with pytest.raises(ValueError, match=message):
        winograd_weight_gradient(**(given | change))

import os
import subprocess
import sys
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_fganet.compiled import winograd
from nnunet_fganet.compiled.lanes import LANES
from nnunet_fganet.compiled.operators import winograd_conv2d_rows
from nnunet_fganet.compiled.winograd import transformed_weight, winograd_conv2d


def convolve(x, weight, bias, slope):
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels).contiguous()
    out = winograd_conv2d(rows, height, width, transformed_weight(weight), bias, slope)
    return out.view(batch, height, width, -1).permute(0, 3, 1, 2)


def exact(x, weight, bias, slope):
    out = functional.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    return functional.leaky_relu(out, slope)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 3),
    channels=st.integers(16, 40),
    out_channels=st.integers(16, 40),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    slope=st.sampled_from([0.0, 0.01, 1.0]),
)
def test_any_shape_agrees_with_a_convolution_in_double_precision(
    seed, batch, channels, out_channels, height, width, slope
):
    torch.manual_seed(seed)
    x, weight = torch.randn(batch, channels, height, width), torch.randn(out_channels, channels, 3, 3)
    bias = torch.randn(out_channels)
    expected = exact(x, weight, bias, slope)
    error = (convolve(x, weight, bias, slope) - expected).abs().max()
    assert error < 3e-5 * exact(x.abs(), weight.abs(), bias.abs(), 1).max()


@pytest.mark.parametrize("few, cached_bytes, parts", [(1, 1e9, 1), (5, 0, 2), (13, 1e9, 64)])
def test_groups_of_any_size_and_shares_of_the_panels_give_the_same(monkeypatch, few, cached_bytes, parts):
    monkeypatch.setattr(winograd, "_FEW_TILES", few)
    monkeypatch.setattr(winograd, "_MANY_TILES", few + 1)
    monkeypatch.setattr(winograd, "_CACHED_BYTES", cached_bytes)
    monkeypatch.setattr(winograd, "_PARTS_A_THREAD", parts)
    x, weight, bias = torch.randn(2, 33, 18, 21), torch.randn(70, 33, 3, 3), torch.randn(70)
    torch.testing.assert_close(
        convolve(x, weight, bias, 0.0), exact(x, weight, bias, 0.0).float(), rtol=1e-3, atol=1e-3
    )


@given(tiles=st.integers(1, 400), panels=st.integers(1, 40), threads=st.integers(1, 64))
def test_groups_cover_all_tiles_and_hardly_one_twice(tiles, panels, threads):
    with mock.patch.object(torch, "get_num_threads", return_value=threads):
        groups, at_once, shares = winograd._division(tiles, torch.empty(panels, 36, 16, LANES, device="meta"))
    assert 0 <= groups * at_once - tiles < groups and 1 <= shares <= panels
    assert groups * shares >= min(threads, groups * panels)


def test_fewer_rows_at_a_time_as_without_avx512_give_the_same():
    program = """
import llvmlite.binding
llvmlite.binding.get_host_cpu_features = dict
import torch
from torch.nn import functional
from nnunet_fganet.compiled.products import HEIGHT
from nnunet_fganet.compiled.operators import winograd_conv2d_rows
from nnunet_fganet.compiled.winograd import transformed_weight, winograd_conv2d
from nnunet_fganet.compiled.winograd_gradient import winograd_weight_gradient
torch.manual_seed(0)
x, weight, bias = torch.randn(1, 24, 17, 9), torch.randn(40, 24, 3, 3), torch.randn(40)
rows = x.permute(0, 2, 3, 1).reshape(-1, 24).contiguous()
out = winograd_conv2d(rows, 17, 9, transformed_weight(weight), bias, 1.0).view(17, 9, 40).permute(2, 0, 1)
weight.requires_grad_()
expected = functional.conv2d(x, weight, bias, padding=1)
(expected * x[:, :1]).sum().backward()
gradient = winograd_weight_gradient(rows, x[:, :1].flatten()[:, None].repeat(1, 40), 17, 9)
print(HEIGHT, *(torch.allclose(*pair, rtol=1e-3, atol=1e-3) for pair in ((out, expected[0]), (gradient, weight.grad))))
"""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout == "6 True True\n", done.stderr


def test_torch_knows_the_operator():
    rows, weight = torch.randn(2 * 5 * 7, 18), transformed_weight(torch.randn(33, 18, 3, 3))
    torch.library.opcheck(winograd_conv2d_rows, (rows, 5, 7, weight, torch.randn(33), 0.01))


def test_no_value_reaches_further_than_a_pixel():
    x = torch.zeros(1, 16, 16, 16)
    x[0, :, 7, 8] = float("nan")
    out = convolve(x, torch.randn(16, 16, 3, 3), torch.zeros(16), 1.0)
    # NaN spreads over the tiles that hold it, never beyond: from rows 4 to 11 and columns 4 to 11.
    assert out[0, :, 6:9, 7:10].isnan().all()
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[4:12, 4:12] = False
    assert out[0, :, outside].isfinite().all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rows": torch.randn(15, 16)}, "15 rows are no images of 4 x 4 pixels"),
        ({"rows": torch.randn(0, 16)}, "0 rows"),
        ({"height": 0}, "no images of 0 x 4"),
        ({"rows": torch.randn(16, 17)}, "weight must be"),
        ({"rows": torch.randn(16, 16).bfloat16()}, "rows must be contiguous torch.float32"),
        ({"rows": torch.randn(16, 16).t()}, "rows must be contiguous"),
        ({"bias": torch.randn(8)}, "16 channels in and 8 out"),
        ({"weight": torch.randn(1, 36, 8, LANES)}, "weight must be"),
        ({"weight": torch.randn(1, 36, 16, LANES).double()}, "weight must be"),
        ({"bias": torch.randn(LANES + 1)}, "weight must be"),
        ({"bias": torch.randn(32)[::2]}, "bias must be"),
    ],
)
def test_what_the_loops_would_read_outside_is_refused(change, message):
    given = {"rows": torch.randn(16, 16), "height": 4, "width": 4, "weight": torch.randn(1, 36, 16, LANES)}
    with pytest.raises(ValueError, match=message):
        winograd_conv2d(**(given | {"bias": torch.randn(16), "slope": 1.0} | change))

"""Convolutions made ready, one by one."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunet_fganet.compiled import operators
from nnunet_fganet.compiled.levels import multiplies_levels
from nnunet_fganet.compiled.matrix_units import has_matrix_units
from nnunet_fganet.inference.deform import CHANNELS_OF_LEVELS, PackedDeformConv2d
from nnunet_fganet.inference.packing import (
    Bfloat16Conv2d,
    DepthwiseConv2d,
    FixedPointConv2d,
    PackedConv2d,
    WinogradConv2d,
    pack_convolution,
    pack_convolutions,
)
from nnunet_fganet.network.deform_conv import DeformConv2d, deform_conv2d


@pytest.mark.parametrize("kernel_size, stride, groups", [(3, 1, 1), (1, 1, 1), (3, 2, 1), (3, 1, 4)])
@pytest.mark.parametrize("packed", [True, False])
def test_packed_convolution(monkeypatch, kernel_size, stride, groups, packed):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: packed)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.Dropout(0.5),
        torch.nn.LeakyReLU(0.01),
        torch.nn.Conv2d(8, 8, 1),
        torch.nn.ReLU(),
        torch.nn.LeakyReLU(0.2),
    )
    torch.nn.init.normal_(layers[1].running_mean)
    layers.eval()
    x = torch.randn(2, 4, 9, 7)
    ready = pack_convolutions(layers, torch.float32)
    assert [type(layer) for layer in ready] == [PackedConv2d, PackedConv2d, torch.nn.LeakyReLU]
    with torch.no_grad():
        torch.testing.assert_close(ready(x.contiguous(memory_format=torch.channels_last)), layers(x))


@pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for 8-bit integers (AMX)")
@pytest.mark.parametrize("channels, kinds", [(64, [FixedPointConv2d]), (72, [DepthwiseConv2d, FixedPointConv2d])])
@torch.no_grad()
def test_narrow_separable_convolutions_become_one(channels, kinds):
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        torch.nn.BatchNorm2d(channels),
        torch.nn.Conv2d(channels, 24, 1, bias=False),
    ).eval()
    torch.nn.init.normal_(layers[1].running_mean)
    ready = pack_convolutions(layers, torch.float16)
    assert [type(layer) for layer in ready] == kinds
    x = torch.randn(2, channels, 20, 17).half().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ready(x).float(), layers(x.float()), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("activation, slope", [("none", 1), ("relu", 0), ("leaky_relu", 0.01)])
@pytest.mark.parametrize("size", [(32, 30), (9, 7)], ids=["in_tiles", "too_small_for_tiles"])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_winograd_convolution(activation, slope, size, bias):
    conv = torch.nn.Conv2d(256, 18, 3, padding=1, bias=bias)
    ready = pack_convolution(conv, activation, torch.float32)
    assert type(ready) is WinogradConv2d
    x = torch.randn(2, 256, *size).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ready(x), functional.leaky_relu(conv(x), slope), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "conv",
    [
        torch.nn.Conv2d(15, 64, 3, padding=1),
        torch.nn.Conv2d(256, 15, 3, padding=1),
        torch.nn.Conv2d(64, 64, 1),
        torch.nn.Conv2d(64, 64, 3, padding=1, stride=2),
        torch.nn.Conv2d(64, 64, 3, padding=1, groups=64),
    ],
)
def test_other_convolutions_are_not_winograds(conv):
    assert type(pack_convolution(conv, "none", torch.float32)) is PackedConv2d
    assert type(pack_convolution(torch.nn.Conv2d(64, 64, 3, padding=1), "none", torch.bfloat16)) is PackedConv2d


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("modulated", [True, False])
@torch.no_grad()
def test_packed_deformable_convolution(monkeypatch, dtype, packed, modulated):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: packed)
    monkeypatch.setattr(operators, "BLOCK", 100)  # two whole blocks of the image's pixels, and a rest
    conv = DeformConv2d(16, 20)
    ready = PackedDeformConv2d(conv, dtype)
    x = torch.randn(2, 16, 11, 12).to(dtype).contiguous(memory_format=torch.channels_last)
    offset, mask = torch.randn(2, 18, 11, 12), torch.rand(2, 9, 11, 12) if modulated else None
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    expected = deform_conv2d(x.float(), offset, conv.weight, conv.bias, mask, backend="torchvision")
    torch.testing.assert_close(ready(x, offset, mask).float(), expected, **tolerance)


@pytest.mark.skipif(not multiplies_levels(), reason="needs products of 8-bit integers (AMX, AVX-512 VNNI)")
@pytest.mark.parametrize("modulated", [True, False])
@torch.no_grad()
def test_wide_deformable_convolutions_that_may_be_rounded_multiply_8_bits(monkeypatch, modulated):
    torch.manual_seed(0)
    conv = DeformConv2d(CHANNELS_OF_LEVELS, 20)
    assert not PackedDeformConv2d(conv, torch.bfloat16).in_levels
    conv.by_integers = True
    ready = PackedDeformConv2d(conv, torch.bfloat16)
    assert ready.in_levels
    assert not PackedDeformConv2d(conv, torch.float32).in_levels
    x = torch.randn(2, CHANNELS_OF_LEVELS, 11, 12).bfloat16().contiguous(memory_format=torch.channels_last)
    offset, mask = torch.randn(2, 18, 11, 12), torch.rand(2, 9, 11, 12) if modulated else None
    expected = deform_conv2d(x.float(), offset, conv.weight, conv.bias, mask, backend="torchvision")
    out = ready(x, offset, mask)
    assert out.dtype == torch.bfloat16
    assert (out.float() - expected).norm() <= 0.03 * expected.norm()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not PackedDeformConv2d(conv, torch.bfloat16).in_levels
    narrow = DeformConv2d(CHANNELS_OF_LEVELS - 8, 20)
    narrow.by_integers = True
    assert not PackedDeformConv2d(narrow, torch.bfloat16).in_levels


@pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for bfloat16 (AMX)")
@pytest.mark.parametrize(
    ("channels", "out_channels", "kernel", "stride", "groups", "kind"),
    [
        (256, 20, 3, 1, 1, Bfloat16Conv2d),
        (256, 20, 3, 2, 1, Bfloat16Conv2d),
        (256, 256, 1, 1, 1, PackedConv2d),
        (256, 256, 3, 1, 256, PackedConv2d),
        (248, 20, 3, 1, 1, PackedConv2d),
    ],
)
@torch.no_grad()
def test_many_channels_in_bfloat16_go_through_loops_of_ours(channels, out_channels, kernel, stride, groups, kind):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, groups=groups)
    packed = pack_convolution(conv, "leaky_relu", torch.bfloat16)
    assert type(packed) is kind
    x = torch.randn(2, channels, 9, 12).bfloat16().contiguous(memory_format=torch.channels_last)
    expected = functional.leaky_relu(conv(x.float()), 0.01)
    out = packed(x)
    assert out.dtype == torch.bfloat16 and out.is_contiguous(memory_format=torch.channels_last)
    assert (out.float() - expected).norm() <= 0.01 * expected.norm()


@pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for bfloat16 (AMX)")
@pytest.mark.parametrize("modulated", [True, False])
@torch.no_grad()
def test_deformable_convolutions_in_bfloat16_multiply_samples_in_tiles(modulated):
    torch.manual_seed(0)
    conv = DeformConv2d(32, 20)
    ready = PackedDeformConv2d(conv, torch.bfloat16)
    assert ready.weight.shape == (1, 9, 2, 16, 16, 2)
    x = torch.randn(2, 32, 11, 12).bfloat16().contiguous(memory_format=torch.channels_last)
    offset, mask = torch.randn(2, 18, 11, 12), torch.rand(2, 9, 11, 12) if modulated else None
    offset[0, 0, 5, 6] = torch.nan
    expected = deform_conv2d(x.float(), offset, conv.weight, conv.bias, mask, backend="torchvision")
    torch.testing.assert_close(ready(x, offset, mask).float(), expected, rtol=2e-2, atol=2e-2, equal_nan=True)
    assert torch.float16 in ready.takes
    halves = ready(x.half(), offset, mask)
    assert halves.dtype == torch.float16
    torch.testing.assert_close(halves.float(), expected, rtol=2e-2, atol=2e-2, equal_nan=True)


def test_packing_leaves_the_layers_as_they_were():
    layers = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.Conv2d(4, 6, 1)).eval()
    x = torch.randn(1, 4, 6, 7)
    with torch.no_grad():
        expected = layers(x)
        ready = pack_convolutions(layers, torch.float32)
        assert ready[0].bias is None  # moved into the second one's
        torch.testing.assert_close(ready(x.contiguous(memory_format=torch.channels_last)), expected)
        torch.testing.assert_close(layers(x), expected)


@pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for 8-bit integers (AMX)")
@pytest.mark.parametrize(
    "conv",
    [
        torch.nn.Conv2d(16, 16, 2),
        torch.nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        torch.nn.Conv2d(16, 16, 3, padding=1, groups=4),
        torch.nn.Conv2d(16, 16, 3, padding=1, groups=16, stride=2),
    ],
)
def test_convolutions_that_no_loop_computes_are_refused(conv):
    with pytest.raises(ValueError, match="no loop computes Conv2d"):
        pack_convolution(conv, "none", torch.float16)


@pytest.mark.skipif(not has_matrix_units(), reason="needs matrix units for 8-bit integers (AMX)")
def test_a_frame_of_several_channels_is_not_rounded_to_float16():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, padding=1)
    frame = 1000 + torch.rand(1, 3, 20, 30)  # in float16 neighbours of these are 0.5 apart
    with torch.no_grad():
        expected = conv(frame)
        found = FixedPointConv2d(conv, "none", torch.float32)(frame)
        rounded = FixedPointConv2d(conv, "none", torch.float32)(frame.half())
    assert (found - expected).abs().max() < 0.2 * (rounded - expected).abs().max()

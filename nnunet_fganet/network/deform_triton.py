"""Deformable convolution on GPUs as one Triton kernel: samples are multiplied as they are gathered.

torchvision's kernel writes all samples to memory, k x k times the image, before it multiplies them,
and computes in float32 wherever autocast meets it. Here samples stay in registers, positions are
float32, and products have the dtype of the image with float32 sums.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

_BLOCK_PIXELS, _BLOCK_IN, _BLOCK_OUT = 64, 32, 64


def deform_conv2d_triton(
    x: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """See :func:`nnunet_fganet.network.deform_conv.deform_conv2d`; differentiated by torchvision's kernels."""
    return _TritonDeformConv.apply(x, offset, weight, bias, mask)


class _TritonDeformConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        offset: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, offset, weight, bias, mask)
        return _launch(x, offset, weight, bias, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved = ctx.saved_tensors
        leaves = [each if each is None else each.detach().float().requires_grad_() for each in saved]
        x, offset, weight, bias, mask = leaves
        padding = saved[2].shape[-1] // 2
        with torch.enable_grad():
            out = torchvision_deform_conv2d(x, offset, weight, bias, padding=padding, mask=mask)
        wanted = [each for each in leaves if each is not None]
        found = iter(torch.autograd.grad(out, wanted, gradient.float()))
        return tuple(None if each is None else next(found).to(each.dtype) for each in saved)


def _launch(
    x: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    batch, channels, height, width = x.shape
    out_channels, _, kernel_size, _ = weight.shape
    rows = x.permute(0, 2, 3, 1).contiguous()
    offset_rows = offset.permute(0, 2, 3, 1).contiguous()
    mask_rows = offset_rows if mask is None else mask.permute(0, 2, 3, 1).contiguous()
    matrix = weight.permute(2, 3, 1, 0).contiguous()  # tap, channel, out channel
    out = x.new_empty(batch, height, width, out_channels)
    pixels = batch * height * width
    grid = (triton.cdiv(pixels, _BLOCK_PIXELS), triton.cdiv(out_channels, _BLOCK_OUT))
    arguments: tuple[Any, ...] = (rows, offset_rows, mask_rows, matrix, matrix if bias is None else bias, out)
    _deform_conv2d[grid](
        *arguments,
        pixels,
        height,
        width,
        channels,
        out_channels,
        KERNEL_SIZE=kernel_size,
        HAS_MASK=mask is not None,
        HAS_BIAS=bias is not None,
        BLOCK_PIXELS=_BLOCK_PIXELS,
        BLOCK_IN=_BLOCK_IN,
        BLOCK_OUT=_BLOCK_OUT,
    )
    return out.permute(0, 3, 1, 2)


@triton.jit
def _deform_conv2d(  # type: ignore[no-untyped-def]  # Triton finds types itself
    x,
    offset,
    mask,
    weight,
    bias,
    out,
    pixels,
    height,
    width,
    channels,
    out_channels,
    KERNEL_SIZE: tl.constexpr,
    HAS_MASK: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """One block of output pixels by one block of output channels; all images are channels-last rows."""
    taps: tl.constexpr = KERNEL_SIZE * KERNEL_SIZE
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    inside = pixel < pixels
    out_channel = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    column = pixel % width
    row = (pixel // width) % height
    first = pixel - row * width - column  # pixel (0, 0) of the same image
    total = tl.zeros((BLOCK_PIXELS, BLOCK_OUT), dtype=tl.float32)
    for tap in range(taps):
        to_row = tl.load(offset + pixel * (2 * taps) + 2 * tap, mask=inside, other=0.0).to(tl.float32)
        to_column = tl.load(offset + pixel * (2 * taps) + 2 * tap + 1, mask=inside, other=0.0).to(tl.float32)
        y = row.to(tl.float32) + (tap // KERNEL_SIZE - KERNEL_SIZE // 2) + to_row
        z = column.to(tl.float32) + (tap % KERNEL_SIZE - KERNEL_SIZE // 2) + to_column
        # Positions far outside read zeros; NaN stays NaN in the weights and reads pixel 0.
        low_y = tl.floor(tl.where(y > height, height + 0.0, tl.where(y >= -1, y, -2.0)))
        low_z = tl.floor(tl.where(z > width, width + 0.0, tl.where(z >= -1, z, -2.0)))
        part_y = tl.where((y <= height) & (y >= -1), y - low_y, tl.where(y == y, 0.0, y))
        part_z = tl.where((z <= width) & (z >= -1), z - low_z, tl.where(z == z, 0.0, z))
        if HAS_MASK:
            factor = tl.load(mask + pixel * taps + tap, mask=inside, other=0.0).to(tl.float32)
        else:
            factor = tl.full((BLOCK_PIXELS,), 1.0, dtype=tl.float32)
        top = low_y.to(tl.int64)
        left = low_z.to(tl.int64)
        at = first + top * width + left
        in_top = inside & (top >= 0) & (top < height)
        in_bottom = inside & (top >= -1) & (top < height - 1)
        in_left = (left >= 0) & (left < width)
        in_right = (left >= -1) & (left < width - 1)
        top_left = (1 - part_y) * (1 - part_z) * factor
        top_right = (1 - part_y) * part_z * factor
        bottom_left = part_y * (1 - part_z) * factor
        bottom_right = part_y * part_z * factor
        for start in range(0, channels, BLOCK_IN):
            channel = start + tl.arange(0, BLOCK_IN)
            known = (channel < channels)[None, :]
            source = x + at[:, None] * channels + channel[None, :]
            sample = _corner(source, (in_top & in_left)[:, None] & known, top_left)
            sample += _corner(source + channels, (in_top & in_right)[:, None] & known, top_right)
            sample += _corner(source + width * channels, (in_bottom & in_left)[:, None] & known, bottom_left)
            sample += _corner(source + (width + 1) * channels, (in_bottom & in_right)[:, None] & known, bottom_right)
            factors = tl.load(
                weight + (tap * channels + channel)[:, None] * out_channels + out_channel[None, :],
                mask=(channel < channels)[:, None] & (out_channel < out_channels)[None, :],
                other=0.0,
            )
            total = tl.dot(sample.to(factors.dtype), factors, total, input_precision="ieee")
    if HAS_BIAS:
        total += tl.load(bias + out_channel, mask=out_channel < out_channels, other=0.0).to(tl.float32)[None, :]
    tl.store(
        out + pixel[:, None] * out_channels + out_channel[None, :],
        total.to(out.dtype.element_ty),
        mask=inside[:, None] & (out_channel < out_channels)[None, :],
    )


@triton.jit
def _corner(source, present, share):  # type: ignore[no-untyped-def]  # Triton finds types itself
    """Weighted rows at one corner of the samples; pixels outside the image are zeros."""
    return tl.load(source, mask=present, other=0.0).to(tl.float32) * share[:, None]

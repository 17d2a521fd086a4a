"""What follows a convolution: bias, activation and pooling, one pass each."""

import torch
import triton
import triton.language as tl

_PIXELS, _CHANNELS = 32, 64  # of a program, at most


def add_bias_and_activate(rows: torch.Tensor, bias: torch.Tensor, slope: float) -> None:
    """Overwrite ``rows`` ``(..., channels)`` with the leaky ReLU of ``rows + bias``; slope 1: none, 0: plain ReLU."""
    channels = rows.shape[-1]
    pixels = rows.numel() // channels
    block = min(_CHANNELS, triton.next_power_of_2(channels))
    grid = (triton.cdiv(pixels, _PIXELS), triton.cdiv(channels, block))
    _activate[grid](rows, bias, slope, pixels, channels, PIXELS=_PIXELS, CHANNELS=block)


def max_pool2(rows: torch.Tensor) -> torch.Tensor:
    """Largest of 2 x 2 pixels: ``(batch, height, width, channels)`` to half the (even) height and width."""
    batch, height, width, channels = rows.shape
    out = rows.new_empty(batch, height // 2, width // 2, channels)
    pixels = out.numel() // channels
    block = min(_CHANNELS, triton.next_power_of_2(channels))
    grid = (triton.cdiv(pixels, _PIXELS), triton.cdiv(channels, block))
    _max_pool[grid](rows, out, pixels, width // 2, channels, PIXELS=_PIXELS, CHANNELS=block)
    return out


@triton.jit
def _activate(rows, bias, slope, pixels, channels, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    at = rows + pixel[:, None] * channels + channel[None, :]
    there = (pixel < pixels)[:, None] & known[None, :]
    value = tl.load(at, mask=there, other=0.0).to(tl.float32)
    value += tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    negative = tl.where(slope == 0, 0.0, value * slope)  # minus infinity times 0 would be NaN
    tl.store(at, tl.where(value < 0, negative, value).to(rows.dtype.element_ty), mask=there)


@triton.jit
def _max_pool(rows, out, pixels, out_width, channels, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    first = (pixel // out_width) * 4 * out_width + (pixel % out_width) * 2  # its pixel left above
    at = rows + first[:, None] * channels + channel[None, :]
    down = 2 * out_width * channels
    upper = tl.maximum(_values(at, there), _values(at + channels, there), tl.PropagateNan.ALL)
    lower = tl.maximum(_values(at + down, there), _values(at + down + channels, there), tl.PropagateNan.ALL)
    largest = tl.maximum(upper, lower, tl.PropagateNan.ALL)
    tl.store(out + pixel[:, None] * channels + channel[None, :], largest.to(out.dtype.element_ty), mask=there)


@triton.jit
def _values(at, there):
    return tl.load(at, mask=there, other=0.0).to(tl.float32)

"""Where BGA and the decoder join features of two resolutions: upsampled values are used as they are made.

Upsampling is bilinear to twice the height and width, corners aligned.
"""

import torch
import triton
import triton.language as tl

_PIXELS, _CHANNELS = 16, 64  # of a program, at most


def gate_and_add(
    fine: torch.Tensor,
    gate: torch.Tensor,
    gate_bias: torch.Tensor,
    coarse: torch.Tensor,
    coarse_bias: torch.Tensor,
    coarse_gate: torch.Tensor,
) -> None:
    """Overwrite ``fine`` with ``fine * sigmoid(up(gate + gate_bias)) + up((coarse + coarse_bias) * coarse_open)``.

    ``coarse_open`` is the sigmoid of ``coarse_gate``.

    Parameters
    ----------
    fine
        ``(batch, 2 height, 2 width, channels)``.
    gate, coarse, coarse_gate
        ``(batch, height, width, channels)``.
    gate_bias, coarse_bias
        ``(channels,)``: upsampling does not change what is the same everywhere.
    """
    _, height, width, channels = gate.shape
    grid, block = _grid(fine)
    _gate_and_add[grid](
        *(fine, gate, gate_bias, coarse, coarse_bias, coarse_gate, fine.numel() // channels, height, width, channels),
        PIXELS=_PIXELS,
        CHANNELS=block,
    )


def join(fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """Channels of ``fine`` ``(batch, 2 height, 2 width, c)``, then those of the upsampled ``coarse``, ``c`` each."""
    batch, height, width, channels = coarse.shape
    out = fine.new_empty(batch, 2 * height, 2 * width, 2 * channels)
    grid, block = _grid(fine)
    _join[grid](*(fine, coarse, out, fine.numel() // channels, height, width, channels), PIXELS=_PIXELS, CHANNELS=block)
    return out


def _grid(fine: torch.Tensor) -> tuple[tuple[int, int], int]:
    channels = fine.shape[-1]
    block = min(_CHANNELS, triton.next_power_of_2(channels))
    return (triton.cdiv(fine.numel() // channels, _PIXELS), triton.cdiv(channels, block)), block


@triton.jit
def _gate_and_add(
    fine,
    gate,
    gate_bias,
    coarse,
    coarse_bias,
    coarse_gate,
    pixels,
    height,
    width,
    channels,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    there = (pixel < pixels)[:, None] & known[None, :]
    opening = tl.load(gate_bias + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    shift = tl.load(coarse_bias + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    top, bottom, down, left, right, across = _neighbours(pixel, height, width)
    added = tl.zeros((PIXELS, CHANNELS), dtype=tl.float32)
    for corner in tl.static_range(4):
        near = top if corner < 2 else bottom
        beside = left if corner % 2 == 0 else right
        share = (1 - down if corner < 2 else down) * (1 - across if corner % 2 == 0 else across)
        at = (near + beside)[:, None] * channels + channel[None, :]
        opening += share[:, None] * tl.load(gate + at, mask=there, other=0.0).to(tl.float32)
        value = tl.load(coarse + at, mask=there, other=0.0).to(tl.float32) + shift
        added += share[:, None] * value * tl.sigmoid(tl.load(coarse_gate + at, mask=there, other=0.0).to(tl.float32))
    at = fine + pixel[:, None] * channels + channel[None, :]
    value = tl.load(at, mask=there, other=0.0).to(tl.float32) * tl.sigmoid(opening) + added
    tl.store(at, value.to(fine.dtype.element_ty), mask=there)


@triton.jit
def _join(fine, coarse, out, pixels, height, width, channels, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    top, bottom, down, left, right, across = _neighbours(pixel, height, width)
    value = tl.zeros((PIXELS, CHANNELS), dtype=tl.float32)
    for corner in tl.static_range(4):
        near = top if corner < 2 else bottom
        beside = left if corner % 2 == 0 else right
        share = (1 - down if corner < 2 else down) * (1 - across if corner % 2 == 0 else across)
        at = coarse + (near + beside)[:, None] * channels + channel[None, :]
        value += share[:, None] * tl.load(at, mask=there, other=0.0).to(tl.float32)
    to = out + pixel[:, None] * 2 * channels + channel[None, :]
    same = tl.load(fine + pixel[:, None] * channels + channel[None, :], mask=there, other=0.0)
    tl.store(to, same, mask=there)
    tl.store(to + channels, value.to(out.dtype.element_ty), mask=there)


@triton.jit
def _neighbours(pixel, height, width):
    """First pixels of the two coarse rows around fine pixels, and the lower one's weight; likewise columns."""
    row, column = (pixel // (2 * width)) % (2 * height), pixel % (2 * width)
    image = pixel // (4 * height * width) * height
    low_row, low_column = row * (height - 1) // (2 * height - 1), column * (width - 1) // (2 * width - 1)
    down = (row * (height - 1) - low_row * (2 * height - 1)).to(tl.float32) / (2 * height - 1)
    across = (column * (width - 1) - low_column * (2 * width - 1)).to(tl.float32) / (2 * width - 1)
    top, bottom = (image + low_row) * width, (image + tl.minimum(low_row + 1, height - 1)) * width
    return top, bottom, down, low_column, tl.minimum(low_column + 1, width - 1), across

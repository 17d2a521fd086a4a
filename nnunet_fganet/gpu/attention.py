"""SDA's normalisations: each reads its image twice, and writes once what comes of it.

Means and sums of squared deviations are taken of parts of an image, from one of its values on, and put together
(Chan et al. 1979): a large mean does not swallow small deviations, and the order of sums is always the same.
"""

import torch
import triton
import triton.language as tl

_PARTS = 32  # of an image, whose statistics are added up by every program
_PIXELS, _CHANNELS = 32, 32  # of one step of a program, at most
_ELEMENTS = 2048  # of one step of a program that takes an image as one row of numbers
_MOST_PARTS = 512
EPS = 1e-5


def shift_norm_gelu(rows: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """GELU of the InstanceNorm of the spatial shift of ``rows`` ``(batch, height, width, channels)``.

    ``steps``: ``(channels, 2)``, int32: rows and columns at which each channel reads, see
    :func:`nnunet_fganet.network.spatial_shift.spatial_shift`.
    """
    batch, height, width, channels = rows.shape
    out = torch.empty_like(rows)
    partial = torch.empty(batch, _PARTS, 2, channels, dtype=torch.float32, device=rows.device)
    block = min(_CHANNELS, triton.next_power_of_2(channels))
    blocks, pixels = triton.cdiv(channels, block), height * width
    part = triton.cdiv(pixels, _PARTS)
    sizes = (pixels, part, height, width, channels)
    _shifted_statistics[(_PARTS, blocks, batch)](rows, steps, partial, *sizes, PIXELS=_PIXELS, CHANNELS=block)
    _shift_norm_gelu[(triton.cdiv(pixels, _PIXELS), blocks, batch)](
        *(rows, steps, partial, out, EPS), *sizes, PARTS=_PARTS, PIXELS=_PIXELS, CHANNELS=block
    )
    return out


def gate(rows: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """``rows`` times the sigmoid of the LayerNorm, over each whole image, of ``attention``; both of one shape."""
    batch, elements = len(rows), rows[0].numel()
    out = torch.empty_like(rows)
    parts = min(_MOST_PARTS, triton.next_power_of_2(triton.cdiv(elements, _ELEMENTS)))
    part = triton.cdiv(elements, parts)
    partial = torch.empty(batch, parts, 2, dtype=torch.float32, device=rows.device)
    _statistics[(parts, batch)](attention, partial, elements, part, ELEMENTS=_ELEMENTS)
    _gate[(triton.cdiv(elements, _ELEMENTS), batch)](
        *(rows, attention, partial, out, EPS, elements, part), PARTS=parts, ELEMENTS=_ELEMENTS
    )
    return out


@triton.jit
def _shifted_statistics(
    rows, steps, partial, pixels, part, height, width, channels, PIXELS: tl.constexpr, CHANNELS: tl.constexpr
):
    """Mean and sum of squared deviations of each channel over a part of one image."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    image = tl.program_id(2).to(tl.int64)
    begin = tl.program_id(0) * part
    end = tl.minimum(begin + part, pixels)
    nearby = tl.minimum(begin, pixels - 1)  # some value, of a part without pixels too
    reference = tl.load(rows + (image * pixels + nearby) * channels + channel, mask=known, other=0.0).to(tl.float32)
    total = tl.zeros((CHANNELS,), dtype=tl.float32)
    squares = tl.zeros((CHANNELS,), dtype=tl.float32)
    for first in range(begin, end, PIXELS):
        pixel = first + tl.arange(0, PIXELS)
        there = (pixel < end)[:, None] & known[None, :]
        value = _shifted(rows, steps, image, pixel, channel, there, height, width, channels)
        value = tl.where(there, value - reference[None, :], 0.0)
        total += tl.sum(value, axis=0)
        squares += tl.sum(value * value, axis=0)
    mean = total / tl.maximum(end - begin, 1).to(tl.float32)
    at = partial + (image * tl.num_programs(0) + tl.program_id(0)) * 2 * channels + channel
    tl.store(at, reference + mean, mask=known)
    tl.store(at + channels, tl.maximum(squares - total * mean, 0.0), mask=known)


@triton.jit
def _shift_norm_gelu(
    rows,
    steps,
    partial,
    out,
    eps,
    pixels,
    part,
    height,
    width,
    channels,
    PARTS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    image = tl.program_id(2).to(tl.int64)
    number = tl.arange(0, PARTS)
    count = tl.minimum(tl.maximum(pixels - number * part, 0), part).to(tl.float32)[:, None]
    at = partial + (image * PARTS + number)[:, None] * 2 * channels + channel[None, :]
    means = tl.load(at, mask=known[None, :], other=0.0)
    deviations = tl.load(at + channels, mask=known[None, :], other=0.0)
    mean = tl.sum(count * means, axis=0) / pixels
    deviation = tl.sum(deviations + count * (means - mean[None, :]) * (means - mean[None, :]), axis=0)
    scale = tl.rsqrt(deviation / pixels + eps)
    there = (pixel < pixels)[:, None] & known[None, :]
    value = _shifted(rows, steps, image, pixel, channel, there, height, width, channels)
    value = (value - mean[None, :]) * scale[None, :]
    value = 0.5 * value * (1 + tl.erf(value * 0.7071067811865476))
    to = out + (image * pixels + pixel)[:, None] * channels + channel[None, :]
    tl.store(to, value.to(out.dtype.element_ty), mask=there)


@triton.jit
def _shifted(rows, steps, image, pixel, channel, there, height, width, channels):
    """Values of pixels of one image after the shift, ``(pixels, channels)``; zeros move in."""
    down = tl.load(steps + 2 * channel, mask=channel < channels, other=0)
    across = tl.load(steps + 2 * channel + 1, mask=channel < channels, other=0)
    row = (pixel // width)[:, None] + down[None, :]
    column = (pixel % width)[:, None] + across[None, :]
    inside = there & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    at = ((image * height + row) * width + column) * channels + channel[None, :]
    return tl.load(rows + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _statistics(attention, partial, elements, part, ELEMENTS: tl.constexpr):
    """Mean and sum of squared deviations of a part of one image."""
    image = tl.program_id(1).to(tl.int64)
    begin = tl.program_id(0) * part
    end = tl.minimum(begin + part, elements)
    reference = tl.load(attention + image * elements + tl.minimum(begin, elements - 1)).to(tl.float32)
    total = tl.zeros((ELEMENTS,), dtype=tl.float32)
    squares = tl.zeros((ELEMENTS,), dtype=tl.float32)
    for first in range(begin, end, ELEMENTS):
        element = first + tl.arange(0, ELEMENTS)
        value = tl.load(attention + image * elements + element, mask=element < end, other=0.0).to(tl.float32)
        value = tl.where(element < end, value - reference, 0.0)
        total += value
        squares += value * value
    sum_ = tl.sum(total, axis=0)
    mean = sum_ / tl.maximum(end - begin, 1).to(tl.float32)
    at = partial + (image * tl.num_programs(0) + tl.program_id(0)) * 2
    tl.store(at, reference + mean)
    tl.store(at + 1, tl.maximum(tl.sum(squares, axis=0) - sum_ * mean, 0.0))


@triton.jit
def _gate(rows, attention, partial, out, eps, elements, part, PARTS: tl.constexpr, ELEMENTS: tl.constexpr):
    image = tl.program_id(1).to(tl.int64)
    number = tl.arange(0, PARTS)
    count = tl.minimum(tl.maximum(elements - number * part, 0), part).to(tl.float32)
    means = tl.load(partial + (image * PARTS + number) * 2)
    deviations = tl.load(partial + (image * PARTS + number) * 2 + 1)
    mean = tl.sum(count * means, axis=0) / elements
    deviation = tl.sum(deviations + count * (means - mean) * (means - mean), axis=0)
    scale = tl.rsqrt(deviation / elements + eps)
    element = tl.program_id(0) * ELEMENTS + tl.arange(0, ELEMENTS)
    there = element < elements
    at = image * elements + element
    value = tl.load(attention + at, mask=there, other=0.0).to(tl.float32)
    factor = tl.sigmoid((value - mean) * scale)
    value = tl.load(rows + at, mask=there, other=0.0).to(tl.float32) * factor
    tl.store(out + at, value.to(out.dtype.element_ty), mask=there)

"""SDA's shift, InstanceNorm and GELU on a CPU: an image is read twice, and written once what comes of it.

Sums are taken part by part of an image, of differences to the middle one of three of the part's own values, and the
parts are put together (Chan et al. 1979): neither a large mean nor a single value far off swallows small deviations.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, inlined, loop
from nnunet_fganet.compiled.elementary import gelu
from nnunet_fganet.compiled.half import NUMBERS, check_numbers, narrow, widen
from nnunet_fganet.compiled.lanes import COPIED, LANES, copy, load, store
from nnunet_fganet.compiled.rounding import round_row, rounded_address
from nnunet_fganet.compiled.threads import (
    arguments,
    check_array,
    finish_part,
    next_part,
    parts,
    pointer,
    run_parts,
)

PARTS = 32  # of an image, at most, whose sums are put together
_CHANNELS = 64  # whose sums are put together at a time
EPS = 1e-5
Array = NDArray[Any]
_F = np.float32


def shift_norm_gelu(
    rows: torch.Tensor,
    steps: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor] | None = None,
    dtype: torch.dtype | None = None,
    rounded: torch.Tensor | None = None,
) -> torch.Tensor:
    """GELU of the InstanceNorm of the spatial shift of an image.

    Parameters
    ----------
    rows
        ``(batch, height, width, channels)``, contiguous, float32, bfloat16 or float16.
    steps
        ``(groups, 2)``, contiguous, int64: rows and columns at which each group of channels reads, see
        :func:`nnunet_fganet.network.spatial_shift.spatial_shift`; at most the height and the width.
    moments
        Of :func:`shift_moments`, if they are known.
    dtype
        Of the result: float32, bfloat16 or float16; None: that of ``rows``.
    rounded
        Of the same shape, bfloat16: a copy, written beside.

    Returns
    -------
    torch.Tensor
        Of the same shape.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    mean, scale = shift_moments(rows, steps) if moments is None else moments
    check_shift(rows, steps, mean, scale)
    out = torch.empty_like(rows, dtype=dtype)
    if out.dtype not in NUMBERS:
        raise ValueError(f"the result must be one of {', '.join(map(str, NUMBERS))}, not {out.dtype}")
    addresses = *(each.data_ptr() for each in (rows, steps, mean, scale, out)), rounded_address(rounded, *rows.shape)
    run_parts(_shift_loop(rows.dtype, out.dtype), len(rows) * rows.shape[1], *rows.shape, len(steps), *addresses)
    return out


def shift_moments(rows: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean, and one over the standard deviation, of each channel of each shifted image, ``(batch, channels)`` float32.

    See :func:`shift_norm_gelu`.
    """
    check_shift(rows, steps)
    batch, height, width, channels = rows.shape
    portions = min(PARTS, height)
    sums = rows.new_empty(batch, portions, 4, channels, dtype=torch.float32)
    given = (*rows.shape, len(steps), portions)
    run_parts(_sums_loop(rows.dtype), batch * portions, *given, rows.data_ptr(), steps.data_ptr(), sums.data_ptr())
    # The zeros that move in need no part of their own: they are what is missing in the parts' counts.
    return statistics(sums, height * width)


def check_shift(rows: torch.Tensor, steps: torch.Tensor, *moments: torch.Tensor) -> None:
    """Refuse what the loops of shifted images would read outside of; see :func:`shift_norm_gelu`."""
    batch, height, width, channels = rows.shape
    check_numbers("rows", rows, batch, height, width, channels)
    check_array("steps", steps, torch.int64, len(steps), 2)
    for each in moments:
        check_array("moments", each, torch.float32, batch, channels)
    if channels % len(steps) or not (steps.abs() <= torch.tensor([height, width])).all():
        raise ValueError(f"{channels} channels of {height} x {width} pixels cannot be shifted by {steps.tolist()}")


def statistics(sums: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean, and one over the standard deviation, of ``size`` values of each channel, ``(batch, channels)`` float32.

    ``sums`` ``(batch, parts, 4, channels)``: of each part its number of values, one of them, and the sums of the
    differences to that one and of their squares. Values that no part counts are zeros.
    """
    batch, portions, _, channels = sums.shape
    mean, scale = sums.new_empty(batch, channels), sums.new_empty(batch, channels)
    addresses = (each.data_ptr() for each in (sums, mean, scale))
    run_parts(_statistics_loop(), batch * -(-channels // _CHANNELS), batch, portions, channels, size, *addresses)
    return mean, scale


@compiled
def middle_one(a: Any, b: Any, c: Any) -> Any:
    """Median of three numbers; one of them where there is NaN among them."""
    return max(min(a, b), min(max(a, b), c))


@compiled
def _add_channel_sums(rows: Array, row: int, first: int, last: int, start: int, stop: int, sums: Array) -> None:
    """Add pixels ``first`` to ``last`` of a row to the sums of channels ``start`` to ``stop``.

    ``rows`` ``(height, width * channels)`` of one image; ``sums`` ``(4, channels)``: the number of pixels, one of them,
    and the sums of the differences to it and of their squares.
    """
    channels = sums.shape[1]
    tail = stop - (stop - start) % LANES
    if first >= last:
        return
    for c in range(start, stop):
        if sums[0, c] == 0:
            middle = widen(rows[row, (first + last) // 2 * channels + c])
            ends = widen(rows[row, first * channels + c]), widen(rows[row, (last - 1) * channels + c])
            sums[1, c] = middle_one(ends[0], middle, ends[1])
        sums[0, c] += last - first
    for c in range(start, tail, LANES):
        pivot, total, squares = load(sums, 1, c), load(sums, 2, c), load(sums, 3, c)
        for x in range(first * channels + c, last * channels + c, channels):
            value = load(rows, row, x) - pivot
            total = total + value
            squares = squares + value * value
        store(sums, 2, c, total)
        store(sums, 3, c, squares)
    for x in range(first * channels, last * channels, channels):
        for c in range(tail, stop):
            value = widen(rows[row, x + c]) - sums[1, c]
            sums[2, c] += value
            sums[3, c] += value * value


@compiled
def _put_together(sums: Array, channel: int, size: int) -> tuple[Any, Any]:
    """Mean, and one over the standard deviation, of a channel of an image; ``sums`` ``(parts, 4, channels)``."""
    total = 0.0
    for part in range(len(sums)):
        total += np.float64(sums[part, 0, channel]) * sums[part, 1, channel] + sums[part, 2, channel]
    mean, counted, deviation = total / size, 0.0, 0.0
    for part in range(len(sums)):
        count, first = np.float64(sums[part, 0, channel]), np.float64(sums[part, 2, channel])
        if count > 0:
            difference = sums[part, 1, channel] + first / count - mean
            deviation += sums[part, 3, channel] - first * first / count + count * difference * difference
            counted += count
    deviation += (size - counted) * mean * mean
    deviation = 0.0 if deviation < 0 else deviation  # which leaves NaN
    return _F(mean), _F(1 / math.sqrt(deviation / size + EPS))


@inlined
def _copy_pixel(rows: Array, row: int, x: int, line: Array, y: int, count: int) -> None:
    """Copy ``count`` channels of a row, from ``x`` on, into ``line``, from ``y`` on."""
    tail = count - count % COPIED
    for c in range(0, tail, COPIED):
        copy(rows, row, x + c, line, 0, y + c)
    for c in range(tail, count):
        line[0, y + c] = rows[row, x + c]


@compiled
def shift_row(rows: Array, row: int, steps: Array, channels: int, line: Array) -> None:
    """Write a row of a shifted image; ``rows`` ``(height, width * channels)``, ``line`` ``(1, width * channels)``."""
    width, size = line.shape[1] // channels, channels // len(steps)
    line[:] = 0
    for group in range(len(steps)):
        source, across = row + steps[group, 0], steps[group, 1]
        if 0 <= source < len(rows):
            for j in range(max(0, -across), width - max(0, across)):
                x, y = (j + across) * channels + group * size, j * channels + group * size
                _copy_pixel(rows, source, x, line, y, size)


@inlined
def _normalize_pixel(line: Array, x: int, mean: Array, scale: Array, out: Array, row: int) -> None:
    """GELU of the normalised channels of a pixel, which begin at ``x`` in ``line`` and in a row of ``out``."""
    channels = mean.shape[1]
    tail = channels - channels % LANES
    for c in range(0, tail, LANES):
        store(out, row, x + c, gelu((load(line, 0, x + c) - load(mean, 0, c)) * load(scale, 0, c)))
    for c in range(tail, channels):
        out[row, x + c] = narrow(gelu((widen(line[0, x + c]) - mean[0, c]) * scale[0, c]), out[row, x + c])


@cache
def _sums_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over portions of the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def channel_sums(data: Any) -> None:
        a = arguments(data, 9)
        batch, height, width, channels, groups, portions = a[0], a[1], a[2], a[3], a[4], a[5]
        images = carray(pointer(a[6]), (batch, height, width * channels), numbers)
        steps = carray(pointer(a[7]), (groups, 2), np.int64)
        sums = carray(pointer(a[8]), (batch * portions, 4, channels), np.float32)
        size = channels // groups
        top, bottom = max(0, steps[:, 0].max()), height + min(0, steps[:, 0].min())
        left, right = max(0, steps[:, 1].max()), width + min(0, steps[:, 1].min())
        part = next_part(data)
        while part < parts(data):
            image, portion = part // portions, part % portions
            sums[part] = 0
            for row in range(portion * height // portions, (portion + 1) * height // portions):
                # Of what all groups read, sums of all channels: groups may have fewer channels than a vector.
                inside = top <= row < bottom and left < right
                if inside:
                    _add_channel_sums(images[image], row, left, right, 0, channels, sums[part])
                for group in range(groups):
                    down, across = steps[group, 0], steps[group, 1]
                    first, last = max(0, across), width + min(0, across)
                    start, stop = group * size, (group + 1) * size
                    if max(0, down) <= row < height + min(0, down):
                        end, begin = (left, right) if inside else (last, last)
                        _add_channel_sums(images[image], row, first, end, start, stop, sums[part])
                        _add_channel_sums(images[image], row, begin, last, start, stop, sums[part])
            finish_part(data)
            part = next_part(data)

    return channel_sums


@cache
def _statistics_loop() -> Any:
    """Compile the loop over groups of the channels of all images."""

    @loop("float32")
    def statistics_of_channels(data: Any) -> None:
        a = arguments(data, 7)
        batch, portions, channels, size = a[0], a[1], a[2], a[3]
        sums = carray(pointer(a[4]), (batch, portions, 4, channels), np.float32)
        mean = carray(pointer(a[5]), (batch, channels), np.float32)
        scale = carray(pointer(a[6]), (batch, channels), np.float32)
        groups = -(-channels // _CHANNELS)
        part = next_part(data)
        while part < parts(data):
            image, first = part // groups, part % groups * _CHANNELS
            for channel in range(first, min(first + _CHANNELS, channels)):
                mean[image, channel], scale[image, channel] = _put_together(sums[image], channel, size)
            finish_part(data)
            part = next_part(data)

    return statistics_of_channels


@cache
def _shift_loop(dtype: torch.dtype, out_dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers, written = NUMBERS[dtype], NUMBERS[out_dtype]

    @loop(f"{dtype}_{out_dtype}")
    def shift_rows(data: Any) -> None:
        a = arguments(data, 11)
        batch, height, width, channels, groups = a[0], a[1], a[2], a[3], a[4]
        images = carray(pointer(a[5]), (batch, height, width * channels), numbers)
        steps = carray(pointer(a[6]), (groups, 2), np.int64)
        mean = carray(pointer(a[7]), (batch, 1, channels), np.float32)
        scale = carray(pointer(a[8]), (batch, 1, channels), np.float32)
        out = carray(pointer(a[9]), (batch * height, width * channels), written)
        rounded = carray(pointer(a[10]), (batch * height if a[10] else 0, width * channels), np.uint16)
        line = np.empty((1, width * channels), numbers)
        part = next_part(data)
        while part < parts(data):
            image, row = part // height, part % height
            shift_row(images[image], row, steps, channels, line)
            means, scales = mean[image], scale[image]
            for j in range(width):
                _normalize_pixel(line, j * channels, means, scales, out, part)
            if len(rounded):
                round_row(out, part, 0, width * channels, rounded)
            finish_part(data)
            part = next_part(data)

    return shift_rows

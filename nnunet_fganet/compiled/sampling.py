"""Bilinear samples of a deformable convolution and their gradients, in compiled loops.

Images have channels last, so that a pixel is one row of numbers and a sample the weighted sum of four
rows. Positions follow torchvision's ``deform_conv2d``: what lies outside the image reads zeros, NaN
gives NaN.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, inlined, loop
from nnunet_fganet.compiled.half import NUMBERS, narrow, widen
from nnunet_fganet.compiled.lanes import LANES, lane_sum, load, store, zeros
from nnunet_fganet.compiled.mixtures import write_levels, write_mixture
from nnunet_fganet.compiled.threads import (
    arguments,
    check_array,
    finish_part,
    float_arguments,
    next_part,
    parts,
    pointer,
    run_parts,
)

# What the loops take, of which float16 is for :func:`sample_columns` alone. Positions are float32 always: bfloat16
# resolves two pixels at column 300.
DTYPES = (torch.float32, torch.bfloat16)
_SAMPLED_DTYPES = (*DTYPES, torch.float16)

# Pixels whose samples are taken before they are multiplied: they stay in the cache between the two,
# and those of a whole frame would take 151 MB at 128 x 128 x 256.
BLOCK = 2048
_PIXELS = 64  # of a part
_FEWEST_CHANNELS = 64  # of a part: with fewer, a loop's start takes longer than the loop
Array = NDArray[Any]
_F = np.float32


def sample_columns(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    size: tuple[int, int],
    first: int,
    columns: torch.Tensor,
) -> None:
    """Write the samples of some pixels.

    Parameters
    ----------
    rows
        ``(batch * height * width, channels)``, contiguous, of one of :data:`DTYPES` or float16.
    offset
        ``(batch * height * width, taps, 2)``, contiguous, float32, in px: (row, column) of each sample,
        from where a plain ``k x k`` convolution has it (``taps = k * k``).
    mask
        ``(batch * height * width, taps)``, contiguous, float32: factors of the samples.
    size
        ``(height, width)``.
    first
        Number of the first pixel.
    columns
        ``(pixels, taps, channels)``, contiguous, like ``rows``: filled with the samples.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    _run_samples(rows, offset, mask, size, first, 1.0, 0, columns)


def sample_levels(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    size: tuple[int, int],
    first: int,
    step: float,
    zero: int,
    columns: torch.Tensor,
) -> None:
    """Write the samples of some pixels as 8-bit levels, of which ``n`` stands for ``(n - zero) * step``.

    ``columns`` ``(pixels, taps, channels)``, contiguous, is uint8. Levels 0 to 255 have to include all numbers of
    ``rows`` and factors have to be between 0 and 1, for nothing is clipped. A sample that is NaN becomes level 0. The
    rest as for :func:`sample_columns`.
    """
    _run_samples(rows, offset, mask, size, first, step, zero, columns)


def _run_samples(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    size: tuple[int, int],
    first: int,
    step: float,
    zero: int,
    columns: torch.Tensor,
) -> None:
    """Write samples, divided by ``step``, plus ``zero``: into ``columns`` like ``rows``, or rounded into uint8."""
    pixels, taps, channels = columns.shape
    check_samples(rows, offset, mask, size, taps, _SAMPLED_DTYPES)
    written = torch.uint8 if columns.dtype == torch.uint8 else rows.dtype
    check_array("columns", columns, written, pixels, taps, rows.shape[1])
    if first < 0 or first + pixels > len(rows):
        raise ValueError(f"pixels {first} to {first + pixels} are outside of {len(rows)} rows")
    run_parts(
        _sample_loop(rows.dtype, written),
        -(-pixels // _PIXELS),
        *(*size, taps, channels, len(rows), first, pixels),
        *(rows.data_ptr(), offset.data_ptr(), 0 if mask is None else mask.data_ptr(), columns.data_ptr()),
        *(1 / step, float(zero)),
    )


def sample_gradients(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    size: tuple[int, int],
    columns_gradient: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Gradients for rows, offset and mask, float32, from that for the samples of all pixels.

    ``columns_gradient``: ``(batch * height * width, taps, channels)``, contiguous, like ``rows``; the rest as
    for :func:`sample_columns`. Where an offset is not finite it gets no gradient.
    """
    pixels, taps, channels = columns_gradient.shape
    check_samples(rows, offset, mask, size, taps, DTYPES)
    check_array("columns_gradient", columns_gradient, rows.dtype, len(rows), taps, rows.shape[1])
    images = pixels // (size[0] * size[1])
    # No more slices of the channels than keep all threads busy, each with sums of its own, so that no
    # two threads write to one place.
    slices = max(1, min(-(-torch.get_num_threads() // max(1, images)), channels // _FEWEST_CHANNELS))
    rows_gradient = rows.new_zeros(pixels, channels, dtype=torch.float32)
    offset_gradient = offset.new_zeros(slices, *offset.shape)
    mask_gradient = None if mask is None else mask.new_zeros(slices, *mask.shape)
    addresses = [
        0 if tensor is None else tensor.data_ptr()
        for tensor in (rows, offset, mask, columns_gradient, rows_gradient, offset_gradient, mask_gradient)
    ]
    run_parts(_gradient_loop(rows.dtype), slices * images, *size, taps, channels, pixels, slices, *addresses)
    return rows_gradient, offset_gradient.sum(0), None if mask_gradient is None else mask_gradient.sum(0)


def check_samples(
    rows: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    size: tuple[int, int],
    taps: int,
    dtypes: tuple[torch.dtype, ...],
) -> None:
    """Refuse what samples would read outside of: see :func:`sample_columns`.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    if rows.dtype not in dtypes:
        raise ValueError(f"rows must be one of {', '.join(map(str, dtypes))}, not {rows.dtype}")
    if min(size) < 1 or len(rows) % (size[0] * size[1]):
        raise ValueError(f"{len(rows)} rows are no images of {size[0]} x {size[1]} pixels")
    if math.isqrt(taps) ** 2 != taps:
        raise ValueError(f"{taps} samples a pixel are no square kernel")
    check_array("rows", rows, rows.dtype, *rows.shape)
    check_array("offset", offset, torch.float32, len(rows), taps, 2)
    if mask is not None:
        check_array("mask", mask, torch.float32, len(rows), taps)


@compiled
def _position(i: int, j: int, tap: int, kernel: int, offset: Array, pixel: int) -> tuple[Any, Any]:
    """Row and column that a sample of the pixel in row ``i`` and column ``j`` is taken at."""
    # Numbers this small are divided in a fraction of the time without their signs and upper halves.
    down = np.int64(np.uint32(tap) // np.uint32(kernel))
    row = _F(i + down - kernel // 2) + offset[pixel, tap, 0]
    column = _F(j + tap - down * kernel - kernel // 2) + offset[pixel, tap, 1]
    return row, column


@compiled
def _neighbours(position: Any, size: int) -> tuple[Any, ...]:
    """Two pixels around a position in ``[-1, size)`` along one axis, and their linear weights (0 outside)."""
    low = int(position) if position >= 0 else -1
    share = position - _F(low)
    low_share = _F(1) - share if low >= 0 else _F(0)
    high_share = share if low + 1 < size else _F(0)
    return max(low, 0), min(low + 1, size - 1), low_share, high_share


@compiled
def corners(offset: Array, mask: Array, kernel: int, height: int, width: int, pixel: int, tap: int) -> Any:
    """Numbers of the four rows that a sample of a pixel is a mixture of, and their shares: zeros outside the image.

    NaN in an offset makes NaN of the shares. (For one sample alone; the loops over all of a pixel's skip those outside,
    and have the pixel's row and column at hand.)
    """
    base = np.int64(np.uint32(pixel) // np.uint32(height * width)) * (height * width)  # see _position
    i = np.int64(np.uint32(pixel - base) // np.uint32(width))
    row, column = _position(i, pixel - base - i * width, tap, kernel, offset, pixel)
    if not (row >= -1 and row < height and column >= -1 and column < width):
        share = _F(np.nan) if math.isnan(row) or math.isnan(column) else _F(0)
        return (base, base, base, base), (share, share, share, share)
    top, bottom, up, down = _neighbours(row, height)
    left, right, before, after = _neighbours(column, width)
    factor = mask[pixel, tap] if mask.size else _F(1)
    up, down = up * factor, down * factor
    above, below = base + top * width, base + bottom * width
    places = above + left, above + right, below + left, below + right
    return places, (up * before, up * after, down * before, down * after)


def _sampler(write: Any) -> Any:
    """Compile what writes the samples of one pixel; ``write`` is of :mod:`.mixtures`."""

    @compiled
    def sample(
        rows: Array, offset: Array, mask: Array, height: int, width: int, pixel: int, scale: Any, zero: Any,
        out: Array, first: int, apart: int,
    ) -> None:  # fmt: skip
        """Write the samples of one pixel, times ``scale``, plus ``zero``, into rows of ``out``.

        The channels of a sample fill one row or several; the first row is ``first``, the next ones follow ``apart``
        rows from each other. The rest as for :func:`sample_columns`.
        """
        taps, channels, wide = offset.shape[1], rows.shape[1], out.shape[1]
        kernel = int(math.sqrt(taps))
        base = pixel // (height * width) * (height * width)
        i, j = (pixel - base) // width, (pixel - base) % width
        to = first
        for tap in range(taps):
            row, column = _position(i, j, tap, kernel, offset, pixel)
            is_nan = math.isnan(row) or math.isnan(column)
            if is_nan or row < -1 or row >= height or column < -1 or column >= width:
                for _ in range(0, channels, wide):
                    _fill(out, to, _F(np.nan) if is_nan else zero)
                    to += apart
                continue
            top, bottom, up, down = _neighbours(row, height)
            left, right, before, after = _neighbours(column, width)
            factor = mask[pixel, tap] * scale if mask.size else scale
            up, down = up * factor, down * factor
            wa, wb, wc, wd = up * before, up * after, down * before, down * after
            a, b = base + top * width + left, base + top * width + right
            c, d = base + bottom * width + left, base + bottom * width + right
            for start in range(0, channels, wide):
                write(rows, a, b, c, d, start, wa, wb, wc, wd, zero, out, to)
                to += apart

    return sample


sample = _sampler(write_mixture)
sample_levels_of_halves = _sampler(write_levels)


@compiled
def _fill(out: Array, row: int, number: Any) -> None:
    for c in range(out.shape[1]):
        out[row, c] = narrow(number, out[row, c])


@inlined
def _gradient(
    rows: Array, offset: Array, mask: Array, height: int, width: int, pixel: int, given: Array, start: int, end: int,
    rows_gradient: Array, offset_gradient: Array, mask_gradient: Array, k: int,
) -> None:  # fmt: skip
    """Add the gradients of the samples of one pixel, for channels ``start`` to ``end``, slice ``k`` of all.

    ``given`` ``(pixels * taps, channels)``.
    """
    taps = offset.shape[1]
    kernel = int(math.sqrt(taps))
    base = pixel // (height * width) * (height * width)
    i, j = (pixel - base) // width, (pixel - base) % width
    for tap in range(taps):
        row, column = _position(i, j, tap, kernel, offset, pixel)
        if row >= -1 and row < height and column >= -1 and column < width:
            top, bottom, up, down = _neighbours(row, height)
            left, right, before, after = _neighbours(column, width)
            a, b = base + top * width + left, base + top * width + right
            c, d = base + bottom * width + left, base + bottom * width + right
            factor = mask[pixel, tap] if mask.size else _F(1)
            wa, wb, wc, wd = up * before, up * after, down * before, down * after
            sa, sb, sc, sd = factor * wa, factor * wb, factor * wc, factor * wd
            la = lb = lc = ld = zeros()
            tail = end - (end - start) % LANES
            sample = pixel * taps + tap
            # Neighbours may be one pixel, at the border: each is added to before the next one is read.
            for x in range(start, tail, LANES):
                value = load(given, sample, x)
                la, lb = la + value * load(rows, a, x), lb + value * load(rows, b, x)
                lc, ld = lc + value * load(rows, c, x), ld + value * load(rows, d, x)
                store(rows_gradient, a, x, load(rows_gradient, a, x) + sa * value)
                store(rows_gradient, b, x, load(rows_gradient, b, x) + sb * value)
                store(rows_gradient, c, x, load(rows_gradient, c, x) + sc * value)
                store(rows_gradient, d, x, load(rows_gradient, d, x) + sd * value)
            ga, gb, gc, gd = lane_sum(la), lane_sum(lb), lane_sum(lc), lane_sum(ld)
            for x in range(tail, end):
                number = widen(given[sample, x])
                ga, gb = ga + number * widen(rows[a, x]), gb + number * widen(rows[b, x])
                gc, gd = gc + number * widen(rows[c, x]), gd + number * widen(rows[d, x])
                rows_gradient[a, x] += sa * number
                rows_gradient[b, x] += sb * number
                rows_gradient[c, x] += sc * number
                rows_gradient[d, x] += sd * number
            # A neighbour outside the image is zero, whatever its share.
            down_share, right_share = row - _F(math.floor(row)), column - _F(math.floor(column))
            above, below = math.floor(row) >= 0, math.floor(row) + 1 < height
            ahead, beyond = math.floor(column) >= 0, math.floor(column) + 1 < width
            ga = ga if above and ahead else _F(0)
            gb = gb if above and beyond else _F(0)
            gc = gc if below and ahead else _F(0)
            gd = gd if below and beyond else _F(0)
            offset_gradient[k, pixel, tap, 0] += factor * ((_F(1) - right_share) * (gc - ga) + right_share * (gd - gb))
            offset_gradient[k, pixel, tap, 1] += factor * ((_F(1) - down_share) * (gb - ga) + down_share * (gd - gc))
            if mask.size:
                mask_gradient[k, pixel, tap] += wa * ga + wb * gb + wc * gc + wd * gd


@cache
def _sample_loop(dtype: torch.dtype, written: torch.dtype) -> Any:
    """Compile the loop of :func:`sample_columns` and :func:`sample_levels`."""
    numbers, written_numbers = NUMBERS[dtype], np.uint8 if written == torch.uint8 else NUMBERS[written]

    @loop(f"{dtype} {written}")
    def samples(data: Any) -> None:
        a, factors = arguments(data, 13), float_arguments(data, 13)[11:]
        scale, zero = _F(factors[0]), _F(factors[1])
        height, width, taps, channels, total, first, pixels = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
        rows = carray(pointer(a[7]), (total, channels), numbers)
        offset = carray(pointer(a[8]), (total, taps, 2), np.float32)
        mask = carray(pointer(a[9]), (total if a[9] else 0, taps), np.float32)
        columns = carray(pointer(a[10]), (pixels * taps, channels), written_numbers)
        part = next_part(data)
        while part < parts(data):
            for k in range(part * _PIXELS, min((part + 1) * _PIXELS, pixels)):
                sample(rows, offset, mask, height, width, first + k, scale, zero, columns, k * taps, 1)
            finish_part(data)
            part = next_part(data)

    return samples


@cache
def _gradient_loop(dtype: torch.dtype) -> Any:
    """Compile the loop of :func:`sample_gradients`: a part is a slice of an image's channels."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def gradients(data: Any) -> None:
        a = arguments(data, 13)
        height, width, taps, channels, total, slices = a[0], a[1], a[2], a[3], a[4], a[5]
        masked = total if a[8] else 0
        rows = carray(pointer(a[6]), (total, channels), numbers)
        offset = carray(pointer(a[7]), (total, taps, 2), np.float32)
        mask = carray(pointer(a[8]), (masked, taps), np.float32)
        given = carray(pointer(a[9]), (total * taps, channels), numbers)
        rows_gradient = carray(pointer(a[10]), (total, channels), np.float32)
        offset_gradient = carray(pointer(a[11]), (slices, total, taps, 2), np.float32)
        mask_gradient = carray(pointer(a[12]), (slices, masked, taps), np.float32)
        part = next_part(data)
        while part < parts(data):
            image, k = part // slices, part % slices
            start, end = channels * k // slices, channels * (k + 1) // slices
            for pixel in range(image * height * width, (image + 1) * height * width):
                _gradient(
                    rows, offset, mask, height, width, pixel, given, start, end,
                    rows_gradient, offset_gradient, mask_gradient, k,
                )  # fmt: skip
            finish_part(data)
            part = next_part(data)

    return gradients

"""Convolutions of images with channels last by matrix units (:mod:`.matrix_units`), in bfloat16 or as good as in float32.

A part of an image is copied into memory of the thread, with zeros around it and channels filled up to whole steps of a
product. There the pixels that 16 neighbouring outputs read for one tap are the rows of a tile: nothing has to be laid
out, and neighbouring taps of a row follow each other in memory.

A float32 number is the sum of two in bfloat16, but for a 2 ** -17 of it. Of the four products of two such sums three
count, so that a convolution in float32 is one in bfloat16 with three times the channels: image (high, low, high) and
weights (high, high, low).
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray
from torch.nn import functional

from nnunet_fganet.compiled.bfloat16 import NUMBERS, narrow, widen
from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.lanes import LANES, leaky_relu, load, store
from nnunet_fganet.compiled.matrix_units import (
    BLOCK,
    ROWS_OF_TILE,
    STEP_BYTES,
    add_products,
    begin_tiles,
    clear_sums,
    end_tiles,
    has_matrix_units,
    tile_shapes,
    tiled_weight,
    write_sums,
)
from nnunet_fganet.compiled.memory import clear_bytes, copy_bytes
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

Array = NDArray[Any]
_F = np.float32
_TERMS = {torch.bfloat16: 1, torch.float32: 3}  # products in bfloat16 for one
_COLUMNS = 128  # of outputs of a part, at most
_PART_BYTES = 1_000_000  # so that a part stays in a core's cache beside a panel of the weights
_PARTS_A_THREAD = 2  # at least


def direct_weight(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``(out_channels, in_channels, k, k)`` as :func:`direct_conv2d` takes it for images of this dtype."""
    out_channels, channels, kernel, _ = weight.shape
    filled = functional.pad(weight.float().permute(0, 2, 3, 1), (0, -channels % BLOCK))
    high = filled.bfloat16()
    terms = [high] if dtype == torch.bfloat16 else [high, high, (filled - high.float()).bfloat16()]
    return tiled_weight(torch.cat(terms, dim=3).reshape(out_channels, kernel, -1))


def direct_conv2d(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: int, slope: float, dtype: torch.dtype
) -> torch.Tensor:
    """Convolve with "same" padding, then LeakyReLU; sums in float32.

    Parameters
    ----------
    rows
        ``(batch, height, width, in_channels)``, contiguous, float32 or bfloat16.
    weight
        Of :func:`direct_weight`, for images of that dtype; k is odd.
    bias
        ``(out_channels,)``, float32.
    stride
        Of the outputs, in px.
    slope
        Of LeakyReLU: 0 is ReLU, 1 leaves the values as they are.
    dtype
        Of the result: float32 or bfloat16.

    Returns
    -------
    torch.Tensor
        ``(batch, ceil(height / stride), ceil(width / stride), out_channels)``. In float32 a value of the image that is
        not finite makes NaN of what reads it.

    Raises
    ------
    ValueError
        What is given is of another kind or shape, or there are no matrix units.
    """
    if not has_matrix_units():
        raise ValueError("this processor has no matrix units for bfloat16 that this process may use")
    batch, height, width, channels = rows.shape
    kernel, out_channels = weight.shape[1], len(bias)
    check_array("rows", rows, rows.dtype, batch, height, width, channels)
    panels, filled = -(-out_channels // BLOCK), _TERMS[rows.dtype] * -(-channels // BLOCK)
    tiles = (panels, kernel, kernel * filled, 2, ROWS_OF_TILE, ROWS_OF_TILE, 2)
    check_array("weight", weight, torch.bfloat16, *tiles)
    check_array("bias", bias, torch.float32, out_channels)
    out = rows.new_empty(batch, -(-height // stride), -(-width // stride), out_channels, dtype=dtype)
    lines, columns = _size_of_part(out.shape[1], out.shape[2], kernel, stride, 2 * filled * BLOCK)
    across, down = -(-out.shape[2] // columns), -(-out.shape[1] // lines)
    shares = min(panels, -(-_PARTS_A_THREAD * torch.get_num_threads() // max(1, batch * across * down)))
    run_parts(
        _loop(rows.dtype, dtype),
        batch * down * across * shares,
        *(batch, height, width, channels, out_channels, kernel, stride, lines, columns, shares),
        *(rows.data_ptr(), weight.data_ptr(), bias.data_ptr(), out.data_ptr(), tile_shapes().ctypes.data),
        float(slope),
    )
    return out


def _size_of_part(height: int, width: int, kernel: int, stride: int, pixel_bytes: int) -> tuple[int, int]:
    """Rows and columns of outputs that a part of an image has, at most."""
    columns = -(-width // -(-width // _COLUMNS))
    line_bytes = ((max(columns, ROWS_OF_TILE) - 1) * stride + kernel) * pixel_bytes
    lines = min(height, max(1, (_PART_BYTES // line_bytes - kernel) // stride + 1))
    return -(-height // -(-height // lines)), columns


@compiled
def _fill(image: Array, width: int, top: int, left: int, terms: int, part: Array, columns: int) -> None:
    """Copy a part of an image, whose first pixel is in row ``top`` and column ``left``; zeros outside the image.

    ``image`` ``(height, width * channels)``; ``part`` ``(rows * columns, terms * filled channels)``.
    """
    height, channels = image.shape[0], image.shape[1] // width
    first, last = min(columns, max(0, -left)), max(0, min(columns, width - left))
    whole = terms == 1 and channels == part.shape[1]
    for i in range(len(part) // columns):
        inside = 0 <= top + i < height and first < last
        if not (inside and whole):
            clear_bytes(_at(part, i * columns), 2 * columns * part.shape[1])
        if not inside:
            continue
        start, x = i * columns + first, (left + first) * channels
        if whole:
            clear_bytes(_at(part, i * columns), 2 * first * channels)
            clear_bytes(_at(part, i * columns + last), 2 * (columns - last) * channels)
            copy_bytes(_at(part, start), image.ctypes.data + 2 * ((top + i) * width * channels + x), 2 * (last - first) * channels)
            continue
        for j in range(last - first):
            if terms == 1:
                given = image.ctypes.data + 2 * ((top + i) * width * channels + x + j * channels)
                copy_bytes(_at(part, start + j), given, 2 * channels)
            else:
                _split_pixel(image, top + i, x + j * channels, channels, part, start + j)


@compiled
def _at(part: Array, pixel: int) -> int:
    """Address of a pixel of a part of an image."""
    return part.ctypes.data + 2 * pixel * part.shape[1]


@compiled
def _split_pixel(image: Array, row: int, x: int, channels: int, part: Array, pixel: int) -> None:
    """Write high, low and high parts of the channels that begin at ``x``, float32, as three times the channels."""
    filled = part.shape[1] // 3
    tail = channels - channels % LANES
    for c in range(0, tail, LANES):
        value = load(image, row, x + c)
        store(part, pixel, c, value)
        store(part, pixel, 2 * filled + c, value)
        store(part, pixel, filled + c, value - load(part, pixel, c))
    for c in range(tail, channels):
        value = widen(image[row, x + c])
        part[pixel, c] = part[pixel, 2 * filled + c] = narrow(value, part[pixel, c])
        part[pixel, filled + c] = narrow(value - widen(part[pixel, c]), part[pixel, c])


@compiled
def _write(sums: Array, first: int, last: int, out: Array, pixel: int, start: int, bias: Array, slope: Any) -> None:
    """Add the bias, apply LeakyReLU, and write rows ``first`` to ``last`` of the sums, channels from ``start`` on.

    ``sums`` ``(32, 32)``; ``out`` ``(pixels, channels)``, of which row ``first`` is for ``pixel``.
    """
    stop = min(out.shape[1], start + BLOCK)
    tail = stop - (stop - start) % LANES
    if tail - start == BLOCK:
        left, right = load(bias, 0, start), load(bias, 0, start + LANES)
        for i in range(last - first):
            store(out, pixel + i, start, leaky_relu(load(sums, first + i, 0) + left, slope))
            store(out, pixel + i, start + LANES, leaky_relu(load(sums, first + i, LANES) + right, slope))
        return
    for i in range(last - first):
        for c in range(start, tail, LANES):
            value = load(sums, first + i, c - start) + load(bias, 0, c)
            store(out, pixel + i, c, leaky_relu(value, slope))
        for c in range(tail, stop):
            value = sums[first + i, c - start] + bias[0, c]
            out[pixel + i, c] = narrow(value if value > 0 else slope * value, out[pixel + i, c])


@compiled
def _write_share(
    sums: Array, share: int, shares: int, out: Array, one: int, two: int, valid: int, start: int, bias: Array, slope: Any
) -> None:
    """Write a share of the sums of two runs of pixels, ``valid`` of each, see :func:`_write`."""
    first, last = share * BLOCK // shares, (share + 1) * BLOCK // shares
    stop = min(last, valid)
    if first < stop:
        _write(sums, first, stop, out, one + first, start, bias, slope)
    begin, stop = max(first, ROWS_OF_TILE), min(last, ROWS_OF_TILE + valid)
    if begin < stop:
        _write(sums, begin, stop, out, two + begin - ROWS_OF_TILE, start, bias, slope)


@compiled
def _convolve_panel(
    part: Array,
    columns: int,
    kernel: int,
    stride: int,
    factor: int,
    steps: int,
    lines: int,
    width: int,
    sums: Array,
    out: Array,
    first: int,
    out_width: int,
    start: int,
    bias: Array,
    slope: Any,
) -> None:
    """Multiply a part of an image by a panel of the weights, whose address is ``factor``.

    Its outputs are ``lines`` rows of ``width`` pixels, the first of which is number ``first`` of ``out``. While a block
    of them is multiplied, the sums of the one before it are written: the units and the rest of the core work at once.
    """
    runs, valid = -(-width // ROWS_OF_TILE), min(ROWS_OF_TILE, width)
    pixel_bytes = 2 * part.shape[1]
    one = two = first
    pairs = -(-lines * runs // 2)
    for pair in range(pairs):
        before_one, before_two = one, two
        run, other = 2 * pair, min(2 * pair + 1, lines * runs - 1)
        i, k = run // runs, other // runs
        # The last run of a row begins inside the one before it.
        j = max(0, min(run % runs * ROWS_OF_TILE, width - ROWS_OF_TILE))
        m = max(0, min(other % runs * ROWS_OF_TILE, width - ROWS_OF_TILE))
        one, two = first + i * out_width + j, first + k * out_width + m
        clear_sums()
        for row in range(kernel):
            add_products(
                _at(part, (i * stride + row) * columns + j * stride),
                _at(part, (k * stride + row) * columns + m * stride),
                stride * pixel_bytes,
                steps,
                factor + row * steps * STEP_BYTES,
            )
            if pair > 0:
                _write_share(sums[1 - pair % 2], row, kernel, out, before_one, before_two, valid, start, bias, slope)
        write_sums(sums[pair % 2].ctypes.data)
    _write_share(sums[1 - pairs % 2], 0, 1, out, one, two, valid, start, bias, slope)


@cache
def _loop(dtype: torch.dtype, out_dtype: torch.dtype) -> Any:
    """Compile the loop over parts of all images, and over shares of the panels of each."""
    numbers, out_numbers, terms = NUMBERS[dtype], NUMBERS[out_dtype], _TERMS[dtype]

    @loop(f"{dtype}_{out_dtype}")
    def convolve(data: Any) -> None:
        a = arguments(data, 16)
        batch, height, width, channels, out_channels = a[0], a[1], a[2], a[3], a[4]
        kernel, stride, lines, columns, shares = a[5], a[6], a[7], a[8], a[9]
        out_height, out_width = -(-height // stride), -(-width // stride)
        images = carray(pointer(a[10]), (batch, height, width * channels), numbers)
        bias = carray(pointer(a[12]), (1, out_channels), np.float32)
        out = carray(pointer(a[13]), (batch * out_height * out_width, out_channels), out_numbers)
        slope = _F(float_arguments(data, 16)[15])
        across, down, panels = -(-out_width // columns), -(-out_height // lines), -(-out_channels // BLOCK)
        filled = terms * -(-channels // BLOCK) * BLOCK
        steps = kernel * filled // BLOCK
        wide = (max(columns, ROWS_OF_TILE) - 1) * stride + kernel
        part = np.empty((((lines - 1) * stride + kernel) * wide, filled), np.uint16)
        sums = np.empty((2, BLOCK, BLOCK), np.float32)
        before = np.empty(64, np.uint8)
        begin_tiles(a[14], before.ctypes.data)
        held = -1  # which part of an image lies in ``part``
        number = next_part(data)
        while number < parts(data):
            place, share = number // shares, number % shares
            image, top, left = place // (down * across), place // across % down * lines, place % across * columns
            count, count_across = min(lines, out_height - top), min(columns, out_width - left)
            if held != place:
                used = part[: ((count - 1) * stride + kernel) * wide]
                corner = top * stride - kernel // 2, left * stride - kernel // 2
                _fill(images[image], width, corner[0], corner[1], terms, used, wide)
                held = place
            for panel in range(share * panels // shares, (share + 1) * panels // shares):
                first = (image * out_height + top) * out_width + left
                factor = a[11] + panel * kernel * steps * STEP_BYTES
                _convolve_panel(
                    part, wide, kernel, stride, factor, steps, count, count_across, sums, out, first, out_width,
                    panel * BLOCK, bias, slope,
                )  # fmt: skip
            finish_part(data)
            number = next_part(data)
        end_tiles(before.ctypes.data)

    return convolve

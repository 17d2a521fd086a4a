"""Convolutions of images with channels last by matrix units for 8-bit integers (:mod:`.matrix_units`).

A part of an image is copied into memory of the thread as 16-bit integers, its largest value being the largest of
them, with zeros around it. There the pixels that 16 neighbouring outputs read for one tap are the rows of a tile:
nothing has to be laid out, and neighbouring taps of a row follow each other in memory. Weights are 16-bit integers,
scaled by output channel. Three products of 8-bit integers take half as long again as one in bfloat16; the error is
that of an image rounded to 2 ** -16 of its largest value, some twentieth of bfloat16's.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.half import NUMBERS, narrow, widen
from nnunet_fganet.compiled.lanes import (
    LANES,
    larger,
    largest_lane,
    leaky_relu,
    load,
    load_integers,
    store,
    store_bytes,
    zeros,
)
from nnunet_fganet.compiled.matrix_units import (
    BLOCK,
    LARGEST,
    PANEL,
    ROWS_OF_TILE,
    STEP,
    STEP_BYTES,
    add_products,
    begin_tiles,
    clear_sums,
    end_tiles,
    has_matrix_units,
    tile_shapes,
    tiled,
    write_sums,
)
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
_COLUMNS = 128  # of outputs of a part, at most
_PART_BYTES = 500_000  # so that a part stays in a core's cache beside a panel of the weights, and what it is read from
_PARTS_A_THREAD = 2  # at least


def fixed_point_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``(out_channels, in_channels, k, k)`` as :func:`fixed_point_conv2d` takes it: integers in tiles, and scales."""
    scale = weight.float().abs().amax((1, 2, 3)) / LARGEST
    integers = (weight.float() / scale.clamp(min=torch.finfo(torch.float32).tiny).view(-1, 1, 1, 1)).round()
    return tiled(integers.to(torch.int32).permute(0, 2, 3, 1).flatten(2)), scale


def fixed_point_conv2d(
    rows: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    stride: int,
    slope: float,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Convolve with "same" padding, then LeakyReLU.

    Parameters
    ----------
    rows
        ``(batch, height, width, in_channels)``, contiguous, float32 or float16.
    weight, scale
        Of :func:`fixed_point_weight`; k is odd.
    bias
        ``(out_channels,)``, float32.
    stride
        Of the outputs, in px.
    slope
        Of LeakyReLU: 0 is ReLU, 1 leaves the values as they are.
    dtype
        Of the result: float32 or float16.

    Returns
    -------
    torch.Tensor
        ``(batch, ceil(height / stride), ceil(width / stride), out_channels)``. A value of the image that is not
        finite makes NaN of the whole part of the image that reads it.

    Raises
    ------
    ValueError
        What is given is of another kind or shape, or there are no matrix units.
    """
    if not has_matrix_units():
        raise ValueError("this processor has no matrix units for 8-bit integers that this process may use")
    batch, height, width, channels = rows.shape
    kernel, out_channels = weight.shape[1], len(bias)
    check_array("rows", rows, rows.dtype, batch, height, width, channels)
    panels, steps = -(-out_channels // PANEL), -(-kernel * channels // STEP)
    check_array("weight", weight, torch.int8, panels, kernel, steps, 2, STEP // 4, PANEL, 4)
    check_array("scale", scale, torch.float32, out_channels)
    check_array("bias", bias, torch.float32, out_channels)
    out = rows.new_empty(batch, -(-height // stride), -(-width // stride), out_channels, dtype=dtype)
    lines, columns = _size_of_part(out.shape[1], out.shape[2], kernel, stride, 2 * channels)
    across, down = -(-out.shape[2] // columns), -(-out.shape[1] // lines)
    shares = min(panels, -(-_PARTS_A_THREAD * torch.get_num_threads() // max(1, batch * across * down)))
    run_parts(
        _loop(rows.dtype, dtype),
        batch * down * across * shares,
        *(batch, height, width, channels, out_channels, kernel, stride, lines, columns, shares),
        *(rows.data_ptr(), weight.data_ptr(), scale.data_ptr(), bias.data_ptr(), out.data_ptr()),
        *(tile_shapes().ctypes.data, float(slope)),
    )
    return out


def _size_of_part(height: int, width: int, kernel: int, stride: int, pixel_bytes: int) -> tuple[int, int]:
    """Rows and columns of outputs that a part of an image has, at most."""
    columns = -(-width // -(-width // _COLUMNS))
    line_bytes = ((max(columns, ROWS_OF_TILE) - 1) * stride + kernel) * pixel_bytes
    lines = min(height, max(1, (_PART_BYTES // line_bytes - kernel) // stride + 1))
    return -(-height // -(-height // lines)), columns


@compiled
def _largest(image: Array, top: int, bottom: int, start: int, stop: int) -> Any:
    """Largest absolute value of columns of some rows; NaN where one of them is."""
    tail = stop - (stop - start) % LANES
    lanes, rest = zeros(), _F(0)
    for i in range(top, bottom):
        for x in range(start, tail, LANES):
            value = load(image, i, x)
            lanes = larger(lanes, larger(value, _F(0) - value))
        for x in range(tail, stop):
            value = widen(image[i, x])
            rest = larger(rest, larger(value, -value))
    return larger(rest, largest_lane(lanes))


@compiled
def _fill(image: Array, width: int, top: int, left: int, part: Array, columns: int) -> Any:
    """Copy a part of an image, whose first pixel is in row ``top`` and column ``left``; zeros outside the image.

    ``image`` ``(height, width * channels)``; ``part`` ``(2, rows * columns * channels and some more)``, int8: high and
    low bytes. Returns what the integers are multiples of.
    """
    height, channels = image.shape[0], image.shape[1] // width
    lines = (part.shape[1] - STEP) // (columns * channels)
    first, last = min(columns, max(0, -left)), max(0, min(columns, width - left))
    start, stop = (left + first) * channels, (left + last) * channels
    largest = _largest(image, max(0, top), min(height, top + lines), start, stop)
    factor = _F(LARGEST) / largest if largest > 0 else _F(0)
    for i in range(lines):
        inside = 0 <= top + i < height and first < last
        line = i * columns * channels
        if not inside:
            part[:, line : line + columns * channels] = 0
        else:
            part[:, line : line + first * channels] = 0
            part[:, line + last * channels : line + columns * channels] = 0
            _fill_row(image, top + i, start, stop, factor, part, line + first * channels)
    return largest / _F(LARGEST)


@compiled
def _fill_row(image: Array, row: int, start: int, stop: int, factor: Any, part: Array, to: int) -> None:
    """Write numbers of a row, times ``factor``, as integers, from ``to`` on."""
    tail = stop - (stop - start) % LANES
    for x in range(start, tail, LANES):
        store_bytes(part, to + x - start, factor * load(image, row, x))
    for x in range(tail, stop):
        number = np.int32(np.rint(factor * widen(image[row, x])))
        low = (number + 128) % 256 - 128
        part[0, to + x - start], part[1, to + x - start] = np.int8((number - low) // 256), np.int8(low)


@compiled
def _write(
    sums: Array,
    first: int,
    last: int,
    unit: Any,
    scale: Array,
    bias: Array,
    slope: Any,
    out: Array,
    pixel: int,
    start: int,
) -> None:
    """Write rows ``first`` to ``last`` of the sums, of channels from ``start`` on, as float32: bias added, activated.

    ``sums`` ``(2 * 32, 16)``; ``unit`` and ``scale`` ``(1, channels)``: what the integers of image and weights are
    multiples of; ``out`` ``(pixels, channels)``, of which row ``first`` is for ``pixel``.
    """
    channels = out.shape[1]
    if start + PANEL <= channels:
        factor, shift = (_F(256) * unit) * load(scale, 0, start), load(bias, 0, start)
        for i in range(first, last):
            value = _F(256) * load_integers(sums, i, 0) + load_integers(sums, BLOCK + i, 0)
            store(out, pixel + i - first, start, leaky_relu(value * factor + shift, slope))
        return
    for i in range(first, last):
        for c in range(start, channels):
            number = _F(256) * _F(sums[i, c - start]) + _F(sums[BLOCK + i, c - start])
            value = number * (_F(256) * unit * scale[0, c]) + bias[0, c]
            out[pixel + i - first, c] = narrow(value if value > 0 else slope * value, out[pixel + i - first, c])


@compiled
def _write_share(
    sums: Array, share: int, shares: int, unit: Any, scale: Array, bias: Array, slope: Any, out: Array,
    one: int, two: int, valid: int, start: int,
) -> None:  # fmt: skip
    """Write a share of the sums of two runs of pixels, ``valid`` of each, see :func:`_write`."""
    first, last = share * BLOCK // shares, (share + 1) * BLOCK // shares
    stop = min(last, valid)
    if first < stop:
        _write(sums, first, stop, unit, scale, bias, slope, out, one + first, start)
    begin, stop = max(first, ROWS_OF_TILE), min(last, ROWS_OF_TILE + valid)
    if begin < stop:
        _write(sums, begin, stop, unit, scale, bias, slope, out, two + begin - ROWS_OF_TILE, start)


@compiled
def _convolve_panel(
    part: Array, columns: int, channels: int, kernel: int, stride: int, factor: int, steps: int,
    lines: int, width: int, sums: Array, unit: Any, scale: Array, bias: Array, slope: Any,
    out: Array, first: int, out_width: int, start: int,
) -> None:  # fmt: skip
    """Multiply a part of an image by a panel of the weights, whose address is ``factor``.

    Its outputs are ``lines`` rows of ``width`` pixels, the first of which is number ``first`` of ``out``. While a block
    of them is multiplied, the sums of the one before it are written: the units and the rest of the core work at once.
    """
    runs, valid = -(-width // ROWS_OF_TILE), min(ROWS_OF_TILE, width)
    base, low = part.ctypes.data, part.shape[1]
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
                base + ((i * stride + row) * columns + j * stride) * channels,
                base + ((k * stride + row) * columns + m * stride) * channels,
                low, stride * channels, steps, factor + row * steps * STEP_BYTES,
            )  # fmt: skip
            if pair > 0:
                _write_share(
                    sums[1 - pair % 2], row, kernel, unit, scale, bias, slope, out, before_one, before_two, valid, start
                )
        write_sums(sums[pair % 2].ctypes.data)
    _write_share(sums[1 - pairs % 2], 0, 1, unit, scale, bias, slope, out, one, two, valid, start)


@cache
def _loop(dtype: torch.dtype, out_dtype: torch.dtype) -> Any:
    """Compile the loop over parts of all images, and over shares of the panels of each."""
    numbers, out_numbers = NUMBERS[dtype], NUMBERS[out_dtype]

    @loop(f"{dtype}_{out_dtype}")
    def convolve(data: Any) -> None:
        a = arguments(data, 17)
        batch, height, width, channels, out_channels = a[0], a[1], a[2], a[3], a[4]
        kernel, stride, lines, columns, shares = a[5], a[6], a[7], a[8], a[9]
        out_height, out_width = -(-height // stride), -(-width // stride)
        images = carray(pointer(a[10]), (batch, height, width * channels), numbers)
        scale = carray(pointer(a[12]), (1, out_channels), np.float32)
        bias = carray(pointer(a[13]), (1, out_channels), np.float32)
        out = carray(pointer(a[14]), (batch * out_height * out_width, out_channels), out_numbers)
        slope = _F(float_arguments(data, 17)[16])
        across, down, panels = -(-out_width // columns), -(-out_height // lines), -(-out_channels // PANEL)
        steps = -(-kernel * channels // STEP)
        wide = (max(columns, ROWS_OF_TILE) - 1) * stride + kernel
        # The last steps of a row read beyond it, and multiply by zeros.
        part = np.zeros((2, ((lines - 1) * stride + kernel) * wide * channels + STEP), np.int8)
        sums = np.empty((2, 2 * BLOCK, PANEL), np.int32)
        before = np.empty(64, np.uint8)
        begin_tiles(a[15], before.ctypes.data)
        held, unit = -1, _F(0)  # which part of an image lies in ``part``
        number = next_part(data)
        while number < parts(data):
            place, share = number // shares, number % shares
            image, top, left = place // (down * across), place // across % down * lines, place % across * columns
            count, count_across = min(lines, out_height - top), min(columns, out_width - left)
            if held != place:
                corner = top * stride - kernel // 2, left * stride - kernel // 2
                unit = _fill(images[image], width, corner[0], corner[1], part, wide)
                held = place
            for panel in range(share * panels // shares, (share + 1) * panels // shares):
                first = (image * out_height + top) * out_width + left
                factor = a[11] + panel * kernel * steps * STEP_BYTES
                _convolve_panel(
                    part, wide, channels, kernel, stride, factor, steps, count, count_across, sums, unit,
                    scale, bias, slope, out, first, out_width, panel * PANEL,
                )  # fmt: skip
            finish_part(data)
            number = next_part(data)
        end_tiles(before.ctypes.data)

    return convolve

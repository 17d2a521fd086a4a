"""Convolutions of images of many channels in bfloat16, channels last, by matrix units (:mod:`.matrix_units`).

A part of an image is copied into memory of the thread, 32 channels of all its pixels after 32 channels, with zeros
around the image: there the pixels that 16 neighbouring outputs read for one tap are a tile, and what the nine taps of a
kernel read of 32 channels stays in the nearest cache. The weights follow each other in the order in which they are
multiplied. oneDNN, which lays out nothing, takes a quarter longer.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray
from torch.nn import functional

from nnunet_fganet.compiled.decorators import compiled, inlined, loop
from nnunet_fganet.compiled.first_lanes import store_first
from nnunet_fganet.compiled.half import NUMBERS, narrow, widen
from nnunet_fganet.compiled.image_parts import place_of_part, run_start, size_of_part
from nnunet_fganet.compiled.lanes import COPIED_AT_ONCE, LANES, copy_many, leaky_relu, load, store
from nnunet_fganet.compiled.matrix_units import (
    BLOCK,
    ROW_BYTES,
    ROWS_OF_TILE,
    WIDE_PANEL,
    WIDE_STEP_BYTES,
    add_bfloat16_products,
    begin_tiles,
    clear_sums,
    end_tiles,
    has_matrix_units,
    tile_shapes,
    tiles_of,
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
_CHUNK = COPIED_AT_ONCE  # channels that one product multiplies
_COLUMNS = 128  # of outputs of a part, at most
_PART_BYTES = 700_000  # of an image, at most, unless a row has more: beside a panel of the weights in a core's cache
_PARTS_A_THREAD = 2  # at least


def bfloat16_weight(weight: torch.Tensor) -> torch.Tensor:
    """``(out_channels, in_channels, k, k)`` as :func:`bfloat16_conv2d` takes it.

    Returns
    -------
    torch.Tensor
        bfloat16 ``(panels, chunks * k * k, 2, 16, 16, 2)``: of :func:`.matrix_units.tiles_of`, with one step for 32
        channels and one tap.
    """
    out_channels, channels, kernel = weight.shape[:3]
    padded = functional.pad(weight.bfloat16(), (0, 0, 0, 0, 0, -channels % _CHUNK))
    chunks = padded.view(out_channels, -1, _CHUNK, kernel, kernel).permute(0, 1, 3, 4, 2)
    return tiles_of(chunks.reshape(out_channels, -1))


def bfloat16_conv2d(
    rows: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    kernel: int,
    stride: int,
    slope: float,
) -> torch.Tensor:
    """Convolve with "same" padding, then LeakyReLU.

    Parameters
    ----------
    rows
        ``(batch, height, width, in_channels)``, contiguous, bfloat16 or float16, which is rounded to bfloat16.
    weight
        Of :func:`bfloat16_weight`.
    bias
        ``(out_channels,)``, float32.
    kernel
        Odd: the kernel's height and width.
    stride, slope
        See :func:`.fixed_point.fixed_point_conv2d`.

    Returns
    -------
    torch.Tensor
        ``(batch, ceil(height / stride), ceil(width / stride), out_channels)``, bfloat16; sums are float32.

    Raises
    ------
    ValueError
        What is given is of another kind, number or shape, or there are no matrix units.
    """
    if not has_matrix_units():
        raise ValueError("this processor has no matrix units for bfloat16 that this process may use")
    (batch, height, width, channels), out_channels = rows.shape, len(bias)
    if rows.dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"rows must be bfloat16 or float16, not {rows.dtype}")
    check_array("rows", rows, rows.dtype, batch, height, width, channels)
    panels, chunks = -(-out_channels // WIDE_PANEL), -(-channels // _CHUNK)
    check_array("weight", weight, torch.bfloat16, panels, chunks * kernel**2, 2, 16, 16, 2)
    check_array("bias", bias, torch.float32, out_channels)
    bias = functional.pad(bias, (0, -out_channels % WIDE_PANEL))
    out = rows.new_empty(batch, -(-height // stride), -(-width // stride), out_channels, dtype=torch.bfloat16)
    chunk_bytes = chunks * ROW_BYTES
    lines, columns = size_of_part((out.shape[1], out.shape[2]), kernel, stride, _COLUMNS, chunk_bytes, _PART_BYTES)
    threads, across, down = torch.get_num_threads(), -(-out.shape[2] // columns), -(-out.shape[1] // lines)
    if batch * across == 1 and down > threads:  # all threads come to the end together
        lines = -(-out.shape[1] // (-(-down // threads) * threads))
        down = -(-out.shape[1] // lines)
    shares = min(panels, -(-_PARTS_A_THREAD * threads // max(1, batch * across * down)))
    run_parts(
        _loop(rows.dtype),
        batch * down * across * shares,
        *(batch, height, width, channels, out_channels, kernel, stride, lines, columns, shares),
        *(rows.data_ptr(), weight.data_ptr(), bias.data_ptr(), out.data_ptr(), tile_shapes().ctypes.data),
        float(slope),
    )
    return out


@compiled
def _copy_chunk(image: Array, row: int, x: int, part: Array, to: int) -> None:
    copy_many(image, row, x, part, to, 0)


@compiled
def _round_chunk(image: Array, row: int, x: int, part: Array, to: int) -> None:
    for c in range(0, _CHUNK, LANES):
        store(part, to, c, load(image, row, x + c))


def _line_filler(write_chunk: Any) -> Any:
    """Compile what fills a line of a part of an image; ``write_chunk`` writes 32 channels of a pixel."""

    @compiled
    def fill_line(image: Array, width: int, row: int, left: int, part: Array, to: int, columns: int, step: int) -> None:
        """Copy columns of a row of an image, of which the first is ``left``; zeros outside the image.

        ``image`` ``(height, width * channels)``; ``part`` ``(chunks * step, 32)``: 32 channels go into rows from ``to``
        on, the next 32 begin ``step`` rows behind them.
        """
        height, channels = image.shape[0], image.shape[1] // width
        first, last = min(columns, max(0, -left)), max(0, min(columns, width - left))
        if not 0 <= row < height or first >= last:
            first = last = columns
        for start in range(to, len(part), step):
            part[start : start + first] = 0
            part[start + last : start + columns] = 0
        whole = channels // _CHUNK
        for x in range(first, last):
            pixel = (left + x) * channels
            for k in range(whole):
                write_chunk(image, row, pixel + k * _CHUNK, part, to + x + k * step)
            for c in range(whole * _CHUNK, channels):
                place = to + x + whole * step, c - whole * _CHUNK
                part[place] = narrow(widen(image[row, pixel + c]), part[place])

    return fill_line


_FILLERS = {torch.bfloat16: _line_filler(_copy_chunk), torch.float16: _line_filler(_round_chunk)}


@inlined
def _write(
    sums: Array, valid: int, bias: Array, slope: Any, out: Array, one: int, two: int, first_channel: int
) -> None:
    """Write a block of sums, with the bias and activated.

    ``sums`` ``(2 * 32, 16)``; ``out`` ``(pixels, channels)``, of which the two runs of the block begin with ``one`` and
    ``two``, with ``valid`` pixels each.
    """
    for half in range(2):
        start = first_channel + half * LANES
        count = min(LANES, out.shape[1] - start)
        if count > 0:
            shifts = load(bias, 0, start)
            for i in range(BLOCK):
                if i % ROWS_OF_TILE < valid:
                    pixel = one + i if i < ROWS_OF_TILE else two + i - ROWS_OF_TILE
                    value = leaky_relu(load(sums, half * BLOCK + i, 0) + shifts, slope)
                    store_first(out, pixel, start, value, count)


@inlined
def _convolve_panel(
    part: Array, step: int, columns: int, chunks: int, kernel: int, stride: int, factor: int, lines: int, width: int,
    sums: Array, bias: Array, slope: Any, out: Array, first: int, out_width: int, first_channel: int,
) -> None:  # fmt: skip
    """Multiply a part of an image by a panel of the weights, whose address is ``factor``.

    Its outputs are ``lines`` rows of ``width`` pixels, the first of which is number ``first`` of ``out``. ``part``,
    ``step``: see :func:`_line_filler`.
    """
    runs, valid = -(-width // ROWS_OF_TILE), min(ROWS_OF_TILE, width)
    base, pixel_bytes = part.ctypes.data, stride * ROW_BYTES
    for block in range(-(-lines * runs // 2)):
        row_one, column_one = run_start(2 * block, runs, width)
        row_two, column_two = run_start(min(2 * block + 1, lines * runs - 1), runs, width)
        from_one = base + (row_one * columns + column_one) * pixel_bytes
        from_two = base + (row_two * columns + column_two) * pixel_bytes
        weights = factor
        clear_sums()
        for chunk in range(chunks):
            for row in range(kernel):
                place = (chunk * step + row * columns) * ROW_BYTES
                for column in range(kernel):
                    at = place + column * ROW_BYTES
                    add_bfloat16_products(from_one + at, from_two + at, pixel_bytes, weights)
                    weights += WIDE_STEP_BYTES
        write_sums(sums.ctypes.data)
        one, two = first + row_one * out_width + column_one, first + row_two * out_width + column_two
        _write(sums, valid, bias, slope, out, one, two, first_channel)


@cache
def _loop(dtype: torch.dtype) -> Any:
    """Compile the loop over parts of all images, and over shares of the panels of each."""
    numbers, fill_line = NUMBERS[dtype], _FILLERS[dtype]

    @loop(str(dtype))
    def convolve(data: Any) -> None:
        a = arguments(data, 16)
        batch, height, width, channels, out_channels = a[0], a[1], a[2], a[3], a[4]
        kernel, stride, lines, columns, shares = a[5], a[6], a[7], a[8], a[9]
        out_height, out_width, panels = -(-height // stride), -(-width // stride), -(-out_channels // WIDE_PANEL)
        images = carray(pointer(a[10]), (batch * height, width * channels), numbers)
        bias = carray(pointer(a[12]), (1, panels * WIDE_PANEL), np.float32)
        out = carray(pointer(a[13]), (batch * out_height * out_width, out_channels), np.uint16)
        slope = _F(float_arguments(data, 16)[15])
        chunks = -(-channels // _CHUNK)
        panel_bytes = chunks * kernel * kernel * WIDE_STEP_BYTES
        wide = (max(columns, ROWS_OF_TILE) - 1) * stride + kernel
        step = ((lines - 1) * stride + kernel) * wide  # pixels of a part
        memory = np.empty((chunks * step + 1) * _CHUNK, np.uint16)
        start = -memory.ctypes.data % ROW_BYTES // 2
        part = memory[start : start + chunks * step * _CHUNK].reshape(-1, _CHUNK)
        part[(channels // _CHUNK) * step :] = 0  # what is missing in the last channels
        sums = np.empty((2 * BLOCK, LANES), np.float32)
        shapes_before = np.empty(64, np.uint8)
        begin_tiles(a[14], shapes_before)
        number = next_part(data)
        while number < parts(data):
            place = place_of_part(number // shares, out_height, out_width, lines, columns)
            image, top, left, count, count_across = place
            share, source = number % shares, images[image * height : (image + 1) * height]
            row, column = top * stride - kernel // 2, left * stride - kernel // 2
            for line in range((count - 1) * stride + kernel):
                fill_line(source, width, row + line, column, part, line * wide, wide, step)
            first = (image * out_height + top) * out_width + left
            for panel in range(share * panels // shares, (share + 1) * panels // shares):
                _convolve_panel(
                    part, step, wide, chunks, kernel, stride, a[11] + panel * panel_bytes, count, count_across,
                    sums, bias, slope, out, first, out_width, panel * WIDE_PANEL,
                )  # fmt: skip
            finish_part(data)
            number = next_part(data)
        end_tiles(shapes_before)

    return convolve

"""Convolutions of bfloat16 images with channels last by matrix units (:mod:`.matrix_units`).

A strip of an image is copied into memory of the thread, with zeros around it and channels filled up to whole steps of a
product. There the pixels that 16 neighbouring outputs read for one tap are the rows of a tile: nothing has to be laid
out, and neighbouring taps of a row follow each other in memory.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.bfloat16 import NUMBERS, narrow
from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.lanes import LANES, leaky_relu, load, store
from nnunet_fganet.compiled.matrix_units import (
    BLOCK,
    ROWS_OF_TILE,
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
_STRIP_BYTES = 1_300_000  # of a strip, so that it stays in a core's cache beside a panel of the weights
_PARTS_A_THREAD = 2  # at least


def direct_weight(weight: torch.Tensor) -> torch.Tensor:
    """``(out_channels, in_channels, k, k)`` as :func:`direct_conv2d` takes it."""
    out_channels, channels, kernel, _ = weight.shape
    filled = torch.nn.functional.pad(weight.permute(0, 2, 3, 1), (0, -channels % BLOCK))
    return tiled_weight(filled.reshape(out_channels, kernel, -1))


def direct_conv2d(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: int, slope: float, dtype: torch.dtype
) -> torch.Tensor:
    """Convolve with "same" padding, then LeakyReLU; sums in float32.

    Parameters
    ----------
    rows
        ``(batch, height, width, in_channels)``, contiguous, bfloat16.
    weight
        Of :func:`direct_weight`; k is odd.
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
        ``(batch, ceil(height / stride), ceil(width / stride), out_channels)``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape, or there are no matrix units.
    """
    if not has_matrix_units():
        raise ValueError("this processor has no matrix units for bfloat16 that this process may use")
    batch, height, width, channels = rows.shape
    panels, kernel, steps = weight.shape[:3]
    out_channels = len(bias)
    check_array("rows", rows, torch.bfloat16, batch, height, width, channels)
    tiles = (2, ROWS_OF_TILE, ROWS_OF_TILE, 2)
    wanted = -(-out_channels // BLOCK), kernel, kernel * -(-channels // BLOCK)
    check_array("weight", weight, torch.bfloat16, *wanted, *tiles)
    check_array("bias", bias, torch.float32, out_channels)
    out = rows.new_empty(batch, -(-height // stride), -(-width // stride), out_channels, dtype=dtype)
    columns = (max(out.shape[2], ROWS_OF_TILE) - 1) * stride + kernel
    line = columns * -(-channels // BLOCK) * BLOCK
    longest = max(1, (_STRIP_BYTES // (2 * line) - kernel) // stride + 1)
    strips = -(-out.shape[1] // longest)
    threads = torch.get_num_threads()
    shares = min(panels, -(-_PARTS_A_THREAD * threads // (batch * strips)))
    run_parts(
        _loop(dtype),
        batch * strips * shares,
        *(batch, height, width, channels, out_channels, kernel, stride, steps, strips, shares, columns),
        *(rows.data_ptr(), weight.data_ptr(), bias.data_ptr(), out.data_ptr(), tile_shapes().ctypes.data),
        float(slope),
    )
    return out


@compiled
def _fill(image: Array, top: int, padding: int, channels: int, strip: Array) -> None:
    """Copy rows of an image, from ``top`` on, with zeros around it.

    ``image`` ``(height, width * channels)``; ``strip`` ``(rows, columns, filled channels)``.
    """
    height, width = image.shape[0], image.shape[1] // channels
    columns, filled = strip.shape[1:]
    count = min(width, columns - padding)
    for i in range(len(strip)):
        if channels != filled or not 0 <= top + i < height:
            clear_bytes(_at(strip, i, 0), 2 * columns * filled)
        if not 0 <= top + i < height:
            continue
        given = image.ctypes.data + 2 * (top + i) * width * channels
        if channels == filled:
            clear_bytes(_at(strip, i, 0), 2 * padding * filled)
            clear_bytes(_at(strip, i, padding + count), 2 * (columns - padding - count) * filled)
            copy_bytes(_at(strip, i, padding), given, 2 * count * filled)
        else:
            for j in range(count):
                copy_bytes(_at(strip, i, padding + j), given + 2 * j * channels, 2 * channels)


@compiled
def _at(strip: Array, i: int, j: int) -> int:
    """Address of a pixel of a strip."""
    return strip.ctypes.data + 2 * (i * strip.shape[1] + j) * strip.shape[2]


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


@cache
def _loop(dtype: torch.dtype) -> Any:
    """Compile the loop over strips of all images, and over shares of the panels of each."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def convolve(data: Any) -> None:
        a = arguments(data, 17)
        batch, height, width, channels, out_channels, kernel, stride, steps = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
        strips, shares, columns = a[8], a[9], a[10]
        out_height, out_width = -(-height // stride), -(-width // stride)
        images = carray(pointer(a[11]), (batch, height, width * channels), np.uint16)
        bias = carray(pointer(a[13]), (1, out_channels), np.float32)
        out = carray(pointer(a[14]), (batch * out_height * out_width, out_channels), numbers)
        slope = _F(float_arguments(data, 17)[16])
        filled = -(-channels // BLOCK) * BLOCK
        longest = -(-out_height // strips)
        strip = np.empty(((longest - 1) * stride + kernel, columns, filled), np.uint16)
        sums = np.empty((2, BLOCK, BLOCK), np.float32)
        before = np.empty(64, np.uint8)
        pixel_bytes, line_bytes = 2 * filled, 2 * filled * columns
        panel_bytes, panels = kernel * steps * 2 * BLOCK * BLOCK, -(-out_channels // BLOCK)
        runs = -(-out_width // ROWS_OF_TILE)
        begin_tiles(a[15], before.ctypes.data)
        held = -1
        part = next_part(data)
        while part < parts(data):
            whole, share = part // shares, part % shares
            image, top = whole // strips, whole % strips * out_height // strips
            count = (whole % strips + 1) * out_height // strips - top
            if held != whole:
                used = strip[: (count - 1) * stride + kernel]
                _fill(images[image], top * stride - kernel // 2, kernel // 2, channels, used)
                held = whole
            for panel in range(share * panels // shares, (share + 1) * panels // shares):
                first = (image * out_height + top) * out_width
                valid, start = min(ROWS_OF_TILE, out_width), panel * BLOCK
                one = two = first
                pairs = -(-count * runs // 2)
                for pair in range(pairs):
                    before_one, before_two = one, two
                    run, other = 2 * pair, min(2 * pair + 1, count * runs - 1)
                    i, k = run // runs, other // runs
                    j = max(0, min(run % runs * ROWS_OF_TILE, out_width - ROWS_OF_TILE))
                    l = max(0, min(other % runs * ROWS_OF_TILE, out_width - ROWS_OF_TILE))
                    one, two = first + i * out_width + j, first + k * out_width + l
                    a_one = _at(strip, i * stride, j * stride)
                    a_two = _at(strip, k * stride, l * stride)
                    clear_sums()
                    for row in range(kernel):
                        add_products(
                            a_one + row * line_bytes, a_two + row * line_bytes, stride * pixel_bytes, steps,
                            a[12] + panel * panel_bytes + row * steps * 2 * BLOCK * BLOCK,
                        )
                        if pair > 0:
                            _write_share(
                                sums[1 - pair % 2], row, kernel, out, before_one, before_two, valid, start, bias, slope
                            )
                    write_sums(sums[pair % 2].ctypes.data)
                _write_share(sums[1 - pairs % 2], 0, 1, out, one, two, valid, start, bias, slope)
            finish_part(data)
            part = next_part(data)
        end_tiles(before.ctypes.data)

    return convolve

"""The network's ends: 3 x 3 convolutions of images of a few channels, and 1 x 1 convolutions to a few channels.

Matrix units would multiply by zeros for the most part.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray
from torch.nn import functional

from nnunet_fganet.compiled.decorators import inlined, loop
from nnunet_fganet.compiled.first_lanes import store_first
from nnunet_fganet.compiled.half import NUMBERS, widen
from nnunet_fganet.compiled.lanes import LANES, lane_sum, leaky_relu, load, store, zeros
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

# Channels that are few, in and out: with more our convolutions of integers are faster.
MOST_IN, MOST_OUT = 1, 2
_USUAL = 3  # rows and columns of a kernel, of one channel
_PIXELS = 512  # of a part
Array = NDArray[Any]
_F = np.float32


def conv2d_from_few(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, slope: float, dtype: torch.dtype
) -> torch.Tensor:
    """Convolve with "same" padding, then LeakyReLU; sums in float32.

    Parameters
    ----------
    rows
        ``(batch, height, width, in_channels)``, contiguous, float32.
    weight
        ``(k, k, in_channels, out_channels)``, contiguous, float32; k is odd.
    bias
        ``(out_channels,)``, float32.
    slope
        Of LeakyReLU: 0 is ReLU, 1 leaves the values as they are.
    dtype
        Of the result, one of :data:`.half.NUMBERS`.

    Returns
    -------
    torch.Tensor
        ``(batch, height, width, out_channels)``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    batch, height, width, channels = rows.shape
    kernel, out_channels = len(weight), len(bias)
    check_array("rows", rows, torch.float32, batch, height, width, channels)
    check_array("weight", weight, torch.float32, kernel, kernel, channels, out_channels)
    check_array("bias", bias, torch.float32, out_channels)
    out = rows.new_empty(batch, height, width, out_channels, dtype=dtype)
    weight, bias = (functional.pad(each, (0, -out_channels % LANES)) for each in (weight, bias))  # whole vectors
    addresses = (each.data_ptr() for each in (rows, weight, bias, out))
    given = (batch, height, width, channels, out_channels, kernel, *addresses, float(slope))
    run_parts(_from_few_loop(dtype), batch * height, *given)
    return out


def product_to_few(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Multiply each pixel's channels by a matrix, ``(out_channels, in_channels)``, float32, and add the bias.

    ``rows`` ``(..., in_channels)``, contiguous, of a dtype of :data:`.half.NUMBERS`; returns ``(..., out_channels)``,
    float32.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    channels, out_channels = rows.shape[-1], len(bias)
    check_array("rows", rows, rows.dtype, *rows.shape)
    check_array("weight", weight, torch.float32, out_channels, channels)
    check_array("bias", bias, torch.float32, out_channels)
    out = rows.new_empty(*rows.shape[:-1], out_channels, dtype=torch.float32)
    pixels = rows.numel() // channels
    addresses = (each.data_ptr() for each in (rows, weight, bias, out))
    run_parts(_to_few_loop(rows.dtype), -(-pixels // _PIXELS), pixels, channels, out_channels, *addresses)
    return out


@inlined
def _from_few(
    line: Array, j: int, weight: Array, kernel: int, bias: Array, slope: Any, out: Array, row: int, out_channels: int
) -> None:
    """Outputs of one pixel; ``line`` ``(k, numbers of a row)``: the rows around it, with zeros around them.

    ``weight`` ``(k * k * in_channels, whole vectors of out_channels)``; ``out`` ``(rows, width * out_channels)``.
    """
    reach = len(weight) // kernel  # numbers of a row that a pixel reads
    start = j * (reach // kernel)
    for c in range(0, bias.shape[1], LANES):
        total = load(bias, 0, c)
        if kernel == reach == _USUAL:  # the same as below, in loops that LLVM knows the length of
            for y in range(_USUAL):
                for x in range(_USUAL):
                    total = total + line[y, start + x] * load(weight, y * _USUAL + x, c)
        else:
            for y in range(kernel):
                for x in range(reach):
                    total = total + line[y, start + x] * load(weight, y * reach + x, c)
        if c + LANES <= out_channels:
            store(out, row, j * out_channels + c, leaky_relu(total, slope))
        else:
            store_first(out, row, j * out_channels + c, leaky_relu(total, slope), out_channels - c)


@cache
def _from_few_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def convolve_rows(data: Any) -> None:
        a = arguments(data, 11)
        batch, height, width, channels, out_channels, kernel = a[0], a[1], a[2], a[3], a[4], a[5]
        images = carray(pointer(a[6]), (batch * height, width * channels), _F)
        whole = -(-out_channels // LANES) * LANES
        weight = carray(pointer(a[7]), (kernel * kernel * channels, whole), _F)
        bias = carray(pointer(a[8]), (1, whole), _F)
        out = carray(pointer(a[9]), (batch * height, width * out_channels), numbers)
        slope = _F(float_arguments(data, 11)[10])
        half = kernel // 2
        line = np.zeros((kernel, (width + kernel - 1) * channels), _F)
        part = next_part(data)
        while part < parts(data):
            for y in range(kernel):
                row = part % height + y - half
                if 0 <= row < height:
                    line[y, half * channels : (half + width) * channels] = images[part - part % height + row]
                else:
                    line[y] = 0
            for j in range(width):
                _from_few(line, j, weight, kernel, bias, slope, out, part, out_channels)
            finish_part(data)
            part = next_part(data)

    return convolve_rows


@cache
def _to_few_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the pixels of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def multiply_pixels(data: Any) -> None:
        a = arguments(data, 7)
        pixels, channels, out_channels = a[0], a[1], a[2]
        rows = carray(pointer(a[3]), (pixels, channels), numbers)
        weight = carray(pointer(a[4]), (out_channels, channels), _F)
        bias = carray(pointer(a[5]), (out_channels,), _F)
        out = carray(pointer(a[6]), (pixels, out_channels), _F)
        tail = channels - channels % LANES
        part = next_part(data)
        while part < parts(data):
            for pixel in range(part * _PIXELS, min((part + 1) * _PIXELS, pixels)):
                for k in range(out_channels):
                    lanes, number = zeros(), bias[k]
                    for c in range(0, tail, LANES):
                        lanes = lanes + load(rows, pixel, c) * load(weight, k, c)
                    for c in range(tail, channels):
                        number += widen(rows[pixel, c]) * weight[k, c]
                    out[pixel, k] = number + lane_sum(lanes)
            finish_part(data)
            part = next_part(data)

    return multiply_pixels

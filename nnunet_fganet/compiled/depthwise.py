"""Depthwise convolutions of images with channels last, sixteen channels at a time."""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.decorators import inlined, loop
from nnunet_fganet.compiled.half import NUMBERS, narrow, widen
from nnunet_fganet.compiled.lanes import LANES, load, store
from nnunet_fganet.compiled.threads import arguments, check_array, finish_part, next_part, parts, pointer, run_parts

_USUAL = 3  # rows and columns of a kernel
Array = NDArray[Any]


def depthwise_conv2d(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Convolve each channel with weights of its own, with "same" padding; sums in float32.

    Parameters
    ----------
    rows
        ``(batch, height, width, channels)``, contiguous, of a dtype of :data:`.half.NUMBERS`.
    weight
        ``(k, k, channels)``, contiguous, float32; k is odd.
    bias
        ``(channels,)``, float32.

    Returns
    -------
    torch.Tensor
        Like ``rows``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    batch, height, width, channels = rows.shape
    kernel = len(weight)
    check_array("rows", rows, rows.dtype, batch, height, width, channels)
    check_array("weight", weight, torch.float32, kernel, kernel, channels)
    check_array("bias", bias, torch.float32, channels)
    out = torch.empty_like(rows)
    addresses = (each.data_ptr() for each in (rows, weight, bias, out))
    run_parts(_loop(rows.dtype), batch * height, batch, height, width, channels, kernel, *addresses)
    return out


@inlined
def _pixel(
    image: Array, i: int, j: int, weight: Array, kernel: int, bias: Array, out: Array, row: int, channels: int
) -> None:
    """Sums of all channels of a pixel.

    ``image`` ``(height, width * channels)``; ``weight`` ``(k * k, channels)``; ``out`` ``(rows, width * channels)``.
    """
    height, width, half = image.shape[0], image.shape[1] // channels, kernel // 2
    top, bottom = max(0, i - half), min(height, i + half + 1)
    left, right = max(0, j - half), min(width, j + half + 1)
    tail = channels - channels % LANES
    inside = kernel == _USUAL and bottom - top == right - left == _USUAL
    for c in range(0, tail, LANES):
        total = load(bias, 0, c)
        if inside:  # the same as below, in loops that LLVM knows the length of
            for y in range(_USUAL):
                for x in range(_USUAL):
                    value = load(image, top + y, (left + x) * channels + c)
                    total = total + load(weight, y * _USUAL + x, c) * value
        else:
            for y in range(top, bottom):
                for x in range(left, right):
                    tap = (y - i + half) * kernel + x - j + half
                    total = total + load(weight, tap, c) * load(image, y, x * channels + c)
        store(out, row, j * channels + c, total)
    for c in range(tail, channels):
        number = bias[0, c]
        for y in range(top, bottom):
            for x in range(left, right):
                tap = (y - i + half) * kernel + x - j + half
                number += weight[tap, c] * widen(image[y, x * channels + c])
        out[row, j * channels + c] = narrow(number, out[row, j * channels + c])


@cache
def _loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def convolve_rows(data: Any) -> None:
        a = arguments(data, 9)
        batch, height, width, channels, kernel = a[0], a[1], a[2], a[3], a[4]
        images = carray(pointer(a[5]), (batch, height, width * channels), numbers)
        weight = carray(pointer(a[6]), (kernel * kernel, channels), np.float32)
        bias = carray(pointer(a[7]), (1, channels), np.float32)
        out = carray(pointer(a[8]), (batch * height, width * channels), numbers)
        part = next_part(data)
        while part < parts(data):
            image = images[part // height]
            for j in range(width):
                _pixel(image, part % height, j, weight, kernel, bias, out, part, channels)
            finish_part(data)
            part = next_part(data)

    return convolve_rows

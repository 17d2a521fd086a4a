"""Gradient of SDA's shift, InstanceNorm and GELU on a CPU (:mod:`.attention`): two passes over the image."""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from numpy.typing import NDArray

from nnunet_fganet.compiled.attention import PARTS, check_shift, shift_row
from nnunet_fganet.compiled.decorators import inlined, loop
from nnunet_fganet.compiled.elementary import gelu_slope
from nnunet_fganet.compiled.half import NUMBERS, check_numbers, widen
from nnunet_fganet.compiled.lanes import LANES, load, store
from nnunet_fganet.compiled.threads import arguments, check_array, finish_part, next_part, parts, pointer, run_parts

Array = NDArray[Any]


def shift_norm_gelu_gradient(
    gradient: torch.Tensor, rows: torch.Tensor, steps: torch.Tensor, moments: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Gradient of :func:`.attention.shift_norm_gelu` for ``rows``.

    Parameters
    ----------
    gradient
        Of what it returned, ``(batch, height, width, channels)``, contiguous, float32 or bfloat16.
    rows, steps
        As given there, float32.
    moments
        Of :func:`.attention.shift_moments`.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    check_shift(rows, steps, *moments)
    check_numbers("gradient", gradient, *rows.shape)
    check_array("rows", rows, torch.float32, *rows.shape)
    batch, height, width, channels = rows.shape
    portions = min(PARTS, height)
    sums = rows.new_zeros(batch, portions, 2, channels)
    given = (*rows.shape, len(steps), portions)
    addresses = (each.data_ptr() for each in (gradient, rows, steps, *moments, sums))
    run_parts(_sums_loop(gradient.dtype), batch * portions, *given, *addresses)
    means = (sums.double().sum(1) / (height * width)).float()
    out, backward = torch.empty_like(rows), -steps
    addresses = (each.data_ptr() for each in (gradient, rows, backward, *moments, means, out))
    run_parts(_gradient_loop(gradient.dtype), batch * height, *given[:5], *addresses)
    return out


@inlined
def _add_pixel(line: Array, given: Array, row: int, x: int, mean: Array, scale: Array, sums: Array) -> None:
    """Add a pixel's gradients before GELU, and their products with what was normalised, to the sums of its channels.

    ``line`` ``(1, width * channels)`` of a shifted image; ``given`` ``(height, width * channels)``; ``sums``
    ``(2, channels)``.
    """
    channels = mean.shape[1]
    tail = channels - channels % LANES
    for c in range(0, tail, LANES):
        normalized = (load(line, 0, x + c) - load(mean, 0, c)) * load(scale, 0, c)
        through = load(given, row, x + c) * gelu_slope(normalized)
        store(sums, 0, c, load(sums, 0, c) + through)
        store(sums, 1, c, load(sums, 1, c) + through * normalized)
    for c in range(tail, channels):
        number = (line[0, x + c] - mean[0, c]) * scale[0, c]
        passed = widen(given[row, x + c]) * gelu_slope(number)
        sums[0, c] += passed
        sums[1, c] += passed * number


@inlined
def _write_pixel(
    rows: Array, row: int, x: int, line: Array, mean: Array, scale: Array, means: Array, out: Array, to: int
) -> None:
    """Write the gradients of the channels of a pixel into row ``to`` of ``out``.

    ``line`` ``(1, width * channels)``: the gradient of what this row of ``rows`` became.
    """
    channels = mean.shape[1]
    tail = channels - channels % LANES
    for c in range(0, tail, LANES):
        normalized = (load(rows, row, x + c) - load(mean, 0, c)) * load(scale, 0, c)
        through = load(line, 0, x + c) * gelu_slope(normalized)
        store(out, to, x + c, load(scale, 0, c) * (through - load(means, 0, c) - normalized * load(means, 1, c)))
    for c in range(tail, channels):
        number = (rows[row, x + c] - mean[0, c]) * scale[0, c]
        passed = widen(line[0, x + c]) * gelu_slope(number)
        out[to, x + c] = scale[0, c] * (passed - means[0, c] - number * means[1, c])


@cache
def _sums_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over portions of the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def add_sums(data: Any) -> None:
        a = arguments(data, 12)
        batch, height, width, channels, groups, portions = a[0], a[1], a[2], a[3], a[4], a[5]
        shape = batch, height, width * channels
        gradient, images = carray(pointer(a[6]), shape, numbers), carray(pointer(a[7]), shape, np.float32)
        steps = carray(pointer(a[8]), (groups, 2), np.int64)
        mean = carray(pointer(a[9]), (batch, 1, channels), np.float32)
        scale = carray(pointer(a[10]), (batch, 1, channels), np.float32)
        sums = carray(pointer(a[11]), (batch * portions, 2, channels), np.float32)
        line = np.empty((1, width * channels), np.float32)
        part = next_part(data)
        while part < parts(data):
            image, portion = part // portions, part % portions
            given, means, scales, totals = gradient[image], mean[image], scale[image], sums[part]
            for row in range(portion * height // portions, (portion + 1) * height // portions):
                shift_row(images[image], row, steps, channels, line)
                for j in range(width):
                    _add_pixel(line, given, row, j * channels, means, scales, totals)
            finish_part(data)
            part = next_part(data)

    return add_sums


@cache
def _gradient_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over the rows of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def shift_gradients(data: Any) -> None:
        a = arguments(data, 12)
        batch, height, width, channels, groups = a[0], a[1], a[2], a[3], a[4]
        shape = batch, height, width * channels
        gradient, images = carray(pointer(a[5]), shape, numbers), carray(pointer(a[6]), shape, np.float32)
        backward = carray(pointer(a[7]), (groups, 2), np.int64)
        mean = carray(pointer(a[8]), (batch, 1, channels), np.float32)
        scale = carray(pointer(a[9]), (batch, 1, channels), np.float32)
        means = carray(pointer(a[10]), (batch, 2, channels), np.float32)
        out = carray(pointer(a[11]), (batch * height, width * channels), np.float32)
        size = channels // groups
        line = np.empty((1, width * channels), numbers)
        part = next_part(data)
        while part < parts(data):
            image, row = part // height, part % height
            shift_row(gradient[image], row, backward, channels, line)
            rows, mean_of, scale_of, means_of = images[image], mean[image], scale[image], means[image]
            for j in range(width):
                _write_pixel(rows, row, j * channels, line, mean_of, scale_of, means_of, out, part)
            for group in range(groups):  # what moved out of the image has no gradient
                down, across = backward[group, 0], backward[group, 1]
                inside = 0 <= row + down < height
                for j in range(width):
                    if not (inside and 0 <= j + across < width):
                        out[part, j * channels + group * size : j * channels + (group + 1) * size] = 0
            finish_part(data)
            part = next_part(data)

    return shift_gradients

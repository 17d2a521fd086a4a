"""Gradients of BatchNorm, dropout and LeakyReLU in two passes over the images; see :mod:`.batch_norm`.

They can be written in bfloat16, for the convolution that the images came from.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray

from nnunet_fganet.compiled.batch_norm import Activation, Array, Portions, add_columns, check_rows, fill_table
from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.dropout import draw
from nnunet_fganet.compiled.half import NUMBERS, narrow, widen
from nnunet_fganet.compiled.lanes import LANES, kept, leaky_slope, load, store
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

_F = np.float32


def normalize_gradients(
    gradient: torch.Tensor,
    rows: torch.Tensor,
    moments: torch.Tensor,
    affine: torch.Tensor,
    eps: float,
    activation: Activation,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of :func:`.batch_norm.normalize` by moments that are those of the rows.

    Parameters
    ----------
    gradient
        Of what came out, ``(pixels, channels)``, contiguous, float32 or bfloat16.
    rows, moments, affine, eps, activation
        As there.
    dtype
        Of the first gradient: float32 or bfloat16.

    Returns
    -------
    tuple of torch.Tensor
        Gradients of the rows, and of weight and bias ``(2, channels)``, float32.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    check_rows(rows, moments, affine)
    check_array("gradient", gradient, gradient.dtype, *rows.shape)
    portions = Portions.of(rows)
    given = *portions.sizes, *activation.draws, gradient.data_ptr(), rows.data_ptr()
    tables, factors = (moments.data_ptr(), affine.data_ptr()), (*activation.factors, eps)
    sums = rows.new_empty(portions.count, 2, portions.channels)
    run_parts(_sums_loop(gradient.dtype), portions.count, *given, *tables, sums.data_ptr(), *factors)
    # All sums over a channel of the gradients that come through, and of these times the rows less their mean.
    totals = sums.sum(0, dtype=torch.float64)
    out = torch.empty_like(rows, dtype=dtype)
    addresses = totals.data_ptr(), out.data_ptr()
    run_parts(_gradient_loop(gradient.dtype, dtype), portions.count, *given, *tables, *addresses, *factors)
    totals[1] *= (moments[1] + eps).rsqrt()
    return out, (totals * activation.scale).float().flip(0)


@compiled
def _through(
    gradients: Array, images: Array, x: int, table: Array, c: int, level: Any, dropped: Any, slope: Any
) -> Any:
    """Gradient of one number that comes through LeakyReLU and dropout."""
    number = widen(gradients[0, x])
    number = number if images[0, x] * table[0, c] + table[1, c] > 0 else number * slope
    return number if level >= dropped else _F(0)


@compiled
def _add_gradients(
    gradients: Array,
    images: Array,
    first: int,
    last: int,
    table: Array,
    levels: Array,
    dropped: Any,
    slope: Any,
    columns: Array,
) -> None:
    """Sums in each column of the gradients that come through, and of these times the images less their mean."""
    period = table.shape[1]
    columns[:] = 0
    for start in range(first, last, period):
        stop = min(period, last - start)
        tail = stop - stop % LANES
        for c in range(0, tail, LANES):
            image = load(images, 0, start + c)
            value = load(gradients, 0, start + c) * leaky_slope(image * load(table, 0, c) + load(table, 1, c), slope)
            if dropped > 0:
                value = kept(value, levels, start - first + c, dropped)
            store(columns, 0, c, load(columns, 0, c) + value)
            store(columns, 1, c, load(columns, 1, c) + value * (image - load(table, 2, c)))
        for c in range(tail, stop):
            number = _through(gradients, images, start + c, table, c, levels[0, start - first + c], dropped, slope)
            columns[0, c] += number
            columns[1, c] += number * (images[0, start + c] - table[2, c])


@cache
def _sums_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over portions of all images, for gradients of ``dtype``."""
    given = NUMBERS[dtype]

    @loop(str(dtype))
    def gradient_sums(data: Any) -> None:
        a, factors = arguments(data, 14), float_arguments(data, 14)[11:]
        size, channels, period, numbers, seed, dropped = a[0], a[1], a[2], a[3], np.uint64(a[4]), np.uint16(a[5])
        gradients, images = carray(pointer(a[6]), (1, size), given), carray(pointer(a[7]), (1, size), _F)
        moments, affine = carray(pointer(a[8]), (2, channels), np.float64), carray(pointer(a[9]), (2, channels), _F)
        sums, columns = carray(pointer(a[10]), (parts(data), 2, channels), _F), np.empty((2, period), _F)
        table, slope = np.empty((3, period), _F), _F(factors[1])
        fill_table(moments, affine, factors[0], factors[2], table)
        words = np.zeros((1, numbers // 4), np.uint64)
        levels = words.view(np.uint16)
        part = next_part(data)
        while part < parts(data):
            first = part * numbers
            if dropped > 0:
                draw(seed, first // 4, words[0])
            last = min(first + numbers, size)
            _add_gradients(gradients, images, first, last, table, levels, dropped, slope, columns)
            add_columns(columns, sums[part])
            finish_part(data)
            part = next_part(data)

    return gradient_sums


@compiled
def _fill_factors(totals: Array, moments: Array, eps: Any, pixels: int, table: Array) -> None:
    """Rows 3 and 4: what rows less their mean are multiplied by, and what is added, because the moments depend on them.

    ``totals`` are the sums of :func:`_add_gradients` over each channel, of gradients as row 0 is multiplied by.
    """
    channels = moments.shape[1]
    for c in range(table.shape[1]):
        channel = c % channels
        table[3, c] = -table[0, c] * totals[1, channel] / ((moments[1, channel] + eps) * pixels)
        table[4, c] = -table[0, c] * totals[0, channel] / pixels


@compiled
def _write_gradients(
    gradients: Array,
    images: Array,
    first: int,
    last: int,
    table: Array,
    levels: Array,
    dropped: Any,
    slope: Any,
    out: Array,
) -> None:
    period = table.shape[1]
    for start in range(first, last, period):
        stop = min(period, last - start)
        tail = stop - stop % LANES
        for c in range(0, tail, LANES):
            image, scale = load(images, 0, start + c), load(table, 0, c)
            value = load(gradients, 0, start + c) * leaky_slope(image * scale + load(table, 1, c), slope)
            if dropped > 0:
                value = kept(value, levels, start - first + c, dropped)
            of_moments = (image - load(table, 2, c)) * load(table, 3, c) + load(table, 4, c)
            store(out, 0, start + c, value * scale + of_moments)
        for c in range(tail, stop):
            number = _through(gradients, images, start + c, table, c, levels[0, start - first + c], dropped, slope)
            of_moments = (images[0, start + c] - table[2, c]) * table[3, c] + table[4, c]
            out[0, start + c] = narrow(number * table[0, c] + of_moments, out[0, start + c])


@cache
def _gradient_loop(dtype: torch.dtype, written_dtype: torch.dtype) -> Any:
    """Compile the loop over portions of all images, for gradients of ``dtype``."""
    given, written = NUMBERS[dtype], NUMBERS[written_dtype]

    @loop(f"{dtype}_{written_dtype}")
    def gradients_of_portions(data: Any) -> None:
        a, factors = arguments(data, 15), float_arguments(data, 15)[12:]
        size, channels, period, numbers, seed, dropped = a[0], a[1], a[2], a[3], np.uint64(a[4]), np.uint16(a[5])
        gradients, images = carray(pointer(a[6]), (1, size), given), carray(pointer(a[7]), (1, size), _F)
        moments, affine = carray(pointer(a[8]), (2, channels), np.float64), carray(pointer(a[9]), (2, channels), _F)
        totals, out = carray(pointer(a[10]), (2, channels), np.float64), carray(pointer(a[11]), (1, size), written)
        table, slope = np.empty((5, period), _F), _F(factors[1])
        fill_table(moments, affine, factors[0], factors[2], table)
        _fill_factors(totals, moments, factors[2], size // channels, table)
        words = np.zeros((1, numbers // 4), np.uint64)
        levels = words.view(np.uint16)
        part = next_part(data)
        while part < parts(data):
            first = part * numbers
            if dropped > 0:
                draw(seed, first // 4, words[0])
            last = min(first + numbers, size)
            _write_gradients(gradients, images, first, last, table, levels, dropped, slope, out)
            finish_part(data)
            part = next_part(data)

    return gradients_of_portions

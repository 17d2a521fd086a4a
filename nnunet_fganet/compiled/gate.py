"""SDA's gate on a CPU, and its gradients: each reads its images twice, and writes once what comes of them."""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray

from nnunet_fganet.compiled.attention import middle_one, statistics
from nnunet_fganet.compiled.decorators import compiled, loop
from nnunet_fganet.compiled.elementary import sigmoid
from nnunet_fganet.compiled.first_lanes import load_first, store_first
from nnunet_fganet.compiled.half import NUMBERS, check_numbers, widen
from nnunet_fganet.compiled.lanes import LANES, lane_sum, load, store, zeros
from nnunet_fganet.compiled.rounding import round_row, rounded_address
from nnunet_fganet.compiled.threads import arguments, check_array, finish_part, next_part, parts, pointer, run_parts

_NUMBERS = 2**14  # of a part of an image, which is taken as one row of numbers


def gate(
    rows: torch.Tensor,
    attention: torch.Tensor,
    moments: torch.Tensor | None = None,
    rounded: torch.Tensor | None = None,
) -> torch.Tensor:
    """``rows`` times the sigmoid of the LayerNorm, over each whole image, of ``attention``.

    Parameters
    ----------
    rows
        ``(batch, height, width, channels)``, contiguous, float32, bfloat16 or float16.
    attention
        Of the same shape, contiguous, float32, bfloat16 or float16.
    moments
        Of :func:`image_moments` of ``attention``, if they are known.
    rounded
        Of the same shape, bfloat16: a copy, written beside.

    Returns
    -------
    torch.Tensor
        Like ``rows``.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    check_numbers("rows", rows, *rows.shape)
    check_numbers("attention", attention, *rows.shape)
    moments = image_moments(attention) if moments is None else moments
    check_array("moments", moments, torch.float32, len(rows), 2)
    batch, size = len(rows), rows.shape[1:].numel()
    portions = -(-size // _NUMBERS)
    out = torch.empty_like(rows)
    given = (*(each.data_ptr() for each in (rows, attention, moments, out)), rounded_address(rounded, *rows.shape))
    run_parts(_gate_loop(rows.dtype, attention.dtype), batch * portions, batch, size, portions, *given)
    return out


def image_moments(rows: torch.Tensor) -> torch.Tensor:
    """Mean, and one over the standard deviation, of each image ``(batch, height, width, channels)``.

    ``(batch, 2)`` float32; see :func:`gate`.
    """
    check_numbers("rows", rows, *rows.shape)
    batch, size = len(rows), rows.shape[1:].numel()
    portions = -(-size // _NUMBERS)
    sums = rows.new_empty(batch, portions, 4, 1, dtype=torch.float32)
    addresses = rows.data_ptr(), sums.data_ptr()
    run_parts(_moments_loop(rows.dtype), batch * portions, batch, size, portions, *addresses)
    return torch.cat(statistics(sums, size), dim=1)


def gate_gradients(
    gradient: torch.Tensor, rows: torch.Tensor, attention: torch.Tensor, moments: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of :func:`gate` for ``rows`` and ``attention``.

    Parameters
    ----------
    gradient
        Of what it returned, ``(batch, height, width, channels)``, contiguous, float32 or bfloat16.
    rows
        As given there, like ``gradient``.
    attention
        As given there, float32.
    moments
        Of :func:`image_moments`.

    Raises
    ------
    ValueError
        What is given is of another kind or shape.
    """
    check_numbers("gradient", gradient, *rows.shape)
    check_array("rows", rows, gradient.dtype, *rows.shape)
    check_array("attention", attention, torch.float32, *rows.shape)
    check_array("moments", moments, torch.float32, len(rows), 2)
    batch, size = len(rows), rows.shape[1:].numel()
    portions = -(-size // _NUMBERS)
    sums = attention.new_empty(batch, portions, 2)
    given = batch, size, portions, *(each.data_ptr() for each in (gradient, rows, attention, moments))
    run_parts(_sums_loop(rows.dtype), batch * portions, *given, sums.data_ptr())
    means = (sums.double().sum(1) / size).float()
    of_rows, of_attention = torch.empty_like(rows), torch.empty_like(attention)
    addresses = (each.data_ptr() for each in (means, of_rows, of_attention))
    run_parts(_gradients_loop(rows.dtype), batch * portions, *given, *addresses)
    return of_rows, of_attention


@cache
def _moments_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over portions of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def moments(data: Any) -> None:
        a = arguments(data, 5)
        batch, size, portions = a[0], a[1], a[2]
        images = carray(pointer(a[3]), (batch, size), numbers)
        sums = carray(pointer(a[4]), (batch * portions, 4), np.float32)
        lanes = np.empty((2, LANES), np.float32)
        part = next_part(data)
        while part < parts(data):
            image, first = part // portions, part % portions * _NUMBERS
            last = min(first + _NUMBERS, size)
            tail = last - (last - first) % LANES
            ends = widen(images[image, first]), widen(images[image, last - 1])
            pivot = middle_one(ends[0], widen(images[image, (first + last) // 2]), ends[1])
            total = squares = zeros()
            for x in range(first, tail, LANES):
                value = load(images, image, x) - pivot
                total = total + value
                squares = squares + value * value
            store(lanes, 0, 0, total)
            store(lanes, 1, 0, squares)
            for x in range(tail, last):
                value = widen(images[image, x]) - pivot
                lanes[0, x - tail] += value
                lanes[1, x - tail] += value * value
            sums[part, 0], sums[part, 1] = last - first, pivot
            sums[part, 2], sums[part, 3] = lanes[0].sum(), lanes[1].sum()
            finish_part(data)
            part = next_part(data)

    return moments


@cache
def _gate_loop(dtype: torch.dtype, attention_dtype: torch.dtype) -> Any:
    """Compile the loop over portions of all images."""
    numbers, attention_numbers = NUMBERS[dtype], NUMBERS[attention_dtype]

    @loop(f"{dtype}_{attention_dtype}")
    def gates(data: Any) -> None:
        a = arguments(data, 8)
        batch, size, portions = a[0], a[1], a[2]
        images = carray(pointer(a[3]), (batch, size), numbers)
        attention = carray(pointer(a[4]), (batch, size), attention_numbers)
        moments = carray(pointer(a[5]), (batch, 2), np.float32)
        out = carray(pointer(a[6]), (batch, size), numbers)
        rounded = carray(pointer(a[7]), (batch if a[7] else 0, size), np.uint16)
        part = next_part(data)
        while part < parts(data):
            image, first = part // portions, part % portions * _NUMBERS
            last = min(first + _NUMBERS, size)
            tail = last - (last - first) % LANES
            mean, scale = moments[image, 0], moments[image, 1]
            for x in range(first, tail, LANES):
                opened = sigmoid((load(attention, image, x) - mean) * scale)
                store(out, image, x, load(images, image, x) * opened)
            if tail < last:
                count = last - tail
                opened = sigmoid((load_first(attention, image, tail, count) - mean) * scale)
                store_first(out, image, tail, load_first(images, image, tail, count) * opened, count)
            if len(rounded):
                round_row(out, image, first, last, rounded)
            finish_part(data)
            part = next_part(data)

    return gates


@compiled
def _through(gradient: Any, row: Any, opened: Any) -> Any:
    """Gradient of sixteen numbers that the sigmoid was taken of."""
    return gradient * row * opened * (np.float32(1) - opened)


@cache
def _sums_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over portions of all images: sums of gradients, and of these times what was normalised."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def gradient_sums(data: Any) -> None:
        a = arguments(data, 8)
        batch, size, portions = a[0], a[1], a[2]
        gradient = carray(pointer(a[3]), (batch, size), numbers)
        rows = carray(pointer(a[4]), (batch, size), numbers)
        attention = carray(pointer(a[5]), (batch, size), np.float32)
        moments = carray(pointer(a[6]), (batch, 2), np.float32)
        sums = carray(pointer(a[7]), (batch * portions, 2), np.float32)
        part = next_part(data)
        while part < parts(data):
            image, first = part // portions, part % portions * _NUMBERS
            last = min(first + _NUMBERS, size)
            tail = last - (last - first) % LANES
            mean, scale = moments[image, 0], moments[image, 1]
            total = products = zeros()
            for x in range(first, tail, LANES):
                normalized = (load(attention, image, x) - mean) * scale
                through = _through(load(gradient, image, x), load(rows, image, x), sigmoid(normalized))
                total = total + through
                products = products + through * normalized
            if tail < last:
                count = last - tail
                normalized = (load_first(attention, image, tail, count) - mean) * scale
                given, row = load_first(gradient, image, tail, count), load_first(rows, image, tail, count)
                through = _through(given, row, sigmoid(normalized))  # zeros behind the last number
                total = total + through
                products = products + through * normalized
            sums[part, 0], sums[part, 1] = lane_sum(total), lane_sum(products)
            finish_part(data)
            part = next_part(data)

    return gradient_sums


@cache
def _gradients_loop(dtype: torch.dtype) -> Any:
    """Compile the loop over portions of all images."""
    numbers = NUMBERS[dtype]

    @loop(str(dtype))
    def gradients(data: Any) -> None:
        a = arguments(data, 10)
        batch, size, portions = a[0], a[1], a[2]
        gradient = carray(pointer(a[3]), (batch, size), numbers)
        rows = carray(pointer(a[4]), (batch, size), numbers)
        attention = carray(pointer(a[5]), (batch, size), np.float32)
        moments = carray(pointer(a[6]), (batch, 2), np.float32)
        means = carray(pointer(a[7]), (batch, 2), np.float32)
        of_rows = carray(pointer(a[8]), (batch, size), numbers)
        of_attention = carray(pointer(a[9]), (batch, size), np.float32)
        part = next_part(data)
        while part < parts(data):
            image, first = part // portions, part % portions * _NUMBERS
            last = min(first + _NUMBERS, size)
            tail = last - (last - first) % LANES
            mean, scale, of_mean, of_scale = moments[image, 0], moments[image, 1], means[image, 0], means[image, 1]
            for x in range(first, tail, LANES):
                given, normalized = load(gradient, image, x), (load(attention, image, x) - mean) * scale
                opened = sigmoid(normalized)
                through = _through(given, load(rows, image, x), opened)
                store(of_rows, image, x, given * opened)
                store(of_attention, image, x, (through - of_mean - normalized * of_scale) * scale)
            if tail < last:
                count = last - tail
                given = load_first(gradient, image, tail, count)
                normalized = (load_first(attention, image, tail, count) - mean) * scale
                opened = sigmoid(normalized)
                through = _through(given, load_first(rows, image, tail, count), opened)
                store_first(of_rows, image, tail, given * opened, count)
                of_normalized = through - of_mean - normalized * of_scale
                store_first(of_attention, image, tail, of_normalized * scale, count)
            finish_part(data)
            part = next_part(data)

    return gradients
